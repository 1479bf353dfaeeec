"""What the study's page says, held to its table."""

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.results import Result, differing
from gossamer_speech.config import Config

HOME = Path(__file__).parents[2] / "speech" / "studies" / "fsdd"
pytestmark = pytest.mark.skipif(not HOME.is_dir(), reason="the studies are in the checkout alone")
LEVELS = (20, 15, 10, 5, 0)


def published(normalise: str) -> list[Result]:
    """The runs of the table file that were normalised so."""
    lines = (HOME / "results.jsonl").read_text().splitlines()
    assert lines == sorted(set(lines))
    return [r for r in map(Result.of, map(json.loads, lines)) if r.config.get("normalise", "utterance") == normalise]


@pytest.fixture(scope="module")
def results() -> dict[str, list[Result]]:
    """The runs of each method without each band's mean."""
    found: dict[str, list[Result]] = {}
    for result in published("utterance"):
        found.setdefault(result.method, []).append(result)
    return found


def mean(runs: list[Result], figure: Callable[[Result], float]) -> float:
    return statistics.mean(figure(run) for run in runs)


def rows(start: str) -> list[list[str]]:
    """The cells of the table whose header begins so, without its header."""
    text = (HOME / "README.md").read_text()
    table = text[text.index(start) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table]


def test_the_runs_are_of_todays_configuration_and_of_six_speakers(results):
    for method, runs in results.items():
        assert sorted(run.seed for run in runs) == ([1, 2, 3] if method in ("topk", "random-relu") else [1])
        for run in runs:
            known = {name: value for name, value in run.config.items() if name in Config.__dataclass_fields__}
            again = Config(**{**known, "levels": tuple(known["levels"])})
            assert known == run.config and not differing(known, again) and run.commit and run.versions
            assert run.command.startswith("gossamer train speech fsdd"), method
            assert len(run.extra["speakers"]) == 6 and run.extra["words"] == 3000


def test_accuracies_are_those_of_the_runs(results):
    told = rows("| codes, clean")
    assert {name for name, *_ in told} == set(results)
    for name, clean, interval, *few in told:
        runs = results[name]
        assert float(clean) == pytest.approx(mean(runs, lambda run: run.value), abs=0.051)
        ends = [mean(runs, lambda run, end=end: run.extra["interval"][end]) for end in (0, 1)]
        assert [float(x) for x in re.findall(r"[\d.]+", interval)] == pytest.approx(ends, abs=0.051)
        for n, cell in zip((1, 5, 10), few, strict=True):
            if cell == "–":
                assert f"accuracy_after_{n}" not in runs[0].extra
            else:
                expected = mean(runs, lambda run, n=n: run.extra[f"accuracy_after_{n}"])
                assert float(cell) == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize("kind", ["white", "babble"])
def test_accuracies_in_noise_are_those_of_the_runs(results, kind):
    names = [f"{kind} {level} dB" for level in LEVELS] + (["reverberation"] if kind == "babble" else [])
    told = rows(f"| {kind} noise")
    assert {name for name, *_ in told} == set(results)
    for name, *cells in told:
        expected = [mean(results[name], lambda run, noise=noise: run.extra["in_noise"][noise]) for noise in names]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.051), name


def test_dictionaries_are_those_of_the_runs(results):
    told = rows("| dictionary")
    assert {name for name, *_ in told} == {n for n, runs in results.items() if "explained_variance" in runs[0].extra}
    for name, variance, active, dead in told:
        runs = results[name]
        assert float(variance) == pytest.approx(mean(runs, lambda run: run.extra["explained_variance"]), abs=0.0006)
        assert float(active) == pytest.approx(mean(runs, lambda run: run.extra["active_codes"]), abs=0.051)
        share = mean(runs, lambda run: run.extra["dead_codes"])
        assert float(dead.rstrip("%")) == pytest.approx(100 * share, abs=0.051)


def test_runs_with_level_are_told_as_they_are():
    told = {name: cells for name, *cells in rows("| with `level`")}
    runs = published("level")
    assert len(told) == len(runs)
    for run in runs:
        bands, flags = " --bands 40" * (run.config["bands"] == 40), " --no-augment" * (not run.config["augment"])
        synthetic = f" --synthetic {run.config['synthetic']}" * (run.config["synthetic"] > 0)
        clean, interval, white, babble, *rest = told[f"`{run.method}{bands}{synthetic}{flags}`"]
        assert float(clean) == pytest.approx(run.value, abs=0.051)
        assert [float(x) for x in re.findall(r"[\d.]+", interval)] == pytest.approx(run.extra["interval"], abs=0.051)
        assert float(white) == pytest.approx(run.extra["in_noise"]["white 10 dB"], abs=0.051)
        assert float(babble) == pytest.approx(run.extra["in_noise"]["babble 10 dB"], abs=0.051)
        if run.method == "temporal":
            assert rest == ["–"] * 6 and "bits_a_second" not in run.extra
            continue
        few = [run.extra[f"accuracy_after_{n}"] for n in (1, 5, 10, 25, 100)]
        *cells, bits = rest
        assert [float(cell) for cell in cells] == pytest.approx(few, abs=0.051)
        assert int(bits.replace(",", "")) == pytest.approx(run.extra["bits_a_second"], abs=50)
