import csv
import dataclasses
import io
import json

import pytest

import gossamer as gs
from gossamer import compare
from gossamer.report import html


def result(method="dense", value=0.9, seed=1, **more):
    """A result of a toy domain; keywords that are no fields of a result are of its configuration."""
    names = {field.name for field in dataclasses.fields(gs.Result)}
    config = {"method": method, "seed": seed, **{name: v for name, v in more.items() if name not in names}}
    fields = dict(
        domain="toy", method=method, data="coins", pattern="dense" if method == "dense" else "unstructured",
        sparsity_asked=0.0, sparsity=0.0, seed=seed, metric="accuracy", value=value, higher_is_better=True, floor=0.5,
        parameters=100, nonzeros=100, bytes=400, train_seconds=1.0, config=config,
    )  # fmt: skip
    return gs.Result(**{**fields, **{name: v for name, v in more.items() if name in names}})


def test_rows_join_seeds_and_put_dense_first():
    found = compare.rows(
        [result("b", 0.7), result("a", 0.8), result("a", 0.6, seed=2), result(), result(value=0.7, seed=2)]
    )
    assert found[0].first.method == "dense"
    assert sorted(row.first.method for row in found[1:]) == ["a", "b"]
    assert found[0].value == pytest.approx(0.8) and found[0].spread == pytest.approx(0.1 * 2**0.5)
    sparse = next(row for row in found if row.first.method == "a")
    assert sparse.reference == pytest.approx(0.8) and sparse.value == pytest.approx(0.7)
    assert sparse.score == pytest.approx((0.3 / 0.4 + 0.1 / 0.2) / 2)  # each seed beside its own


def test_the_reference_is_what_the_result_names_with_most_in_common():
    runs = [result("dense", 0.9, width=8), result("dense", 0.7, width=2), result("sparse", 0.6, width=2)]
    assert compare.reference(runs[2], runs) is runs[1]
    searched = [result("bm25", 0.6, seed=1), result("rigl", 0.55, seed=3, reference="bm25"), result()]
    assert compare.reference(searched[1], searched) is searched[0]
    assert compare.reference(result("a", data="dice"), runs) is None
    assert compare.rows([result("a", data="dice")])[0].score is None


def test_a_metric_to_be_lowered_sorts_the_other_way():
    made = [dataclasses.replace(result(m, v), higher_is_better=False) for m, v in (("bad", 3.0), ("good", 1.0))]
    assert [row.first.method for row in compare.rows(made)] == ["good", "bad"]


def test_rows_that_look_the_same_show_what_differs():
    found = compare.rows(
        [
            result("a", 0.8, epochs=2),
            result("a", 0.7, epochs=9, model="vgg"),
            result("b", epochs=2),
            result("b", seed=2),
        ]
    )
    told = {(row.first.method, row.value): row.setting for row in found}
    assert told["a", 0.8] == "epochs 2" and told["a", 0.7] == "epochs 9"
    alone = compare.rows([result("a", epochs=2), result("c", epochs=9)])
    assert [row.setting for row in alone] == ["", ""]
    assert "setting" not in [column.heading for column in compare.columns(alone)]


def test_markdown_has_a_line_a_row_and_every_column_once():
    found = compare.rows([result(), result("sparse", 0.8, caveat="a | b")])
    lines = compare.markdown(found).splitlines()
    assert len(lines) == 4
    headings = [column.heading for column in compare.columns(found)]
    assert len(set(headings)) == len(headings)
    assert all(line.replace("\\|", "").count("|") == len(headings) + 1 for line in lines)
    assert "accuracy ↑" in lines[2] and "0.900" in lines[2] and lines[3].endswith("| a \\| b |")


def test_the_table_in_other_formats():
    found = compare.rows([result(), result("two_words", 0.8, caveat="50% of, it"), result("two_words", 0.6, seed=2)])
    read = list(csv.reader(io.StringIO(compare.csv(found))))
    assert len(read) == 3 and read[2][read[0].index("caveat")] == "50% of, it"
    told = json.loads(compare.as_json(found))
    assert told[1]["value"] == pytest.approx(0.7) and told[1]["seeds"] == {"1": 0.8, "2": 0.6}
    tex = compare.latex(found).splitlines()
    assert tex[0].startswith(r"\begin{tabular}{") and tex[-1] == r"\end{tabular}"
    assert r"two\_words" in tex[4] and r"50\% of, it \\" in tex[4] and r"$\pm$" in tex[4]
    assert len({line.count(" & ") for line in tex if " & " in line}) == 1


def test_a_column_is_one_entry(monkeypatch: pytest.MonkeyPatch):
    column = compare.Column("rolls", lambda row: f"{row.first.extra['rolls']} rolls")
    monkeypatch.setattr(compare, "COLUMNS", (*compare.COLUMNS, column))
    found = compare.rows([result(extra={"rolls": 7})])
    assert "7 rolls" in compare.markdown(found) and '"7 rolls"' in html(found)
    shown = compare.table(found)
    assert shown.columns[-1].header == "rolls" and list(shown.columns[-1].cells) == ["7 rolls"]


def test_each_seed_is_tested_beside_its_own_reference():
    from scipy.stats import ttest_rel

    before, after = (0.81, 0.82, 0.83), (0.8, 0.81, 0.8)
    found = compare.rows(
        [result(m, v, seed=s) for m, values in (("dense", before), ("a", after)) for s, v in enumerate(values)]
    )
    dense, sparse = found
    assert dense.p is None and sparse.p == pytest.approx(ttest_rel(after, before).pvalue)
    assert sparse.interval == pytest.approx([sparse.value + side * 4.3027 * sparse.spread / 3**0.5 for side in (-1, 1)])
    assert compare.rows([result("dense", 0.8), result("a", 0.7)])[1].p is None
    same = compare.rows([result(m, 0.8, seed=s) for m in ("dense", "a") for s in (1, 2)])[1]
    assert same.p == 1.0 and same.interval == (0.8, 0.8)


def test_two_files_of_the_same_run_are_one_result():
    damaged: list[str] = []
    found = compare.distinct([result(seed=1), result(seed=2), result(value=0.7, seed=1)], damaged)
    assert sorted((r.seed, r.value) for r in found) == [(1, 0.7), (2, result().value)]
    assert len(damaged) == 1 and "two results of the same run" in damaged[0] and "seed 1" in damaged[0]


def test_a_large_number_has_few_digits():
    assert compare.number(1e308, ".3f") == "1e+308" and compare.number(123456.789, ".3f") == "123456.789"
