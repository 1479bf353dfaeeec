import dataclasses
import json

import pytest

from gossamer import changes, compare, domains
from gossamer.cli import main


def row(toy, values, **more):
    made = domains.load("toy").run(domains.preset("toy"))
    config = {**made.config, **more}
    runs = [
        dataclasses.replace(made, value=value, seed=seed, config={**config, "seed": seed})
        for seed, value in enumerate(values)
    ]
    return compare.rows(runs)[0]


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([0.5, 0.51, 0.52], [0.8, 0.81, 0.82], "better"),
        ([0.8, 0.81, 0.82], [0.5, 0.51, 0.52], "worse"),
        ([0.5, 0.6, 0.7], [0.52, 0.6, 0.75], "same"),
        ([0.5, 0.6], [0.6, 0.5], "same"),
        ([0.5], [0.9], "unclear"),
        ([0.5, 0.5], [0.4, 0.4], "worse"),
    ],
)
def test_a_change_counts_beyond_the_noise_of_the_seeds(toy, old, new, verdict):
    (change,) = changes.changes([row(toy, old)], [row(toy, new)])
    assert change.verdict == verdict
    lowered = [
        compare.Row(tuple(dataclasses.replace(r, higher_is_better=False) for r in one.results))
        for one in (change.old, change.new)
    ]
    assert changes.Change(*lowered).verdict == {"better": "worse", "worse": "better"}.get(verdict, verdict)


def test_only_the_same_runs_are_compared(toy):
    assert changes.changes([row(toy, [0.5], sparsity=0.5)], [row(toy, [0.5])]) == []


def test_two_folders_on_the_command_line(toy, capsys):
    for seed in ("1", "2", "3"):
        main(["train", "toy", "quick", "--method", "sparse", "--seed", seed])
    (toy / "results").rename(toy / "old")
    (toy / "new" / "toy").mkdir(parents=True)
    for path in (toy / "old" / "toy").iterdir():
        fields = json.loads(path.read_text())
        (toy / "new" / "toy" / path.name).write_text(json.dumps(fields | {"value": fields["value"] / 10}))
    main(["compare", "old", "old"])
    assert "same" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["compare", "old", "new"])
    assert stop.value.code == 1 and "worse" in capsys.readouterr().out
