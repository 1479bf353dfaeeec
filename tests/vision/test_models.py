import pytest
import torch

from gossamer import InputError
from gossamer.nn import Branches
from gossamer_vision import models

SHAPE = (1, 16, 16)


@pytest.mark.parametrize("name", models.EXAMPLES)
def test_every_family_gives_logits_of_any_size_and_depth_of_colour(name):
    model = models.build(name, (3, 20, 20), 7, width=4).eval()
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 7)


def test_depth_of_a_resnet_counts_its_layers():
    for depth in (8, 20, 32, 56):
        model = models.build(f"resnet{depth}", SHAPE, 10, width=4)
        convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
        assert len(convolutions) + 1 == depth


def test_resnet8_parameters_by_hand():
    # stem 9·4+8; stage 1: 2(144+8); stage 2: 288+576+32+(32+16); stage 3: 1152+2304+64+(128+32); classifier 160+10
    expected = 44 + 304 + 944 + 3680 + 170
    assert sum(p.numel() for p in models.build("resnet8", SHAPE, 10, width=4).parameters()) == expected


def test_strided_stem_halves_the_image():
    model = models.build("resnet8", SHAPE, 10, width=4, stem=2)
    assert model[0](torch.rand(1, *SHAPE)).shape == (1, 4, 8, 8) and model[0].kernel_size == (5, 5)


def test_wired_paths_read_their_share_of_the_channels_and_leave_none_out():
    model = models.build("inception", SHAPE, 10, width=16, density=0.25, seed=3)
    for block in (m for m in model.modules() if isinstance(m, Branches)):
        reads = [block.get_buffer(f"inputs_{p}").tolist() for p in range(len(models.PATHS))]
        channels = max(max(own) for own in reads) + 1
        assert {len(own) for own in reads} == {channels // 4}
        assert sorted(channel for own in reads for channel in own) == sorted(2 * list(range(channels)))


@pytest.mark.parametrize("seed", range(5))
def test_paths_read_equally_many_channels_where_these_do_not_divide(seed):
    block = models.inception_block(10, 16, 0.4, torch.Generator().manual_seed(seed))[0]
    reads = [block.get_buffer(f"inputs_{p}").tolist() for p in range(len(models.PATHS))]
    assert all(len(set(own)) == 4 for own in reads)
    counts = torch.tensor([channel for own in reads for channel in own]).bincount(minlength=10)
    assert counts.sum() == 32 and set(counts.tolist()) <= {3, 4}


def test_wiring_is_the_seed_s():
    same, other = (models.build("inception", SHAPE, 10, density=0.25, seed=s).state_dict() for s in (3, 4))
    again = models.build("inception", SHAPE, 10, density=0.25, seed=3).state_dict()
    wires = [name for name in same if "inputs_" in name]
    assert all(torch.equal(same[name], again[name]) for name in wires)
    assert any(not torch.equal(same[name], other[name]) for name in wires)


@pytest.mark.parametrize("parameters", [1500, 2500, 10_000])
def test_width_of_size_is_near(parameters):
    def make(width):
        return models.build("resnet8", SHAPE, 10, width=width)

    found = sum(p.numel() for p in make(models.width_of_size(make, parameters, 16)).parameters())
    assert found == pytest.approx(parameters, rel=0.08)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet9", "'resnet9'.*6n"),
        ("resnt8", "did you mean 'resnet8'"),
        ("wrn-9-1", "wrn-D-K"),
        ("torchvision:resnet19", "did you mean 'resnet1"),
    ],
)
def test_unknown_models_are_named(name, message):
    with pytest.raises(InputError, match=message):
        models.build(name, SHAPE, 10)


def test_networks_of_torchvision():
    model = models.build("torchvision:squeezenet1_1", (3, 64, 64), 5).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 5)
