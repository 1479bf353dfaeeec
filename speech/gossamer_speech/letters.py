"""Words spelt in letters: the network that reads them from codes over time, and what its probabilities say."""

from collections.abc import Sequence
from functools import lru_cache

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


@lru_cache
def lexicon(symbols: str, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    """The states of sentences of known words: the symbol of each, the states before each (states, 4), the last letters,
    and the words by their first letters.

    State 0 is the blank before the first word; 1 to 3 are those between two: blank, space, blank. A word is its letters
    with a blank between any two, which may be left out where they differ. Where there are fewer before, −1 is the last.
    """
    emitted, before, ends, begun = [0, 0, 1, 0], [[0], [1], [2, 1], [3, 2]], [], {}
    for word in map(spelt, names):
        begun[len(emitted)] = word
        for i, letter in enumerate(word):
            at = len(emitted)
            if i:
                emitted.append(0)
                before.append([at, at - 1])
                skipped = [at - 1] if letter != word[i - 1] else []
                before.append([at + 1, at, *skipped])
            else:
                before.append([at, 0, 2, 3])
            emitted.append(symbols.index(letter))
        ends.append(len(emitted) - 1)
    padded = [[*states, *[-1] * (4 - len(states))] for states in before]
    return np.array(emitted), np.array(padded), np.array(ends), begun


def read(posteriors: np.ndarray, symbols: str, names: Sequence[str]) -> str:
    """Probabilities (times, symbols) to the sentence of known words on the most probable path (Viterbi's algorithm)."""
    emitted, before, ends, begun = lexicon(symbols, tuple(names))
    before, every = before.copy(), np.arange(len(emitted))
    logs = np.log(posteriors + 1e-9)[:, emitted]
    score = np.full(len(emitted) + 1, -np.inf)
    first = [0, *begun]
    score[first] = logs[0, first]
    came = np.empty(logs.shape, np.int64)
    for time in range(1, len(logs)):
        end = ends[score[ends].argmax()]
        before[1, 1] = before[2, 2] = end
        came[time] = before[every, score[before].argmax(1)]
        score[:-1] = score[came[time]] + logs[time]
    last = np.array([0, 1, 2, 3, *ends])
    state, words = int(last[score[last].argmax()]), []
    for time in range(len(logs) - 1, -1, -1):
        previous = int(came[time, state]) if time else -1
        if state in begun and previous != state:
            words.append(begun[state])
        state = previous
    return " ".join(reversed(words))
