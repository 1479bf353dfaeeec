"""NAME: what it does, in a line."""
