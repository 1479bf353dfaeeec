import math
from dataclasses import replace

import pytest
import torch

from gossamer import InputError
from gossamer.dynamic import GraNet
from gossamer.threads import using_threads
from gossamer_vision.config import Config
from gossamer_vision.methods import METHODS
from gossamer_vision.run import Run, order
from gossamer_vision.start import load_data
from gossamer_vision.storage import store_sparsely
from gossamer_vision.train import train

TINY = Config(width=4, stem=2, epochs=2, fine_tune=1, batch=100, every=3, sparsity=0.8)


@pytest.fixture(autouse=True)
def one_thread():
    with using_threads(1):
        yield


def of(method: str) -> Config:
    changes = {"wired": {"model": "inception"}, "srigl": {"pattern": "fan-in"}}.get(method, {})
    return replace(TINY, method=method, **changes)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "last"), [(8, 1, 2, True), (4, 1, 1, True), (4, 3, 2, True), (4, 1, 2, False)]
)
def test_channels_come_last_where_no_strided_convolution_of_single_pixels_has_few(channels, kernel, stride, last):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, channels, 3), torch.nn.Conv2d(channels, 16, kernel, stride))
    assert order(network) == (torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fixed"])
def test_every_method_ends_at_its_sparsity_with_dead_weights_at_zero(method):
    run = train(of(method))
    assert all(torch.isfinite(p).all() for p in run.network.parameters())
    if not METHODS[method].masked:
        assert run.masking is None
        return
    assert run.masking is not None
    assert run.masking.sparsity == pytest.approx(0.8, abs=0.03 if method == "srigl" else 0.001)
    for name, mask in run.masking.masks.items():
        assert not run.network.get_parameter(name)[~mask].any()


def test_granet_starts_by_erk_and_goes_on_by_magnitudes_of_all_layers():
    run = Run(of("granet"), load_data(TINY))
    first, other = (r.sparsified(0.5, "random") for r in (run, Run(of("set"), load_data(TINY))))
    assert (
        first.counts == other.counts
        and len({c / m.numel() for c, m in zip(first.counts.values(), first.masks.values(), strict=True)}) > 1
    )
    run.begin(run.cycles[0])
    assert isinstance(run.movement, GraNet) and run.movement.distribution == "global"


def test_training_learns():
    run = train(replace(TINY, width=8, epochs=6))
    assert run.accuracy_held_out() > 0.8 and run.progress.losses[-1] < run.progress.losses[0]


def test_small_dense_has_the_parameters_of_the_sparse_network():
    sparse, small = (Run(of(method), load_data(TINY)) for method in ("static-random", "small-dense"))
    sparse.begin(sparse.cycles[0])
    assert sparse.masking is not None
    dead = sum(int((~mask).sum()) for mask in sparse.masking.masks.values())
    alive = sum(p.numel() for p in sparse.network.parameters()) - dead
    assert sum(p.numel() for p in small.network.parameters()) == pytest.approx(alive, rel=0.1)


def same(first: Run, second: Run) -> bool:
    weights = second.network.state_dict()
    return first.progress.losses == second.progress.losses and all(
        torch.equal(value, weights[name]) for name, value in first.network.state_dict().items()
    )


def test_same_seed_same_numbers():
    assert same(train(TINY), train(TINY))
    assert not same(train(TINY), train(replace(TINY, seed=2)))


@pytest.mark.parametrize(
    ("method", "ema", "sparsity"),
    [
        ("dense", 0.9, 0.8),
        ("rigl", 0.0, 0.8),
        ("magnitude-finetune", 0.5, 0.8),
        ("lottery", 0.0, 0.8),
        ("set", 0.0, 0.8),
        ("srigl", 0.0, 0.8),
        *((method, 0.0, sparsity) for method in ("gmp", "granet") for sparsity in (0.8, 0.85)),
    ],
)
def test_resumed_run_equals_one_never_interrupted(tmp_path, method, ema, sparsity):
    config = replace(of(method), ema=ema, sparsity=sparsity, epochs=3)
    whole = train(config)
    data = load_data(config)
    run = Run(config, data)
    for number in range(1, 200):
        if number % 7 == 0 and not run.done:  # in the middle of epochs, at their ends, and between trainings
            run.save(tmp_path / "run.pt")
            run = Run(config, data)
            run.restore(tmp_path / "run.pt")
        if not run.done:
            run.step()
    assert run.done and same(run, whole) and run.training_bytes == whole.training_bytes
    assert run.progress.held_out == whole.progress.held_out


def test_a_run_killed_in_an_epoch_goes_on_by_the_same_command(tmp_path):
    config = replace(TINY, method="rigl", checkpoint=tmp_path / "run.pt")
    whole = train(replace(config, checkpoint=None))

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, lambda line: stop(line) if line.startswith("epoch 1") else None)
    lines: list[str] = []
    assert same(train(config, lines.append), whole) and lines[0].startswith("going on after epoch 0, step")


