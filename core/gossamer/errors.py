"""The one exception of ours: input that a person can mend."""


class InputError(ValueError):
    """Input that cannot be used. The message names the input, its value and the remedy.

    The commands print it without a traceback and exit with status 2; any other exception is a bug of ours.
    """
