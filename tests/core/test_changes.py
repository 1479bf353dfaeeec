import dataclasses
import json

import numpy as np
import pytest

from gossamer import changes, compare, domains
from gossamer.cli import main
from gossamer.failures import Failure


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
    (other,) = changes.changes(*([one] for one in lowered))
    assert other.verdict == {"better": "worse", "worse": "better"}.get(verdict, verdict)


def test_what_vanished_is_named_and_what_failed_got_worse(toy):
    old, other = row(toy, [0.5], sparsity=0.5), row(toy, [0.5])
    (change,) = changes.changes([old], [other])
    assert change.new is None and change.verdict == "vanished" and change.plain()["new"] is None
    config = {**old.first.config, "seed": 7}
    failure = Failure(domain="toy", method="dense", seed=7, error="no luck", command="", config=config)
    (change,) = changes.changes([old], [other], [failure])
    assert change.verdict == "failed" and change.plain()["error"] == "no luck"


def test_of_many_rows_that_did_not_change_none_looks_worse_by_chance(toy):
    draw = np.random.default_rng(0)
    old, new = ([row(toy, draw.normal(0.5, 0.1, 5).tolist(), sparsity=s / 100) for s in range(60)] for _ in "on")
    found = changes.changes(old, new)
    raw = [changes.tested(change.old, change.new).p for change in found]
    assert sum(p < changes.LEVEL for p in raw) > 0 and {change.verdict for change in found} == {"same"}


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
    main(["train", "toy", "quick", "--method", "dense"])
    with pytest.raises(SystemExit) as stop:
        main(["compare", "results", "old"])
    assert stop.value.code == 2 and "no run that is the same" in capsys.readouterr().err
    (toy / "old" / "toy" / "more.json").write_bytes(next(toy.glob("results/toy/*.json")).read_bytes())
    capsys.readouterr()
    main(["compare", "old", "results", "--json"])
    assert [change["verdict"] for change in json.loads(capsys.readouterr().out)] == ["same", "vanished"]
