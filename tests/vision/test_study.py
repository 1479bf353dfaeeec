from dataclasses import replace

import pytest

from gossamer import InputError, runs
from gossamer_vision import benchmark
from gossamer_vision.study import STUDIES, Study, kept, main, narrowed, plan, table
from gossamer_vision.train import Config

TINY = Config(width=4, stem=2, epochs=1, batch=500)


def test_plan_runs_dense_once_where_masks_vary_and_at_every_share():
    runs = plan(Study("sparsity", (0.5, 0.9), ("dense", "rigl")), TINY, (), (1, 2))
    assert [(run.seed, run.method, run.sparsity) for run in runs] == [
        (1, "dense", 0.95), (1, "rigl", 0.5), (1, "rigl", 0.9),
        (2, "dense", 0.95), (2, "rigl", 0.5), (2, "rigl", 0.9),
    ]  # fmt: skip
    shares = plan(STUDIES["scarce"], TINY, ("dense",), (1,))
    assert [run.share for run in shares] == [0.01, 0.05, 0.1, 1.0]


def test_a_pattern_of_one_density_gets_its_sparsity():
    runs = plan(Study("pattern", ("unstructured", "1:16"), ("rigl",)), TINY, (), (1,))
    assert [(run.pattern, run.sparsity) for run in runs] == [("unstructured", 0.95), ("1:16", 0.9375)]


def test_table_has_a_row_a_method_and_a_column_a_value():
    result = benchmark.run(TINY)
    results = []
    for seed, value in ((1, 0.9), (2, 0.8)):
        config = {**result.config, "method": "rigl", "sparsity": 0.5, "seed": seed}
        results.append(replace(result, value=value, config=config))
    made = table(Study("sparsity", (0.5, 0.9), ()), [replace(result, value=0.95), *results])
    cells = [list(column.cells) for column in made.columns]
    assert cells[0] == ["dense", "rigl"]
    assert cells[1][0] == cells[2][0] == "95.00 %"
    assert cells[1][1].startswith("85.00 ± ") and cells[2][1] == "–"


def test_storage_is_shown_with_its_costs():
    result = replace(benchmark.run(TINY), value=0.5, train_seconds=3.0)
    result.extra.update(training_bytes=2_500_000, epochs=2)
    made = table(STUDIES["storage"], [result])
    assert [next(iter(column.cells)) for column in made.columns] == ["dense", *["50.00 %, 2.50 MB, 1.5 s an epoch"] * 2]


def test_values_are_narrowed_in_their_own_kind():
    assert narrowed(STUDIES["sparsity"], ("0.5",)).values == (0.5,)
    assert narrowed(STUDIES["pattern"], ("2:4", "fan-in")).values == ("2:4", "fan-in")
    with pytest.raises(InputError, match=r"many.*sparsity is a float"):
        narrowed(STUDIES["sparsity"], ("many",))


def test_what_a_run_leaves_behind_is_named_as_its_result_and_changes_no_name(tmp_path):
    def path(config):
        return runs.Run("vision", config).path(tmp_path)

    sparse = replace(TINY, method="magnitude", sparsity=0.5)
    left = kept(sparse, TINY, tmp_path)
    assert path(left) == path(sparse) and kept(sparse, TINY, None) is sparse
    assert left.checkpoint == tmp_path / f"{path(sparse).stem}.pt"
    assert left.save == tmp_path / f"{path(sparse).stem}.gossamer"
    assert left.trained == kept(TINY, TINY, tmp_path).checkpoint
    stored = replace(TINY, method="static-random", storage="sparse")
    assert kept(stored, TINY, tmp_path).trained == left.trained


def test_table_of_what_is_finished_trains_nothing(tmp_path, capsys):
    main(["sparsity", "quick", "--finished", "--results", str(tmp_path)])
    assert "sparsity 0.95" in capsys.readouterr().out and not any(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["scarce", "--help"], ["pattern", "fashion-mnist", "-h"]])
def test_help_needs_no_other_word(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 0 and "--seeds" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["scare"], ["scarce", "quik"]])
def test_unknown_words_are_named(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2 and "did you mean" in capsys.readouterr().err
