from dataclasses import replace

import pytest
import tyro

from gossamer import InputError, runs
from gossamer_vision import benchmark
from gossamer_vision.config import PRESETS, Config
from gossamer_vision.study import STUDIES, Options, Study, kept, main, narrowed, plan, published, read_results, table

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
    main(Options("sparsity", PRESETS["quick"], results=tmp_path, finished=True))
    assert "sparsity 0.95" in capsys.readouterr().out and not any(tmp_path.iterdir())


def test_what_is_finished_is_published_as_one_sorted_table_and_read_again(tmp_path, capsys):
    result = benchmark.run(TINY)
    for seed in (2, 1):
        replace(result, value=0.5 + seed / 10, seed=seed, config=result.config | {"seed": seed}).save(tmp_path)
    options = Options("sparsity", TINY, methods=("dense",), results=tmp_path, finished=True, to=tmp_path / "all.jsonl")
    main(options)
    assert "65.00" in capsys.readouterr().out
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert lines == sorted(lines) and len(lines) == 2 and '"confusion"' not in lines[0] and '"wrong"' not in lines[0]
    assert published(read_results(tmp_path / "all.jsonl")) == (tmp_path / "all.jsonl").read_text()
    main(replace(options, results=tmp_path / "all.jsonl", to=None))
    assert "65.00" in capsys.readouterr().out
    (tmp_path / "all.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"all\.jsonl is no table of results"):
        read_results(tmp_path / "all.jsonl")


@pytest.mark.parametrize(
    ("words", "study", "epochs"),
    [([], "sparsity", 20), (["scarce"], "scarce", 20), (["pattern", "fashion-mnist", "--epochs", "3"], "pattern", 3)],
)
def test_study_and_preset_are_words_and_options_follow(words, study, epochs):
    options = tyro.cli(Options, args=[*words, "--seeds", "4"])
    assert (options.study, options.config.epochs, options.seeds) == (study, epochs, (4,))


@pytest.mark.parametrize(
    ("options", "message"),
    [(Options("scare"), "'scare'.*did you mean 'scarce'"), (Options(methods=("rig",)), "'rig'.*'rigl'")],
)
def test_unknown_words_are_named(options, message):
    with pytest.raises(InputError, match=message):
        main(options)
