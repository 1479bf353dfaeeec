import math
from dataclasses import replace

import pytest

from gossamer import InputError
from gossamer_vision import benchmark, metrics
from gossamer_vision.config import Config
from gossamer_vision.pictures import Options, draw, plots

matplotlib = pytest.importorskip("matplotlib")
TINY = Config(width=4, stem=2, epochs=1, batch=100, sparsity=0.8)


def test_pareto_front_by_hand():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (0.5, 1.0), (3.0, 6.0), (1.0, 3.0)]
    assert metrics.pareto(points) == [3, 0, 2]


def test_images_lost_first_by_hand():
    # 7 is hard for a dense network; of the sparse three, all lose 4, two lose 1, one loses 9
    found = metrics.lost_first([[7], []], [[4, 1, 7], [4, 1], [4, 9, 7]], count=2)
    assert found == [(4, 1.0), (1, pytest.approx(2 / 3))]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def results(models):
    methods = ("dense", "static-random")
    return {name: benchmark.run(replace(TINY, method=name, save=models / f"{name}.gossamer")) for name in methods}


def test_pictures_are_drawn_from_result_files_and_a_model(results, models, tmp_path):
    for result in results.values():
        result.save(tmp_path / "results")
    options = Options(tmp_path / "results", tmp_path / "pictures", model=models / "static-random.gossamer")
    written = {path.stem: path.read_text() for path in draw(options)}
    kinds = ("digits-sparsity", "digits-latency", "digits-confusion", "digits-lost-first", "static-random-masks")
    assert tuple(sorted(written)) == tuple(sorted(kinds))
    assert all("<svg" in content for content in written.values())
    with pytest.raises(InputError, match="no masks"):
        plots(replace(options, model=models / "dense.gossamer"), print)["dense-masks"]()


def test_the_page_shows_confusions_and_the_images_lost_first(results):
    drawn = benchmark.pictures(list(results.values()))
    assert len(drawn) == 3 and all(image.startswith(b"<?xml") and b"<svg" in image for image in drawn.values())
    for start in ("Confusions of static-random", "Masks of static-random"):
        assert any(caption.startswith(start) for caption in drawn)
    assert len(benchmark.pictures([results["dense"]])) == 1
    bare = [replace(result, extra={}) for result in results.values()]
    assert benchmark.pictures(bare) == {}


def lost(options: Options) -> tuple[list[str], str]:
    """The pictures of the images lost first that would be drawn, and what was said."""
    lines: list[str] = []
    names = plots(options, lines.append)
    return sorted(name.removesuffix("-lost-first") for name in names if "lost-first" in name), " ".join(lines)


def test_images_are_lost_only_where_a_dense_network_has_them(results, tmp_path):
    results["static-random"].save(tmp_path)
    names, said = lost(Options(tmp_path))
    assert not names and "digits: the images lost first need results of a dense network" in said


def test_the_folder_is_read_for_the_data_set_that_it_can_hold(results, tmp_path):
    def save(data: str) -> None:
        for result in results.values():
            replace(result, data=data, config=result.config | {"data": data}).save(tmp_path)

    for prefix, count in (("train", 20), ("t10k", 500)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            sizes = b"".join(size.to_bytes(4, "big") for size in shape)
            path = tmp_path / f"{prefix}-{kind}-ubyte"
            path.write_bytes(bytes((0, 0, 8, len(shape))) + sizes + bytes(math.prod(shape)))
    options = Options(tmp_path, data_dir=tmp_path)
    save("digits")
    assert lost(options) == (["digits"], f"--data-dir {tmp_path} is not read: name its data set by --data (none).")
    save("fashion-mnist")
    assert lost(options) == (["digits", "fashion-mnist"], "")
    save("mnist")
    assert lost(options)[0] == ["digits"]
    assert lost(replace(options, data="mnist")) == (["mnist"], "")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 1, 0)))
    with pytest.raises(InputError, match="1 test images, the results of mnist are of 500"):
        plots(replace(options, data="mnist"), print)


def test_a_place_that_cannot_be_written_is_named(results, tmp_path):
    results["dense"].save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"digits-sparsity.svg cannot be written \("):
        draw(Options(tmp_path, tmp_path / "file" / "pictures"), lambda line: None)


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no results of vision"):
        draw(Options(tmp_path))
