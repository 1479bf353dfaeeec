"""TREC's runs and judgements, written and read."""

from pathlib import Path

import pytest

import gossamer as gs
from gossamer_nlp import trec

RUN = {"q1": {"b": 1.5, "a": 2.0, "c": 1.5}, "q2": {"a": -0.25}}
JUDGED = {"q1": {"a": 2.0, "b": 0.0}, "q2": {"c": 1.0}}


def test_a_run_and_judgements_come_back(tmp_path: Path):
    trec.write_run(tmp_path / "run", RUN)
    assert (tmp_path / "run").read_text().splitlines()[:3] == [
        "q1 Q0 a 1 2 gossamer", "q1 Q0 b 2 1.5 gossamer", "q1 Q0 c 3 1.5 gossamer",
    ]  # fmt: skip
    assert trec.read_run(tmp_path / "run") == RUN
    trec.write_judgements(tmp_path / "judged", JUDGED)
    assert trec.read_judgements(tmp_path / "judged") == JUDGED


def test_trec_eval_reads_them(tmp_path: Path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    trec.write_run(tmp_path / "run", RUN)
    trec.write_judgements(tmp_path / "judged", JUDGED)
    with open(tmp_path / "run") as run, open(tmp_path / "judged") as judged:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(judged), {"recip_rank"})
        assert evaluator.evaluate(pytrec_eval.parse_run(run))["q1"]["recip_rank"] == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [("q1 Q0 d2 2 nan x", "not finite"), ("q1 Q0 d1 2 1 x", "twice"), ("q1 Q0 d2", "3 parts"), ("q Q0 d 1 x y", "'x'")],
)
def test_a_malformed_line_names_itself(tmp_path: Path, line: str, told: str):
    (tmp_path / "run").write_text(f"\ufeffq1 Q0 d1 1 2.5 x\r\n\n{line}\n")
    with pytest.raises(gs.InputError, match=f"line 3: .*{told}"):
        trec.read_run(tmp_path / "run")


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path):
    with pytest.raises(gs.InputError, match="holds a space"):
        trec.write_run(tmp_path / "run", {"q 1": {"a": 1.0}})
    with pytest.raises(gs.InputError, match="whole numbers"):
        trec.write_judgements(tmp_path / "judged", {"q": {"a": 0.5}})
    with pytest.raises(gs.InputError, match="cannot be read"):
        trec.read_run(tmp_path / "none")
