import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

SCRIPT = """
import copy
import sys

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import gossamer as gs
from gossamer.nn.linear import SparseLinear

METHODS = {
    "SET": lambda m, g: gs.SET(m, every=2, until=99, generator=g),
    "RigL": lambda m, g: gs.RigL(m, every=2, until=99),
    "SNFS": lambda m, g: gs.SNFS(m, every=2, until=99),
    "GraNet": lambda m, g: gs.GraNet(m, 0.9, every=2, until=12),
    "GMP": lambda m, g: gs.GMP(m, 0.9, every=2, until=12),
    "SRigL": lambda m, g: gs.SRigL(m, every=2, until=99),
    "stored": lambda m, g: gs.RigL(m, every=2, until=99),
}


def network(seed, stored):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))
    if stored:
        generator = torch.Generator().manual_seed(0)  # the size of a parameter must agree
        model[0] = SparseLinear.from_dense(model[0], torch.rand(10, 6, generator=generator) < 0.4)
    return model


def parts(rank, seed):
    model = network(seed, stored=False)
    masking = gs.sparsify(model, 0.5, score="random", generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    method = gs.SNFS(masking, every=2, until=99)
    return {"model": model, "masking": masking, "optimizer": optimizer, "method": method}


def resume(rank, order):
    whole = parts(rank, rank)
    wrapped = DistributedDataParallel(whole["model"])
    whole["masking"].attach(whole["optimizer"])
    for step in range(8):
        if step == 5:
            states = {name: copy.deepcopy(part.state_dict()) for name, part in whole.items()}
            resumed = parts(rank, 10 + rank)
            again = DistributedDataParallel(resumed["model"])
            for name in order:
                if name == "attach":
                    resumed["masking"].attach(resumed["optimizer"])
                else:
                    resumed[name].load_state_dict(states[name])
        for run, ddp in ((whole, wrapped), *([(resumed, again)] if step >= 5 else [])):
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(100 * step + rank))
            run["optimizer"].zero_grad()
            (ddp(x) - 1).square().mean().backward()
            run["optimizer"].step()
            run["method"].step()
    for a, b in zip(whole["model"].parameters(), resumed["model"].parameters(), strict=True):
        assert torch.equal(a, b), order
    assert torch.equal(snapshot(whole["masking"]), snapshot(resumed["masking"])), order


def train(name, rank, ranks, steps=12):
    generator = torch.Generator().manual_seed(100 + rank)
    model = network(rank, name == "stored")
    pattern = gs.FanIn() if name == "SRigL" else None
    masking = gs.sparsify(model, 0.5, score="random", pattern=pattern, generator=generator)
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    masking.attach(optimizer)
    method = METHODS[name](masking, generator)
    history = [snapshot(masking)]
    for step in range(steps):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        x = x.split(8 // ranks)[rank]
        for part in x.split(len(x) // 2):
            ((wrapped(part) - 1).square().mean() / 2).backward()
        optimizer.step()
        method.step()
        optimizer.zero_grad()
        for part in masking.masked.values():
            moment = optimizer.state[part.parameter]["momentum_buffer"]
            assert not any(tensor[~part.mask].any() for tensor in (part.weight, moment))
        history.append(snapshot(masking))
    return torch.stack(history), torch.cat([p.detach().flatten() for p in model.parameters()])


def snapshot(masking):
    return torch.cat([part.mask.flatten() for part in masking.parts.values()])


torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank, results = distributed.get_rank(), {}
for name in METHODS:
    masks, weights = train(name, rank, 2)
    for mine in (masks.int(), weights):
        everyones = [torch.empty_like(mine) for _ in range(2)]
        distributed.all_gather(everyones, mine)
        assert torch.equal(*everyones), f"{name} differs between the ranks"
    results[name] = {"masks": masks, "weights": weights}
for order in (
    "model optimizer attach masking method",
    "masking attach method model optimizer",
    "model masking optimizer attach method",
):
    resume(rank, order.split())
distributed.destroy_process_group()
if rank == 0:
    for name in ("RigL", "SNFS", "GraNet", "SRigL", "stored"):
        results[name]["alone"], _ = train(name, 0, 1)
    torch.save(results, sys.argv[1])
"""


# The script itself asserts that the ranks agree, and that training resumes in any order of restoring.
@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """What two processes with different seeds found, by method: the masks (steps + 1, weights) and the weights."""
    folder: Path = tmp_path_factory.mktemp("distributed")
    (folder / "train.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | (
        {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    )
    command = [*launch, str(folder / "train.py"), str(folder / "results.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("name", ["SET", "RigL", "SNFS", "GraNet", "GMP", "SRigL", "stored"])
def test_ranks_with_different_seeds_hold_the_same_masks_at_every_step(results, name: str) -> None:
    masks = results[name]["masks"]  # the script compared the ranks'
    assert masks.shape[0] == 13
    assert sum(bool((a != b).any()) for a, b in pairwise(masks)) >= 4
    if name in ("SET", "RigL", "SNFS"):
        assert len(set(masks.sum(1).tolist())) == 1


@pytest.mark.parametrize("name", ["RigL", "SNFS", "GraNet", "SRigL", "stored"])
def test_two_processes_grow_what_one_with_both_halves_of_the_batch_grows(results, name: str) -> None:
    assert torch.equal(results[name]["masks"], results[name]["alone"])
