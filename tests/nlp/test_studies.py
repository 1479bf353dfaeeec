"""The README's table is that of the published runs."""

import json
from pathlib import Path

import pytest

NLP = Path(__file__).parents[2] / "nlp"
RESULTS = NLP / "studies" / "docstrings" / "results.jsonl"
pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="the studies are in the checkout alone")


def test_the_table_of_docstrings_is_that_of_the_runs():
    runs = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    found = {(run["method"], run["config"]["queries"]): run["extra"] for run in runs}
    lines = (NLP / "README.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| method, seed 1 |"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : start + 8]]
    assert len(rows) == len({row[0] for row in rows}) == len(found) / 2 == 6
    for method, *cells in rows:
        for cell, (queries, name) in zip(
            cells,
            [(q, n) for q in ("summary", "anonymous") for n in ("MRR@10", "nDCG@10", "recall@100")],
            strict=True,
        ):
            assert float(cell) == pytest.approx(found[method, queries][name], abs=0.00051), (method, queries, name)


def test_what_was_asked_of_the_docstrings_is_met():
    runs = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    mrr = {(run["method"], run["config"]["queries"]): run["extra"]["MRR@10"] for run in runs}
    assert mrr["term-weights", "summary"] - mrr["bm25", "summary"] >= 0.02
    assert mrr["term-weights", "anonymous"] - mrr["bm25", "anonymous"] >= 0.03
    for queries in ("summary", "anonymous"):
        assert mrr["codes", queries] >= 0.92 * mrr["encoder", queries]
    assert mrr["hybrid", "summary"] >= 0.543
