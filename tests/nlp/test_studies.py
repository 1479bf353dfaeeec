"""The README's table is that of the published runs."""

import json
import re
import statistics
from pathlib import Path

import pytest

NLP = Path(__file__).parents[2] / "nlp"
RESULTS = NLP / "studies" / "docstrings" / "results.jsonl"
pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="the studies are in the checkout alone")


def table(heading: str) -> list[list[str]]:
    """The cells of the README's table with that heading."""
    lines = (NLP / "README.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(heading)) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]


@pytest.mark.parametrize(
    ("heading", "file"), [("| method | MRR@10 |", "results.jsonl"), ("| a network, seed 1 |", "networks.jsonl")]
)
def test_the_table_of_docstrings_is_that_of_the_runs(heading: str, file: str):
    runs = [json.loads(line) for line in RESULTS.with_name(file).read_text().splitlines()]
    found: dict[tuple[str, str], list[dict]] = {}
    for run in runs:
        found.setdefault((run["method"], run["config"]["queries"]), []).append(run["extra"])
    assert len({(run["method"], run["config"]["queries"], run["seed"]) for run in runs}) == len(runs)
    rows = table(heading)
    seeds = [int(match[1]) if (match := re.search(r"\((\d+) seeds?\)", row[0])) else 1 for row in rows]
    rows = [[row[0].split(" (")[0], *row[1:]] for row in rows]
    assert {row[0] for row in rows} == {method for method, _ in found}
    assert len(rows) == len({row[0] for row in rows})
    for (method, *cells), count in zip(rows, seeds, strict=True):
        for cell, (queries, name) in zip(
            cells,
            [(q, n) for q in ("summary", "anonymous") for n in ("MRR@10", "nDCG@10", "recall@100")],
            strict=True,
        ):
            if cell == "–":  # not run
                assert (method, queries) not in found
                continue
            values = [extra[name] for extra in found[method, queries]]
            mean, _, deviation = cell.partition(" ± ")
            assert len(values) == count
            assert float(mean) == pytest.approx(statistics.mean(values), abs=0.00051), (method, queries, name)
            if deviation or count > 1:
                assert float(deviation) == pytest.approx(statistics.stdev(values), abs=0.00051), (method, queries, name)


def test_what_was_asked_of_the_docstrings_is_met():
    runs = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    values: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        values.setdefault((run["method"], run["config"]["queries"]), []).append(run["extra"]["MRR@10"])
    mrr = {key: statistics.mean(own) for key, own in values.items()}
    assert mrr["term-weights", "summary"] - mrr["bm25", "summary"] >= 0.02
    assert mrr["term-weights", "anonymous"] - mrr["bm25", "anonymous"] >= 0.03
    for queries in ("summary", "anonymous"):
        assert mrr["codes", queries] >= 0.92 * mrr["encoder", queries]
    assert mrr["hybrid", "summary"] >= 0.543
