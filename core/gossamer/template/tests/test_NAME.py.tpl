from dataclasses import replace

import pytest
import torch

import gossamer as gs
from gossamer_NAME import benchmark, predict
from gossamer_NAME.config import PRESETS, Config
from gossamer_NAME.data import INPUTS, load
from gossamer_NAME.model import network, small
from gossamer_NAME.train import train

TINY = replace(PRESETS["quick"], epochs=4)


@pytest.mark.parametrize("method", ["dense", "small-dense", "static-random", "rigl"])
def test_every_method_beats_chance(method):
    result = benchmark.run(replace(TINY, method=method))
    assert result.value > result.floor + 0.1
    assert result.sparsity == pytest.approx(0.9 if method in ("static-random", "rigl") else 0.0, abs=0.01)
    assert len(result.extra["curve"]) == TINY.epochs


def test_a_seed_gives_the_same_network():
    first, again = train(TINY), train(TINY)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))


def test_a_stopped_run_goes_on_to_the_same_network(tmp_path):
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    config = replace(TINY, checkpoint=tmp_path / "run.pt")
    with pytest.raises(KeyboardInterrupt):
        train(config, stop)
    resumed, undisturbed = train(config), train(TINY)
    assert resumed.curve == undisturbed.curve and len(resumed.curve) == TINY.epochs
    pairs = zip(resumed.model.parameters(), undisturbed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_kept_network_predicts(tmp_path, capsys):
    path = tmp_path / "model.gossamer"
    train(replace(TINY, save=path))
    predict.main(predict.Options(path, (0.1,) * INPUTS))
    assert capsys.readouterr().out.startswith("kind ")
    with pytest.raises(gs.InputError, match="--point has 3 numbers"):
        predict.main(predict.Options(path, (0.1,) * 3))


def test_the_parts_of_the_data_have_no_example_in_common():
    data = load()
    points = torch.cat([part.points for part in (data.train, data.held_out, data.test)])
    assert len(points.unique(dim=0)) == len(points) == 4000


def test_the_small_dense_network_has_as_many_weights():
    whole, few = (sum(p.numel() for p in network(w).parameters()) for w in (64, small(64, 0.9)))
    assert few == pytest.approx(0.1 * whole, rel=0.3)


def test_what_a_person_can_mend_is_named():
    with pytest.raises(gs.InputError, match="did you mean 'rigl'"):
        Config(method="rigel")
