import dataclasses

import pytest

from gossamer import InputError, domains, grids
from gossamer.cli import main


def test_every_combination_is_a_cell(toy):
    found = grids.cells(domains.preset("toy"), ["--method", "a", "b", "--sparsity", "0.5", "0.8", "0.5", "--slow"])
    assert [(c.method, c.sparsity, c.slow) for c in found] == [
        ("a", 0.5, True), ("a", 0.8, True), ("b", 0.5, True), ("b", 0.8, True)
    ]  # fmt: skip
    assert grids.cells(domains.preset("toy"), []) == [domains.preset("toy")]
    assert [(c.method, c.seed) for c in grids.seeded(found[::2], 2)] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_what_is_no_cell_is_refused_by_name(toy):
    for words, says in (
        (["--sparsit", "0.5"], "did you mean --sparsity"),
        (["--sparsity", "0.5", "1.5"], "--sparsity is 1.5"),
        (["rigl", "--seed", "1"], "'rigl' belongs to no option"),
    ):
        with pytest.raises(InputError, match=says):
            grids.cells(domains.preset("toy"), words)


def test_a_method_is_there_once_for_the_values_that_it_does_not_read():
    config = domains.preset("vision")
    words = ["--method", "dense", "gmp", "--sparsity", "0.5", "0.8", "--pattern", "unstructured", "block-4x1"]
    found = grids.cells(config, words, domains.load("vision").UNREAD)
    assert [cell.method for cell in found] == ["dense", *["gmp"] * 4]
    assert found[0] == dataclasses.replace(config, method="dense")  # the run that `gossamer compare` has already
    for name in domains.names():
        preset = domains.preset(name)
        for method, fields in domains.load(name).UNREAD.items():
            assert all(hasattr(dataclasses.replace(preset, method=method), field) for field in fields)


def test_a_grid_is_shown_before_it_runs(toy, capsys):
    main(["train", "toy", "quick", "--method", "sparse", "--sparsity", "0.5"])
    capsys.readouterr()
    grid = ["compare", "--domain", "toy", "--method", "dense", "sparse", "--sparsity", "0.5", "0.8", "--seeds", "3"]
    main([*grid, "--dry-run"])
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines() if "toy" in line]
    assert lines == [["toy", "dense", "6", "0", "~", "0", "s"], ["toy", "sparse", "6", "1", "0", "s"]]
    assert not (toy / "report.html").exists()
    with pytest.raises(SystemExit):
        main(["compare", "--method", "dense"])
    assert "--method must be of one domain" in capsys.readouterr().err
