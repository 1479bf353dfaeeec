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


def published() -> list[Result]:
    """The runs of the table file."""
    lines = (HOME / "results.jsonl").read_text().splitlines()
    assert lines == sorted(set(lines))
    return [Result.of(json.loads(line)) for line in lines]


def setting(run: Result) -> str:
    """Which of the page's tables a run is in."""
    if run.config.get("normalise", "utterance") == "utterance":
        return "utterance"
    if run.config.get("quantise"):
        return "compact"
    if run.config.get("trims"):
        return "others"
    one = run.config["synthetic"] == 1 and not run.config["augment"] and run.config["warps"] == 3
    if one and not run.config["levels"]:
        return "few labels"
    return "one setting" if one and run.config["classifier"] == "ridge" else "others"


def of(name: str) -> dict[str, list[Result]]:
    """The runs of a setting by method."""
    found: dict[str, list[Result]] = {}
    for result in published():
        if setting(result) == name:
            found.setdefault(result.method, []).append(result)
    return found


@pytest.fixture(scope="module")
def results() -> dict[str, list[Result]]:
    """The runs of each method with each band's mean taken, and learned in noise."""
    return of("utterance")


def mean(runs: list[Result], figure: Callable[[Result], float]) -> float:
    return statistics.mean(figure(run) for run in runs)


def rows(start: str, page: Path = HOME / "README.md") -> list[list[str]]:
    """The cells of the table whose header begins so, without its header."""
    text = page.read_text()
    table = text[text.index(start) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" *`") for cell in line.strip().strip("|").split("|")] for line in table]


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


@pytest.mark.parametrize("page", [HOME / "README.md", HOME.parents[1] / "README.md"])
def test_the_headline_is_that_of_the_runs(page):
    runs = of("one setting")
    told = rows("| codes, one setting", page)
    assert {name for name, *_ in told} == set(runs)
    for name, seeds, clean, white, babble, reverberation, one, five, ten, bits in told:
        own = runs[name]
        assert sorted(run.seed for run in own) == [int(seed) for seed in seeds.split(", ")]
        noises = [mean(own, lambda run, n=n: run.extra["in_noise"][n]) for n in ("white 10 dB", "babble 10 dB")]
        few = [mean(own, lambda run, n=n: run.extra[f"accuracy_after_{n}"]) for n in (1, 5, 10)]
        room = mean(own, lambda run: run.extra["in_noise"]["reverberation"])
        expected = [mean(own, lambda run: run.value), *noises, room, *few]
        cells = [float(cell) for cell in (clean, white, babble, reverberation, one, five, ten)]
        assert cells == pytest.approx(expected, abs=0.051), name
        assert int(bits.replace(",", "")) == pytest.approx(mean(own, lambda run: run.extra["bits_a_second"]), abs=50)


def test_noises_of_the_one_setting_are_those_of_the_runs():
    runs = of("one setting")
    for name, *cells in rows("| one setting, noise"):
        names = [f"{kind} {level} dB" for kind in ("white", "babble") for level in LEVELS]
        own = [run for run in runs[name] if set(names) <= set(run.extra["in_noise"])]
        expected = [mean(own, lambda run, noise=noise: run.extra["in_noise"][noise]) for noise in names]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.051), name


@pytest.mark.parametrize("page", [HOME / "README.md", HOME.parents[1] / "README.md"])
def test_few_labels_are_those_of_the_runs(page):
    runs = of("few labels")
    told = rows("| five labels a class", page)
    assert {name for name, *_ in told} == set(runs)
    for name, *cells in told:
        (run,) = runs[name]
        kinds = ("accuracy_after_5", "self_trained_after_5", "self_trained_synthetic_after_5")
        expected = [run.extra[kind] for kind in kinds]
        assert [float(cell) for cell in cells] == pytest.approx([*expected, run.value], abs=0.051), name


@pytest.mark.parametrize("page", [HOME / "README.md", HOME.parents[1] / "README.md"])
def test_compact_codes_are_those_of_the_runs(page):
    runs = {
        (run.method, run.config["quantise"], run.config["active"]): run for r in of("compact").values() for run in r
    }
    told = rows("| rounded codes", page)
    assert len(told) == len(runs)
    for name, levels, bits, clean, few in told:
        active = re.search(r"(\d+) of", name)
        run = runs[name.split(",")[0], int(levels), int(active[1]) if active else 16]
        assert int(bits.replace(",", "")) == pytest.approx(run.extra["bits_a_second"], abs=5)
        expected = [run.value, run.extra["accuracy_after_5"]]
        assert [float(clean), float(few)] == pytest.approx(expected, abs=0.051)


def test_other_runs_with_level_are_told_as_they_are():
    told = {name: cells for name, *cells in rows("| with `level`")}
    runs = [run for own in of("others").values() for run in own]
    assert len(told) == len(runs)
    for run in runs:
        ctc = " --classifier ctc" * (run.config["classifier"] == "ctc")
        synthetic = f" --synthetic {run.config['synthetic']}" * (run.config["synthetic"] > 0)
        cut = run.config.get("trims")
        trims = "".join([" --trims", *(f" {trim:g}" for trim in cut)]) if cut else ""
        clean, interval, white, babble = told[f"{run.method}{ctc}{synthetic}{trims}"]
        assert float(clean) == pytest.approx(run.value, abs=0.051)
        assert [float(x) for x in re.findall(r"[\d.]+", interval)] == pytest.approx(run.extra["interval"], abs=0.051)
        assert float(white) == pytest.approx(run.extra["in_noise"]["white 10 dB"], abs=0.051)
        assert float(babble) == pytest.approx(run.extra["in_noise"]["babble 10 dB"], abs=0.051)


@pytest.mark.parametrize("page", [HOME / "README.md", HOME.parents[1] / "README.md"])
def test_what_is_read_together_is_told_by_speaker(page):
    (run,) = (run for run in published() if run.method == "temporal-topk")
    (cells,) = rows("| words cut closer", page)
    parts = [run.extra[f"accuracy_of_{name}"] for name in ("temporal", "topk")]
    speakers = [run.extra["speakers"][name] for name in sorted(run.extra["speakers"])]
    assert [float(cell) for cell in cells] == pytest.approx([run.value, *parts, *speakers], abs=0.051)
