from dataclasses import replace

import pytest

from gossamer import InputError
from gossamer_vision import benchmark, evaluate
from gossamer_vision.pictures import Options, draw
from gossamer_vision.train import Config

matplotlib = pytest.importorskip("matplotlib")
TINY = Config(width=4, stem=2, epochs=1, batch=100, sparsity=0.8)


def test_pareto_front_by_hand():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (0.5, 1.0), (3.0, 6.0), (1.0, 3.0)]
    assert evaluate.pareto(points) == [3, 0, 2]


def test_images_lost_first_by_hand():
    # 7 is hard for a dense network; of the sparse three, all lose 4, two lose 1, one loses 9
    found = evaluate.lost_first([[7], []], [[4, 1, 7], [4, 1], [4, 9, 7]], count=2)
    assert found == [(4, 1.0), (1, pytest.approx(2 / 3))]


def test_pictures_are_drawn_from_result_files_and_a_model(tmp_path):
    for method in ("dense", "static-random"):
        config = replace(TINY, method=method, save=tmp_path / f"{method}.gossamer")
        benchmark.run(config).save(tmp_path / "results")
    options = Options(tmp_path / "results", tmp_path / "pictures", model=tmp_path / "static-random.gossamer")
    written = {path.stem: path.read_text() for path in draw(options)}
    kinds = ("digits-sparsity", "digits-latency", "digits-confusion", "digits-lost-first", "static-random-masks")
    assert tuple(sorted(written)) == tuple(sorted(kinds))
    assert all("<svg" in content for content in written.values())
    with pytest.raises(InputError, match="no masks"):
        draw(replace(options, model=tmp_path / "dense.gossamer"))


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no results of vision"):
        draw(Options(tmp_path))
