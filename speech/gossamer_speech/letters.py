"""Words spelt in letters: the network that reads them from codes over time, and what its probabilities say."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

CHANNELS, DEPTH, REACH = 96, 3, 9  # of the network: channels, layers over time, places that each sees
BEAM, CUT = 16, 1e-3  # hypotheses that are kept; the least probability of a letter that extends them
DIGITS = dict(enumerate("zero one two three four five six seven eight nine".split()))  # noqa: SIM905


def spelt(name: str) -> str:
    """A word as its letters: lower case, a digit by its English name, as "7" is "seven"."""
    return DIGITS[int(name)] if name in map(str, DIGITS) else name.lower().replace(" ", "_")


def symbols(names: Sequence[str]) -> str:
    """The symbols in order: one for blank, the space, and the letters of the words."""
    return "".join(["\0", " ", *sorted(set("".join(map(spelt, names))) - {" "})])


class Residual(nn.Sequential):
    """x plus the layers of x."""

    def forward(self, input: Tensor) -> Tensor:
        """The sum."""
        return input + super().forward(input)


def network(inputs: int, symbols: int) -> nn.Sequential:
    """Codes over time (n, inputs, times) to scores of symbols (n, symbols, times)."""
    layers: list[nn.Module] = [nn.Conv1d(inputs, CHANNELS, 1, bias=False), nn.BatchNorm1d(CHANNELS), nn.ReLU()]
    for _ in range(DEPTH):
        convolution = nn.Conv1d(CHANNELS, CHANNELS, REACH, padding=REACH // 2, bias=False)
        layers.append(Residual(convolution, nn.BatchNorm1d(CHANNELS), nn.ReLU()))
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Conv1d(CHANNELS, symbols, 1))


def decoded(posteriors: np.ndarray, symbols: str, beam: int = BEAM) -> str:
    """Probabilities (times, symbols) to words between single spaces, by fast-ctc-decode."""
    from fast_ctc_decode import beam_search, viterbi_search  # pyright: ignore[reportAttributeAccessIssue]

    if beam == 1:
        text, _ = viterbi_search(posteriors, symbols)
    else:
        text, _ = beam_search(posteriors, symbols, beam_size=beam, beam_cut_threshold=min(CUT, 0.5 / len(symbols)))
    return " ".join(text.split())


def known(text: str, names: Sequence[str]) -> str:
    """Each word replaced by the spelling of a name that differs least from it; what more than half differs stays."""
    from rapidfuzz.distance.Levenshtein import normalized_similarity
    from rapidfuzz.process import extractOne

    spellings = [spelt(name) for name in names]
    found = [
        (word, extractOne(word, spellings, scorer=normalized_similarity, score_cutoff=0.5)) for word in text.split()
    ]
    return " ".join(best[0] if best else word for word, best in found)
