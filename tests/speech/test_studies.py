"""What the study's page says, held to its table."""

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.results import Result, differing
from gossamer_speech.config import PRESETS, Config

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
    if run.config.get("quantise"):
        return "compact"
    one = run.config["synthetic"] == 1 and not run.config["augment"] and run.config["warps"] == 3
    if one and not run.config["levels"]:
        return "few labels"
    one = one and run.config["classifier"] == "ridge" and not run.config.get("trims")
    return "one setting" if one else "others"


def flags(run: Result) -> str:
    """The run's method and what its command says beside the preset."""
    words = [run.method]
    if run.config["classifier"] != "ridge":
        words.append(f"--classifier {run.config['classifier']}")
    if run.config["augment"]:
        words.append("--augment")
    if run.config["synthetic"] != 1:
        words.append(f"--synthetic {run.config['synthetic']}")
    if run.config.get("trims"):
        words.append("--trims " + " ".join(f"{trim:g}" for trim in run.config["trims"]))
    return " ".join(words)


def of(name: str, key: Callable[[Result], str] = lambda run: run.method) -> dict[str, list[Result]]:
    """The runs of a setting by method, or another key."""
    found: dict[str, list[Result]] = {}
    for result in published():
        if setting(result) == name:
            found.setdefault(key(result), []).append(result)
    return found


def mean(runs: list[Result], figure: Callable[[Result], float]) -> float:
    return statistics.mean(figure(run) for run in runs)


def rows(start: str, page: Path = HOME / "README.md") -> list[list[str]]:
    """The cells of the table whose header begins so, without its header."""
    text = page.read_text()
    table = text[text.index(start) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" *`") for cell in line.strip().strip("|").split("|")] for line in table]


def test_the_runs_are_of_todays_configuration_and_of_six_speakers():
    for run in published():
        known = {name: value for name, value in run.config.items() if name in Config.__dataclass_fields__}
        again = Config(**{**known, **{name: tuple(known.get(name, ())) for name in ("levels", "trims")}})
        assert known == run.config and not differing(known, again) and run.commit and run.versions
        assert run.command.startswith("gossamer train speech fsdd"), run.method
        assert len(run.extra["speakers"]) == 6 and run.extra["words"] == 3000


def test_the_preset_is_the_one_setting():
    for runs in of("one setting").values():
        for run in runs:
            own = {"method": run.method, "seed": run.seed, "data_dir": None}
            assert not differing({**run.config, **own}, replace(PRESETS["fsdd"], **own)), run.method


def test_dictionaries_are_those_of_the_runs():
    runs = {n: own for n, own in of("one setting").items() if "explained_variance" in own[0].extra}
    told = rows("| dictionary")
    assert {name for name, *_ in told} == set(runs)
    for name, variance, active, dead, word, voice in told:
        own = runs[name]
        assert float(variance) == pytest.approx(mean(own, lambda run: run.extra["explained_variance"]), abs=0.0006)
        assert float(active) == pytest.approx(mean(own, lambda run: run.extra["active_codes"]), abs=0.051)
        assert float(dead.rstrip("%")) == pytest.approx(100 * mean(own, lambda run: run.extra["dead_codes"]), abs=0.051)
        for cell, kind in ((word, "word_purity"), (voice, "voice_purity")):
            assert float(cell) == pytest.approx(mean(own, lambda run, kind=kind: run.extra[kind]), abs=0.0006)


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
    runs, told = of("one setting"), rows("| one setting, noise")
    assert {name for name, *_ in told} == set(runs)
    for name, *cells in told:
        names = [f"{kind} {level} dB" for kind in ("white", "babble") for level in LEVELS]
        expected = [mean(runs[name], lambda run, noise=noise: run.extra["in_noise"][noise]) for noise in names]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.051), name


@pytest.mark.parametrize("page", [HOME / "README.md", HOME.parents[1] / "README.md"])
def test_few_labels_are_those_of_the_runs(page):
    runs = of("few labels", flags)
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


def test_other_runs_are_told_as_they_are():
    runs = of("others", flags)
    told = rows("| other runs")
    assert {name for name, *_ in told} == set(runs)
    for name, seeds, clean, interval, white, babble in told:
        own = runs[name]
        assert sorted(run.seed for run in own) == [int(seed) for seed in seeds.split(", ")]
        ends = [mean(own, lambda run, end=end: run.extra["interval"][end]) for end in (0, 1)]
        assert float(clean) == pytest.approx(mean(own, lambda run: run.value), abs=0.051)
        assert [float(x) for x in re.findall(r"[\d.]+", interval)] == pytest.approx(ends, abs=0.051)
        for cell, noise in ((white, "white 10 dB"), (babble, "babble 10 dB")):
            assert float(cell) == pytest.approx(mean(own, lambda run, n=noise: run.extra["in_noise"][n]), abs=0.051)


@pytest.mark.parametrize("page", [HOME / "README.md", HOME.parents[1] / "README.md"])
def test_what_is_read_together_is_told_by_speaker(page):
    runs = [run for run in published() if run.method == "temporal-topk"]
    told = rows("| words cut closer", page)
    assert len(told) == len(runs)
    for seed, *cells in told:
        (run,) = (run for run in runs if run.seed == int(seed))
        parts = [run.extra[f"accuracy_of_{name}"] for name in ("temporal", "topk")]
        speakers = [run.extra["speakers"][name] for name in sorted(run.extra["speakers"])]
        assert [float(cell) for cell in cells] == pytest.approx([run.value, *parts, *speakers], abs=0.051)
