"""The README's table is that of the published runs."""

import json
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
    ("heading", "file"), [("| method, seed 1 |", "results.jsonl"), ("| a network, seed 1 |", "networks.jsonl")]
)
def test_the_table_of_docstrings_is_that_of_the_runs(heading: str, file: str):
    runs = [json.loads(line) for line in RESULTS.with_name(file).read_text().splitlines()]
    found = {(run["method"], run["config"]["queries"]): run["extra"] for run in runs}
    rows = table(heading)
    assert {row[0] for row in rows} == {method for method, _ in found}
    assert len(rows) == len({row[0] for row in rows})
    assert len(runs) == len(found) == sum(cell != "–" for _, *cells in rows for cell in cells) / 3
    for method, *cells in rows:
        for cell, (queries, name) in zip(
            cells,
            [(q, n) for q in ("summary", "anonymous") for n in ("MRR@10", "nDCG@10", "recall@100")],
            strict=True,
        ):
            if cell == "–":  # not run
                assert (method, queries) not in found
                continue
            assert float(cell) == pytest.approx(found[method, queries][name], abs=0.00051), (method, queries, name)


def test_what_was_asked_of_the_docstrings_is_met():
    runs = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    mrr = {(run["method"], run["config"]["queries"]): run["extra"]["MRR@10"] for run in runs}
    assert mrr["term-weights", "summary"] - mrr["bm25", "summary"] >= 0.02
    assert mrr["term-weights", "anonymous"] - mrr["bm25", "anonymous"] >= 0.03
    for queries in ("summary", "anonymous"):
        assert mrr["codes", queries] >= 0.92 * mrr["encoder", queries]
    assert mrr["hybrid", "summary"] >= 0.543