@pytest.mark.parametrize("method", ["random-pruned", "magnitude-finetune"])
def test_pruning_goes_on_from_the_dense_run_to_the_same_numbers(tmp_path, method):
    dense = train(replace(TINY, method="dense", checkpoint=tmp_path / "dense.pt"))
    lines: list[str] = []
    run = train(replace(of(method), trained=tmp_path / "dense.pt"), lines.append)
    assert lines[0].startswith("going on from") and run.progress.losses[:2] == dense.progress.losses
    assert same(run, train(of(method)))
    with pytest.raises(InputError, match="seed"):
        train(replace(of(method), seed=5, trained=tmp_path / "dense.pt"))


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    Run(TINY, load_data(TINY)).save(path)
    with pytest.raises(InputError, match=r"seed"):
        train(replace(TINY, seed=9, checkpoint=path))


def test_pruning_after_training_says_what_it_cost():
    lines: list[str] = []
    run = train(of("magnitude"), lines.append)
    assert lines[-1].startswith("pruned to a sparsity of 80.0%: held-out ")
    assert lines[-1].endswith(f"{run.accuracy_held_out():.2%}")


def test_averaged_weights_are_masked_by_the_topology():
    run = train(replace(TINY, method="rigl", ema=0.9))
    assert run.masking is not None
    for name, mask in run.masking.masks.items():
        assert not run.network.get_parameter(name)[~mask].any()


def test_fewer_training_images_leave_the_number_of_steps():
    whole, part = (train(replace(TINY, share=share)) for share in (1.0, 0.05))
    assert len(part.batches.labels) == 50 and part.progress.steps == whole.progress.steps == 20


def test_few_steps_are_said():
    lines: list[str] = []
    train(replace(TINY, batch=10**6, epochs=1, shift=0), lines.append)
    assert lines[0].startswith("warning: 1 steps are few") and "--batch" in lines[0]


