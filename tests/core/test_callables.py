"""Wrong types and values at every public callable: an InputError, or a TypeError about the signature, nothing else."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.engine import load as load_engine
from gossamer.measure import measure


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def masking(**options: Any) -> gs.Masking:
    return gs.sparsify(network(), 0.5, **options)


def stack() -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(2)))


def loss(model: nn.Module, batch: Any) -> Tensor:
    return model(batch).square().mean()


X = torch.ones(2, 8)
# What each callable is rightly called with, by the names of its arguments.
CALLS: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]] = {
    "Unstructured": (gs.Unstructured, dict),
    "NofM": (gs.NofM, lambda: {"n": 2, "m": 4}),
    "Block": (gs.Block, lambda: {"out": 4, "in_": 1}),
    "FanIn": (gs.FanIn, dict),
    "Channel": (gs.Channel, dict),
    "Unstructured.mask": (gs.Unstructured().mask, lambda: {"scores": torch.ones(4, 4), "count": 3}),
    "NofM.mask": (gs.NofM(2, 4).mask, lambda: {"scores": torch.ones(4, 4), "count": 8}),
    "sparsify": (
        gs.sparsify,
        lambda: {
            "model": network(),
            "sparsity": 0.5,
            "pattern": None,
            "distribution": "erk",
            "score": "magnitude",
            "include": ("0", "2"),
            "exclude": (),
            "generator": None,
        },
    ),
    **{
        kind.__name__: (
            lambda batches, loss, iterations, kind=kind: gs.sparsify(
                network(), 0.5, score=kind(batches, loss, iterations)
            ),
            lambda: {"batches": [X], "loss": loss, "iterations": 1},
        )
        for kind in (gs.SNIP, gs.Taylor, gs.Fisher, gs.Movement, gs.GraSP)
    },
    "Wanda": (lambda batches: gs.sparsify(network(), 0.5, score=gs.Wanda(batches)), lambda: {"batches": [X]}),
    "SynFlow": (
        lambda example, iterations: gs.sparsify(network(), 0.5, score=gs.SynFlow(example, iterations)),
        lambda: {"example": X, "iterations": 2},
    ),
    "Masking.attach": (
        lambda optimizer: (m := masking()).attach(
            torch.optim.SGD(m.model.parameters(), 0.1) if optimizer is X else optimizer
        ),
        lambda: {"optimizer": X},  # stands for one on the masked model
    ),
    "Masking.prune": (
        lambda **given: masking().prune(**given),
        lambda: {"score": "magnitude", "sparsity": 0.9, "generator": None, "distribution": None},
    ),
    "Masking.update": (lambda masks: masking().update(masks), lambda: {"masks": masking().masks}),
    "Masking.to": (lambda model: masking().to(model), lambda: {"model": network()}),
    "Masking.apply": (lambda model: masking().apply(model), lambda: {"model": network()}),
    "Masking.load_state_dict": (
        lambda state: masking().load_state_dict(state),
        lambda: {"state": masking().state_dict()},
    ),
    "SET": (
        gs.SET,
        lambda: {"masking": masking(), "every": 10, "until": 100, "fraction": 0.3, "generator": None},
    ),
    "RigL": (gs.RigL, lambda: {"masking": masking(), "every": 10, "until": 100, "fraction": 0.3, "generator": None}),
    "SNFS": (gs.SNFS, lambda: {"masking": masking(), "every": 10, "until": 100, "momentum": 0.9}),
    "SRigL": (gs.SRigL, lambda: {"masking": masking(pattern=gs.FanIn()), "every": 10, "until": 100, "ablation": 0.3}),
    "GMP": (
        gs.GMP,
        lambda: {
            "masking": masking(),
            "sparsity": 0.9,
            "every": 10,
            "until": 100,
            "schedule": "cubic",
            "distribution": "erk",
        },
    ),
    "GraNet": (gs.GraNet, lambda: {"masking": masking(), "sparsity": 0.9, "every": 10, "until": 100, "fraction": 0.3}),
    "RigL.load_state_dict": (
        lambda state: gs.RigL(masking(), until=100).load_state_dict(state),
        lambda: {"state": gs.RigL(masking(), until=100).state_dict()},
    ),
    "find_ticket": (
        gs.find_ticket,
        lambda: {"model": network(), "sparsity": 0.5, "train": lambda masking: None, "rounds": 1, "warm_up": None},
    ),
    "prune_blocks": (
        gs.prune_blocks,
        lambda: {
            "model": stack(),
            "batches": [X],
            "sparsity": 0.5,
            "solver": "wanda",
            "pattern": None,
            "distribution": "uniform",
            "blocks": None,
            "include": None,
            "exclude": (),
        },
    ),
    "SparseGPT": (gs.SparseGPT, lambda: {"block": 128, "damping": 0.01}),
    "measure": (measure, lambda: {"model": network(), "example": X, "masks": None}),
    "nn.TopK": (gs.nn.TopK, lambda: {"k": 2}),
    "nn.BatchTopK": (gs.nn.BatchTopK, lambda: {"k": 2, "momentum": 0.1}),
    "nn.JumpReLU": (gs.nn.JumpReLU, lambda: {"codes": 2, "threshold": 0.1, "bandwidth": 0.1}),
    "nn.SparseAutoencoder": (
        gs.nn.SparseAutoencoder,
        lambda: {"inputs": 4, "codes": 8, "activation": gs.nn.TopK(2), "generator": None},
    ),
    "nn.explained_variance": (
        gs.nn.explained_variance,
        lambda: {"x": torch.randn(4, 3), "reconstruction": torch.randn(4, 3)},
    ),
    "nn.pursue": (gs.nn.pursue, lambda: {"x": X, "atoms": torch.eye(8), "active": 2, "signed": False}),
    "nn.Branches": (gs.nn.Branches, lambda: {"paths": [nn.Identity()], "inputs": [[0]]}),
    "nn.SparseLinear": (
        gs.nn.SparseLinear,
        lambda: {"weight": torch.ones(4, 8), "mask": torch.ones(4, 8).bool(), "bias": None},
    ),
    "nn.SparseLinear.from_dense": (
        gs.nn.SparseLinear.from_dense,
        lambda: {"layer": nn.Linear(8, 4), "mask": torch.ones(4, 8).bool()},
    ),
    "nn.SparseConv2d.from_dense": (
        gs.nn.SparseConv2d.from_dense,
        lambda: {"layer": nn.Conv2d(2, 2, 1), "mask": torch.ones(2, 2, 1, 1).bool()},
    ),
}


def engine() -> gs.Engine:
    made = gs.compile(network(), X)
    assert isinstance(made, gs.Engine)
    return made


def saved() -> str:
    gs.save(network(), "saved")
    return "saved"


def saved_engine() -> str:
    engine().save("engine")
    return "engine"


def rows() -> Tensor:
    return torch.rand(5, 4, generator=torch.Generator().manual_seed(0))


def codes(activation: nn.Module | None = None) -> gs.nn.SparseAutoencoder:
    return gs.nn.SparseAutoencoder(4, 8, activation or gs.nn.TopK(2))


def resampled(optimizer: Any, **given: Any) -> int:
    dead = gs.nn.DeadCodes(codes(), 0)
    dead.idle[:3] = 9
    own = torch.optim.Adam(dead.autoencoder.parameters())
    return dead.resample(**given, optimizer=own if optimizer is X else optimizer)


# What writes and reads files, makes and runs engines, and the methods of what others make; in an empty folder.
CALLS |= {
    "save": (gs.save, lambda: {"model": network(), "path": "m", "masks": None, "values": "float32", "about": None}),
    "load": (gs.load, lambda: {"path": saved(), "model": network(), "strict": True}),
    "files.size": (gs.files.size, lambda: {"model": network(), "masks": None, "values": "float32"}),
    "files.to_bytes": (gs.files.to_bytes, lambda: {"model": network(), "masks": None, "values": "int8", "about": {}}),
    "files.from_bytes": (
        gs.files.from_bytes,
        lambda: {"content": gs.files.to_bytes(network()), "model": network(), "strict": True},
    ),
    "files.about": (gs.files.about, lambda: {"path": saved()}),
    "budget": (
        gs.budget,
        lambda: {
            "model": network(),
            "example": X,
            "speedup": 1.0,
            "pattern": None,
            "loss": None,
            "sparsities": (0.5,),
            "include": ("*",),
            "exclude": (),
        },
    ),
    "compile": (gs.compile, lambda: {"model": network(), "example": X, "masks": None, "strict": False}),
    "Engine": (lambda x: engine()(x), lambda: {"x": X}),
    "Engine.save": (lambda path: engine().save(path), lambda: {"path": "e"}),
    "engine.load": (load_engine, lambda: {"path": saved_engine(), "batch": 1}),
    "export_onnx": (
        gs.export_onnx,
        lambda: {"model": network(), "path": "o", "example": X, "dynamic": None, "sparse": False},
    ),
    "nn.convert": (gs.nn.convert, lambda: {"model": network(), "masks": {"0.weight": torch.ones(16, 8).bool()}}),
    "nn.SparseConv1d.from_dense": (
        gs.nn.SparseConv1d.from_dense,
        lambda: {"layer": nn.Conv1d(2, 2, 1), "mask": torch.ones(2, 2, 1).bool()},
    ),
    "nn.SparseConv2d": (
        lambda **given: gs.nn.SparseConv2d(**given, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1),
        lambda: {"weight": torch.ones(2, 2, 1, 1), "mask": torch.ones(2, 2, 1, 1).bool(), "bias": None},
    ),
    "nn.SparseLinear.move": (
        lambda drop, grow: gs.nn.SparseLinear.from_dense(nn.Linear(4, 2)).move(drop, grow),
        lambda: {"drop": torch.zeros(2, 4).bool(), "grow": torch.zeros(2, 4).bool()},
    ),
    "nn.Gated": (gs.nn.Gated, lambda: {"codes": 8}),
    "nn.DeadCodes": (gs.nn.DeadCodes, lambda: {"autoencoder": codes(), "patience": 10}),
    "nn.KL": (gs.nn.KL, lambda: {"weight": 0.1, "target": 0.1}),
    "nn.L1": (gs.nn.L1, lambda: {"weight": 0.1}),
    "nn.L0": (gs.nn.L0, lambda: {"weight": 0.1}),
    "nn.GatedLoss": (gs.nn.GatedLoss, lambda: {"weight": 0.1}),
    "nn.Matryoshka": (gs.nn.Matryoshka, lambda: {"prefixes": (2, 8)}),
    **{
        f"nn.{type(objective).__name__} of": (objective, lambda kind=kind: {"autoencoder": codes(kind), "x": rows()})
        for objective, kind in (
            (gs.nn.Squared(), gs.nn.TopK(2)),
            (gs.nn.L1(0.1), nn.ReLU()),
            (gs.nn.KL(0.1), nn.Sigmoid()),
            (gs.nn.L0(0.1), gs.nn.JumpReLU(8)),
            (gs.nn.GatedLoss(0.1), gs.nn.Gated(8)),
            (gs.nn.Matryoshka([2]), gs.nn.BatchTopK(2)),
        )
    },
    "nn.SparseAutoencoder of": (lambda x: codes()(x), lambda: {"x": rows()}),
    "nn.SparseAutoencoder.sparse": (lambda x: codes().sparse(x), lambda: {"x": rows()}),
    "nn.SparseAutoencoder.decode": (lambda z: codes().decode(z), lambda: {"z": torch.rand(5, 8)}),
    "nn.SparseAutoencoder.center": (lambda x: codes().center(x), lambda: {"x": rows()}),
    "nn.SparseAutoencoder.auxiliary_loss": (
        lambda **given: codes().auxiliary_loss(**given),
        lambda: {"x": rows(), "reconstruction": rows() + 1, "dead": torch.arange(8) < 3, "k": 2},
    ),
    "nn.DeadCodes.see": (
        lambda codes_: gs.nn.DeadCodes(codes(), 10).see(codes_),
        lambda: {"codes_": codes().sparse_code(rows())},
    ),
    "nn.DeadCodes.resample": (
        resampled,
        lambda: {"x": rows(), "reconstruction": rows() + 1, "optimizer": X, "generator": torch.Generator()},
    ),
    "Masking.update.counts": (
        lambda counts: (m := masking()).update(m.masks, counts),
        lambda: {"counts": masking().counts},
    ),
    "Block.mask": (gs.Block(2, 1).mask, lambda: {"scores": torch.ones(4, 4), "count": 8}),
    "FanIn.mask": (gs.FanIn().mask, lambda: {"scores": torch.ones(4, 4), "count": 8}),
    "Channel.mask": (gs.Channel().mask, lambda: {"scores": torch.ones(4, 4), "count": 8}),
    "find_ticket.train": (
        lambda warm_up, steps: gs.find_ticket(
            network(), 0.5, train=lambda masking: None, warm_up=warm_up, rounds=steps
        ),
        lambda: {"warm_up": None, "steps": 1},
    ),
}
WRONG: list[Any] = [
    None,
    0,
    -1,
    7.5,
    float("nan"),
    True,
    "x",
    b"x",
    [],
    {},
    {"x": 1},
    ["x"],
    [[1.5]],
    object(),
    torch.ones(3),
    torch.ones(2, 2),
    torch.tensor(float("nan")),
    nn.Linear(3, 3),
    [nn.Linear(3, 3)],
    nn.ReLU,
    gs.Block(4, 1),
    gs.RigL,
    gs.SNIP,
    lambda: None,
    (1, 2),
    torch.device("cpu"),
]
ABOUT_THE_SIGNATURE = re.compile(r"(unexpected keyword|missing \d+ required|takes \d+ positional|multiple values)")


@pytest.mark.filterwarnings("ignore:.*stays PyTorch code:UserWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_answered_clearly(name: str, tmp_path, monkeypatch) -> None:
    if name == "export_onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    call, rightly = CALLS[name]
    call(**rightly())
    unclear = []
    for argument in rightly():
        for wrong in WRONG:
            given = {**rightly(), argument: copy.copy(wrong)}
            try:
                call(**given)
            except gs.InputError as error:
                if len(str(error)) > 600:
                    unclear.append(f"{argument}={wrong!r:.30}: {len(str(error))} characters")
            except Exception as error:
                unclear.append(f"{argument}={wrong!r:.30}: {type(error).__name__}: {error!s:.90}")
    assert not unclear, "\n".join(unclear)


@pytest.mark.parametrize(("package", "prefix"), [(gs, ""), (gs.nn, "nn.")])
def test_everything_exported_is_called_wrongly_here(package: Any, prefix: str) -> None:
    bases = {"nn", "InputError", "Result", "Pattern", "Score", "Method", "Masking", "Budget"}  # not called
    exported = {prefix + name for name in package.__all__ if name not in bases}
    assert exported <= {name.split(" of")[0].removesuffix(".from_dense") for name in CALLS}


@pytest.mark.parametrize("call", [gs.sparsify, gs.NofM, gs.RigL, gs.prune_blocks, gs.nn.TopK])
def test_too_few_and_unknown_arguments_are_the_signatures_matter(call: Callable[..., Any]) -> None:
    for given in ({}, {"nonsense": 1}):
        with pytest.raises(TypeError, match=ABOUT_THE_SIGNATURE):
            call(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.sparsify(None, 0.5), "model is a NoneType; it must be a torch.nn.Module"),
        (lambda: gs.sparsify(0.5, network()), r"model is 0.5 \(float\)"),
        (lambda: gs.RigL(network(), until=9), "masking is a Sequential; it must be the masking that gossamer.sparsify"),
        (lambda: gs.RigL(masking(), until=7.5), "until is 7.5; it must be a whole number"),
        (lambda: masking().attach(network().parameters()), "optimizer is a generator; it must be a torch.optim.Opt"),
        (lambda: gs.Block("4", 1), "out is '4'; it must be a whole number"),
        (lambda: gs.sparsify(network(), 0.5, include=[nn.Linear(1, 1)]), "include_or_exclude is a Linear"),
        (lambda: gs.sparsify(network(), 0.5, generator=0), r"generator is 0 \(int\); it must be a torch.Generator"),
        (lambda: gs.nn.SparseLinear(64, 128), r"SparseLinear.from_dense\(layer\) makes one"),
    ],
)
def test_what_is_wrong_is_named(make, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        make()


def test_a_masking_serves_wherever_masks_are_taken(tmp_path) -> None:
    masked = masking()
    model = masked.model
    assert gs.save(model, tmp_path / "a", masks=masked) == gs.save(model, tmp_path / "b", masks=masked.masks)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert measure(model, X, masks=masked).nonzeros == measure(model, X, masks=masked.masks).nonzeros
    x = torch.randn(2, 8)
    assert torch.allclose(torch.as_tensor(gs.compile(model, x, masks=masked)(x)), model(x), atol=1e-5)
    copied = gs.sparsify(network(), 0.5, score="random")
    copied.update(masked)
    assert list(masked) == list(masked.masks) and all(torch.equal(copied[name], masked[name]) for name in masked)
    assert masked and masked == masked and masked != copied and len({masked, copied}) == 2


def test_a_compiled_model_is_named_as_the_plain_one(tmp_path) -> None:
    model = network()
    compiled = torch.compile(model, backend="eager")
    assert list(gs.sparsify(compiled, 0.5)) == ["0.weight", "2.weight"]
    assert gs.save(compiled, tmp_path / "a") == gs.save(model, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = torch.compile(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), backend="eager")
    gs.load(tmp_path / "b", other)
    assert torch.equal(other(X), model(X))
