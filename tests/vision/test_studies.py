"""What the study's page says, held to its table, and its models to their cards."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import pytest

from gossamer.results import Result, differing
from gossamer_vision.classifier import load
from gossamer_vision.config import PRESETS, Config
from gossamer_vision.metrics import interval
from gossamer_vision.study import published, read_results

HOME = Path(__file__).parents[2] / "vision" / "studies" / "fashion-mnist"
pytestmark = pytest.mark.skipif(not HOME.is_dir(), reason="the studies are in the checkout alone")


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return read_results(HOME / "results.jsonl")


def rows(start: str, home: Path = HOME) -> Iterator[list[str]]:
    """The cells of the table whose header begins so, without its header."""
    lines = (home / "README.md").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(start))
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def number(cell: str) -> float:
    return float(cell.rstrip("% ").replace(",", ""))


def of(results: list[Result], method: str, **fields: object) -> list[Result]:
    """The runs of the preset but for these fields, of any seed."""
    wanted = {**Config.__dict__, **vars(PRESETS["fashion-mnist"]), "method": method, **fields}
    names = ("method", "sparsity", "pattern", "distribution", "storage", "share", "width", "stem", "epochs", "shift")
    names = (*names, "harden")  # which older runs had not
    return [r for r in results if all(r.config.get(name, getattr(Config, name)) == wanted[name] for name in names)]


def test_the_table_is_sorted_and_of_today_s_configurations(results):
    assert published(results) == (HOME / "results.jsonl").read_text() and len(results) == 77
    for result in results:
        known = {name: value for name, value in result.config.items() if name in Config.__dataclass_fields__}
        assert known == result.config and not differing(known, Config(**known))
        assert result.command.startswith("gossamer train vision fashion-mnist") and result.commit and result.versions


def test_the_main_table_is_that_of_the_runs(results):
    found = 0
    for name, sparsity, test, held_out, nonzeros, size, flops, seconds in rows("| method, pattern |"):
        words = re.sub(r" \(3 seeds\)", "", name).split(", ")
        fields: dict[str, object] = {}
        for word in words[1:]:
            key, _, value = word.partition(" ")
            match key:
                case "block-4x1":
                    fields["pattern"] = key
                case "uniform":
                    fields["distribution"] = key
                case "20":
                    fields["epochs"] = 20
                case _:
                    fields[key] = float(value)
        fields |= {"shift": 2} if "epochs" in fields else {}
        if sparsity != "–":
            fields["sparsity"] = number(sparsity) / 100
        own = of(results, words[0], **fields)
        values = [100 * r.value for r in own]
        assert len(own) == (3 if "3 seeds" in name else 1), name
        mean, _, spread = test.partition(" ± ")
        assert float(mean) == pytest.approx(fmean(values), abs=0.0051), name
        assert not spread or float(spread) == pytest.approx(stdev(values), abs=0.0051), name
        assert number(held_out) == pytest.approx(100 * fmean(r.extra["held_out"] for r in own), abs=0.006), name
        pairs = ((nonzeros, "nonzeros", 1), (size, "bytes", 1), (seconds, "train_seconds", 1))
        for cell, field, scale in pairs:
            kept = [getattr(r, field) / scale for r in own]
            assert cell == "–" or min(kept) * 0.99 <= number(cell) <= max(kept) * 1.01, (name, field, cell, kept)
        work = [r.extra["flops"] / 1e6 for r in own]
        assert min(work) - 0.06 <= number(flops) <= max(work) + 0.06, (name, flops, work)
        found += 1
    assert found == 19


def test_the_folders_table_is_that_of_the_runs():
    home = HOME.parent / "folders"
    text = (home / "results.jsonl").read_text()
    runs = read_results(home / "results.jsonl")
    assert published(runs) == text
    told = {(name, *map(number, cells)) for name, *cells in rows("| folder, training |", home)}
    settings = {
        ("granet", "vgg", None, None): "folder",
        ("dense", "vgg", None, None): "dense",
        ("dense", "vgg", 16.0, None): "dense, width 16",
        ("dense", "vgg", None, 0.2): "dense, rate × 2",
        ("dense", "resnet8", None, None): "dense, resnet8",
    }

    def setting(config: dict) -> str:
        return settings[tuple(config[name] for name in ("method", "model", "width", "learning_rate"))]

    kept = [
        (
            f"{r.data}, {setting(r.config)}" + (f", seed {r.seed}" if r.seed > 1 else ""),
            pytest.approx(100 * r.value, abs=0.0051),
            pytest.approx(r.extra["cpu_seconds"], abs=0.51),
            r.nonzeros,
        )
        for r in runs
    ]
    assert len(told) == len(runs) and all(any(row == each for each in kept) for row in told)


def test_the_hardened_table_is_that_of_the_runs(results):
    for method, harden, *cells in rows("| method, 90 %, seed 1 |"):
        (run,) = (r for r in of(results, method, harden=number(harden) if harden != "–" else 0.0) if r.seed == 1)
        values = [run.value, run.extra["held_out"], *run.extra["corrupted"].values()]
        assert [number(cell) for cell in cells] == [pytest.approx(100 * value, abs=0.051) for value in values]


def test_scarce_data_are_those_of_the_runs(results):
    methods = ("dense", "gmp", "small-dense")
    for share, *cells in rows("| share |"):
        for method, cell in zip(methods, cells, strict=True):
            own = of(results, method, share=number(share) / 100, width=16.0, epochs=2)
            values = [100 * r.value for r in own]
            told = [float(part) for part in cell.split(" ± ")]
            assert len(values) == 3 and told == pytest.approx([fmean(values), interval(values)], abs=0.051), method


def test_every_method_at_three_epochs_is_that_of_the_runs(results):
    text = (HOME / "README.md").read_text()
    paragraph = " ".join(text[text.index("Every method at width 16") :].split("\n\n")[0].split())
    found = re.findall(r"([a-z-]+(?:, [a-z-]+| and [a-z-]+)?) (\d\d\.\d)", paragraph.partition("one seed:")[2])
    assert len(found) >= 12
    for names, value in found:
        for name in re.split(r", | and ", names):
            own = of(results, name, width=16.0, epochs=3)
            assert [100 * r.value for r in own] == [pytest.approx(float(value), abs=0.051)], name


@pytest.mark.parametrize("name", ["gmp-block-4x1", "gmp-30000"])
def test_models_are_those_of_their_cards(results, name):
    card = (HOME / f"{name}.md").read_text()
    assert hashlib.sha256((HOME / f"{name}.gossamer").read_bytes()).hexdigest() in card
    network = load(HOME / f"{name}.gossamer").network
    alive = sum(int((p != 0).sum()) for p in network.parameters())
    (run,) = [r for r in results if r.nonzeros == alive and r.seed == 1 and r.method == "gmp"]
    assert (
        f"{alive:,}" in card and f"{100 * run.value:.2f} %" in card and f"{100 * run.extra['held_out']:.2f} %" in card
    )
    assert all(f"{100 * share:.0f} %" in card for share in run.extra["corrupted"].values())