def test_divergence_names_step_rate_and_checkpoint(tmp_path):
    config = replace(TINY, learning_rate=10, weight_decay=1e6, checkpoint=tmp_path / "run.pt")
    with pytest.raises(
        InputError, match=r"loss is (nan|inf) at step \d+, at a learning rate of .*the last good checkpoint is"
    ):
        train(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "rig"}, "'rig'.*'rigl'"),
        ({"sparsity": 1.0}, r"1\.0.*\[0, 1\)"),
        ({"sparsity": -0.1}, r"-0\.1.*\[0, 1\)"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": 1e6}, "learning_rate is 1000000.0"),
        ({"fit": "cut"}, "fit is 'cut'"),
        ({"augment": "autoaugment"}, "augment is 'autoaugment'"),
        ({"harden": 1.5}, "harden is 1.5"),
        ({"weights": "default"}, "weights are for models of torchvision's, not 'resnet8'"),
        ({"freeze": True}, "freeze keeps what --from or --weights brings"),
        ({"method": "fixed"}, "'fixed' keeps the masks that --from brings"),
        ({"pattern": "block-4x2"}, "did you mean 'block-4x1'"),
        ({"method": "wired"}, "'inception'"),
        ({"method": "srigl"}, "'fan-in'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"share": 0.0}, "share is 0"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"method": "lottery", "epochs": 1}, "epochs is 1, and method 'lottery' rewinds"),
        ({"method": "gmp", "pattern": "2:4"}, r"'gmp' raises the sparsity .*'2:4' has one only, 0\.5; choose rigl"),
        ({"fine_tune": 0}, "fine_tune is 0"),
        ({"time_budget": -3.0}, "time_budget is -3"),
        ({"image_size": 0}, "image_size is 0"),
        ({"width": math.inf}, "width is inf"),
        ({"shift": -1}, "shift is -1"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"precision": "bf16-true"}, "bf16-true.*32-true"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"method": "rigl", "every": 100},
            "never move: the training has 20 steps, .* every 100 steps of the first 15.*--every below 15",
        ),
        ({"method": "gmp", "every": 15}, "never move"),
        ({"method": "small-dense", "sparsity": 0.99999, "width": 1}, "no resnet8 has about"),
        ({"method": "magnitude", "pattern": "2:4", "sparsity": 0.9}, "2:4|NofM"),
        ({"method": "magnitude", "distribution": "foo"}, "foo"),
        ({"model": "vgg", "stem": 8}, "vgg with stem 8 does not take images of 1×16×16"),
        ({"shift": 30}, "shift is 30"),
        ({"processes": 2}, "processes is 2, and 1 train; start them by torchrun --nproc-per-node 2"),
        ({"model": "torchvision:vit_b_16", "image_size": 32}, r"vit_b_16 .* does not take images of 3×32×32 .*224"),
        ({"model": "torchvision:vgg_11"}, "did you mean 'vgg11'"),
        ({"accelerator": "foo"}, "accelerator is 'foo'"),
        ({"accelerator": "cuda" if not torch.cuda.is_available() else "mps"}, "accelerator is '(cuda|mps)'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_epoch(change, message):
    lines: list[str] = []
    with pytest.raises(InputError, match=message):
        train(replace(TINY, **change), lines.append)
    assert not lines


@pytest.mark.parametrize("field", ["checkpoint", "save", "tensorboard"])
def test_unwritable_files_are_refused_before_any_epoch(tmp_path, field):
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    with pytest.raises(InputError, match=r"cannot be written .*name another"):
        train(replace(TINY, **{field: tmp_path / "file" / "below"}), lines.append)
    with pytest.raises(InputError, match=r"cannot be written .*name another"):
        train(replace(TINY, **{field: tmp_path if field != "tensorboard" else tmp_path / "file"}), lines.append)
    assert not lines


def test_two_of_four_and_blocks(tmp_path):
    halves = train(replace(TINY, method="rigl", pattern="2:4", sparsity=0.5, epochs=1)).masking
    assert halves is not None
    for mask in halves.masks.values():  # along the input channels, at one kernel position
        assert (mask.movedim(1, -1).reshape(-1, 4).sum(1) == 2).all()
    blocks = train(replace(TINY, method="rigl", pattern="block-4x1", epochs=1)).masking
    assert blocks is not None
    for mask in blocks.masks.values():
        rows = mask.flatten(1)[: len(mask) // 4 * 4]
        assert (rows.reshape(-1, 4, rows.shape[1]).sum(1) % 4 == 0).all()


@pytest.mark.parametrize("method", ["static-random", "snip"])
def test_sparse_storage_trains_to_the_masks_numbers(method):
    masked, stored = (train(replace(TINY, method=method, storage=storage)) for storage in ("masks", "sparse"))
    assert stored.progress.losses == pytest.approx(masked.progress.losses, rel=1e-3)
    assert stored.network.state_dict().keys() == masked.network.state_dict().keys()
    assert stored.sparsity == masked.sparsity and stored.training_bytes < masked.training_bytes


def test_sparse_storage_resumes(tmp_path):
    config = replace(TINY, method="static-random", storage="sparse", ema=0.9)
    whole, run = train(config), Run(config, load_data(config))
    for _ in range(13):
        run.step()
    run.save(tmp_path / "run.pt")
    assert same(train(replace(config, checkpoint=tmp_path / "run.pt")), whole)


def test_sparse_storage_refuses_what_it_cannot_hold():
    run = Run(replace(TINY, method="static-random", storage="sparse"), load_data(TINY))
    name = next(name for name, parameter in run.network.named_parameters() if parameter.dim() == 1)
    with pytest.raises(InputError, match=rf"storage is 'sparse', but {name} is of a .* choose storage 'masks'"):
        store_sparsely(run.network, {name: torch.ones(1, dtype=torch.bool)})


def test_tensorboard_files_are_written(tmp_path):
    pytest.importorskip("tensorboard")
    train(replace(TINY, epochs=1, tensorboard=tmp_path / "board"))
    assert [path.name for path in (tmp_path / "board").iterdir() if "tfevents" in path.name]


def test_googlenet_trains_without_its_auxiliary_classifiers():
    run = Run(replace(TINY, model="torchvision:googlenet", image_size=32, batch=8), load_data(TINY_COLOUR))
    run.step()
    assert math.isfinite(run.progress.loss)


TINY_COLOUR = replace(TINY, model="torchvision:googlenet", image_size=32)
