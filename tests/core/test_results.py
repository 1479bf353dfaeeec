import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import gossamer as gs
from gossamer import compare, results


def result(method="dense", value=0.9, seed=1, **more):
    fields = dict(
        domain="toy",
        method=method,
        data="coins",
        pattern="",
        sparsity_asked=0.0,
        sparsity=0.0,
        seed=seed,
        metric="accuracy",
        value=value,
        higher_is_better=True,
        floor=0.5,
        parameters=100,
        nonzeros=100,
        bytes=400,
        train_seconds=1.0,
        config={"method": method, "seed": seed},
    )
    return gs.Result(**{**fields, **more})


def test_saved_and_loaded_are_equal(tmp_path):
    made = result(extra={"curve": [1, 2]})
    path = made.save(tmp_path)
    assert path == tmp_path / "toy" / f"{results.config_hash('toy', made.config)}.json"
    assert gs.Result.load(path) == made
    assert results.read(tmp_path) == [made]
    assert results.read(tmp_path, "other") == []


def test_numbers_share_a_line_and_words_are_left_as_they_are(tmp_path):
    made = result(
        extra={"wrong": [3, 1, 4], "curve": [0.5, -1e-7], "said": "[\n 1,\n 2]", "names": ["a", "b"], "none": []}
    )
    text = made.save(tmp_path).read_text()
    assert '"wrong": [ 3, 1, 4 ]' in text and '"curve": [ 0.5, -1e-07 ]' in text
    assert gs.Result.load(made.path(tmp_path)) == made


def test_the_keys_are_the_ones_of_the_design(tmp_path):
    keys = set(json.loads(result().save(tmp_path).read_text()))
    assert keys == {
        *("domain", "method", "data", "pattern", "sparsity_asked", "sparsity", "seed", "metric", "value", "floor"),
        *("higher_is_better", "dense_value", "parameters", "nonzeros", "bytes", "latency_ms", "dense_latency_ms"),
        *("train_seconds", "versions", "commit", "config", "command", "extra"),
    }


def test_what_cannot_be_written_is_refused_before_it_is_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file" / "below", tmp_path):
        with pytest.raises(gs.InputError, match=r"cannot be written \(.*name another file"):
            results.refuse_unwritable(path)
    results.refuse_unwritable(tmp_path / "new" / "file")
    results.refuse_unwritable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept" and not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"domain": "toy"}', "null"])
def test_a_damaged_file_names_itself_and_the_remedy(tmp_path, content):
    path = tmp_path / "toy" / "x.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(gs.InputError, match=r"x\.json is not a result file.*Delete it"):
        results.read(tmp_path)


def test_writing_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    results.write_atomically(path, b"old")
    with pytest.raises(TypeError):
        results.write_atomically(path, None)  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_depends_on_domain_and_configuration_alone():
    assert results.config_hash("a", {"x": 1, "y": 2}) == results.config_hash("a", {"y": 2, "x": 1})
    assert results.config_hash("a", {"x": 1}) != results.config_hash("b", {"x": 1})
    assert results.config_hash("a", {"x": 1}) != results.config_hash("a", {"x": 2})


@dataclass(frozen=True)
class Config:
    folder: Path = Path("data")
    sizes: tuple[int, ...] = (1, 2)


class Placed(Config):
    places = ("folder",)


def test_a_configuration_becomes_plain_json():
    assert results.plain(Config()) == {"folder": "data", "sizes": [1, 2]}
    assert results.plain(Placed()) == {"folder": None, "sizes": [1, 2]}


def test_the_score_is_one_at_dense_and_zero_at_the_floor():
    filled = results.beside_dense([result(), result("sparse", 0.8), result("chance", 0.5), result("alone", seed=2)])
    assert [r.score for r in filled] == [pytest.approx(1), pytest.approx(0.75), pytest.approx(0), None]
    assert filled[1].dense_value == 0.9


def test_the_dense_twin_is_the_one_with_most_in_common():
    def run(method, value, width):
        return result(method, value, config={"method": method, "width": width})

    filled = results.beside_dense([run("dense", 0.9, 8), run("dense", 0.7, 2), run("sparse", 0.6, 2)])
    assert [r.dense_value for r in filled] == [0.9, 0.7, 0.7]


def test_rows_join_seeds_and_put_dense_first():
    found = compare.rows(
        [result("b", 0.7), result("a", 0.8), result("a", 0.6, seed=2), result(), result(value=0.7, seed=2)]
    )
    assert found[0].first.method == "dense"
    assert sorted(row.first.method for row in found[1:]) == ["a", "b"]
    assert found[0].value == pytest.approx(0.8)
    assert found[0].spread == pytest.approx(0.1 * 2**0.5)
    sparse = next(row for row in found if row.first.method == "a")
    assert sparse.mean("dense_value") == pytest.approx(0.8)
    assert sparse.value == pytest.approx(0.7)


def test_a_metric_to_be_lowered_sorts_the_other_way():
    made = [dataclasses.replace(result(m, v), higher_is_better=False) for m, v in (("bad", 3.0), ("good", 1.0))]
    assert [row.first.method for row in compare.rows(made)] == ["good", "bad"]


def test_markdown_has_a_line_a_row():
    text = compare.markdown(compare.rows([result(), result("sparse", 0.8)]))
    lines = text.splitlines()
    assert len(lines) == 4
    assert all(line.count("|") == len(compare.HEADINGS) + 1 for line in lines)
    assert "accuracy ↑" in lines[2] and "0.900" in lines[2]
