import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import gossamer as gs
from gossamer import results


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
    made = result(extra={"curve": [1, 2]}, caveat="a small coin")
    path = made.save(tmp_path)
    assert path.parent == tmp_path / "toy" and path.name.startswith("dense-seed1-")
    assert gs.Result.load(path) == made
    assert made.save(tmp_path, "named") == tmp_path / "toy" / "named.json"
    assert results.read(tmp_path) == [made, made]
    assert results.read(tmp_path, "other") == []


def test_numbers_share_a_line_and_words_are_left_as_they_are(tmp_path):
    made = result(
        extra={"wrong": [3, 1, 4], "curve": [0.5, -1e-7], "said": "[\n 1,\n 2]", "names": ["a", "b"], "none": []}
    )
    path = made.save(tmp_path)
    text = path.read_text()
    assert '"wrong": [ 3, 1, 4 ]' in text and '"curve": [ 0.5, -1e-07 ]' in text
    assert gs.Result.load(path) == made


def test_the_keys_are_the_ones_of_the_design(tmp_path):
    keys = set(json.loads(result().save(tmp_path).read_text()))
    assert keys == {
        *("domain", "method", "data", "pattern", "sparsity_asked", "sparsity", "seed", "metric", "value", "floor"),
        *("higher_is_better", "reference", "caveat", "parameters", "nonzeros", "bytes", "latency_ms"),
        *("train_seconds", "seconds", "versions", "commit", "config", "command", "extra"),
    }


def test_what_an_older_version_wrote_is_a_result(tmp_path):
    path = result().save(tmp_path)
    fields = json.loads(path.read_text())
    del fields["reference"], fields["caveat"]
    path.write_text(json.dumps(fields | {"dense_value": None, "dense_latency_ms": 3.0}))
    assert gs.Result.load(path) == result()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[" * 100_000, "[]", '{"domain": "toy"}', "null", "nan"),
        *('"value": "0.9"', '"config": []', '"seed": 1.5', '"odd": 1', '"sparsity": 1.2', '"nonzeros": -1'),
        *('"latency_ms": NaN', '"latency_ms": "fast"', '"higher_is_better": 1', '"metric": null', '"value": 1e999'),
        *(f'"bytes": {10**400}', '"config": {"sparsity": NaN}', '"caveat": "\\ud800"', '"method": ""'),
    ],
)
def test_a_damaged_file_names_itself_and_the_remedy(tmp_path, content):
    whole = result().save(tmp_path)
    path = whole.with_name("x.json")
    if content == "nan":
        path.write_text(whole.read_text().replace('"value": 0.9', '"value": NaN'))
    elif content.startswith('"'):
        path.write_text(json.dumps(json.loads(whole.read_text()) | json.loads("{" + content + "}")))
    else:
        path.write_text(content)
    with pytest.raises(gs.InputError, match=r"x\.json is not a result file.*Delete it"):
        results.read(tmp_path)
    damaged: list[str] = []
    assert results.read(tmp_path, "toy", damaged) == [result()]
    assert len(damaged) == 1 and "x.json" in damaged[0]


def test_what_a_file_of_another_version_lacks_or_has_is_named(tmp_path):
    path = result().save(tmp_path)
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"watts": 3}))
    with pytest.raises(gs.InputError, match="this version does not know its watts"):
        gs.Result.load(path)
    path.write_text(json.dumps({name: value for name, value in fields.items() if name != "floor"}))
    with pytest.raises(gs.InputError, match="it has no floor"):
        gs.Result.load(path)


def test_a_file_in_another_domains_folder_is_left_out(tmp_path):
    path = result().save(tmp_path)
    (tmp_path / "other").mkdir()
    path.rename(tmp_path / "other" / path.name)
    damaged: list[str] = []
    assert results.read(tmp_path, damaged=damaged) == [] and "of the domain 'toy'" in damaged[0]


@dataclass(frozen=True)
class Config:
    places: ClassVar[tuple[str, ...]] = ("folder", "threads")
    method: str = "dense"
    seed: int = 1
    sizes: tuple[int, ...] = (1, 2)
    given: Path | None = None
    folder: Path = Path("data")
    threads: int | None = None


def test_a_configuration_becomes_plain_json_without_places():
    config = Config(given=Path("/home/somebody/flowers"), folder=Path("/elsewhere"))
    assert results.plain(config) == {"method": "dense", "seed": 1, "sizes": [1, 2], "given": "flowers"}


def test_a_stored_configuration_is_known_by_its_content():
    config = Config(folder=Path("here"), threads=3)
    for saved in (results.plain(config), {"method": "dense", "seed": 1}, {"folder": "there", "sizes": [1, 2]}):
        assert results.differing(saved, config) == {}
    assert results.differing({"seed": 2, "sizes": [1]}, config) == {"seed": (2, 1), "sizes": ([1], [1, 2])}


def test_a_file_is_named_by_what_is_not_as_by_default():
    @dataclass(frozen=True)
    class Later(Config):
        added: float = 0.5

    def name(config):
        return results.file_name(results.plain(config), results.defaults(type(config)))

    assert name(Config(seed=3)) == name(Later(seed=3)) == name(Config(seed=3, folder=Path("x"), threads=2))
    assert name(Config(seed=3)).startswith("dense-seed3-")
    assert len({name(Config()), name(Config(seed=2)), name(Config(sizes=(3,))), name(Later(added=0.1))}) == 4


def test_the_score_is_one_at_the_reference_and_zero_at_the_floor():
    made = result(value=0.7)
    assert [made.score(reference) for reference in (0.7, 0.9, 0.5)] == [1, pytest.approx(0.5), None]


def test_there_is_one_notion_of_dense():
    assert result().kind == "dense"
    assert result("inception-dense", config={"method": "dense"}).kind == "dense"
    assert result("wired", config={"method": "wired"}, pattern="wiring").kind == "sparse"
    assert result("topk", pattern="codes TopK(32) of 400").kind == "sparse"
    assert result("small-dense", pattern="dense", config={"method": "small-dense"}).kind == "other"
