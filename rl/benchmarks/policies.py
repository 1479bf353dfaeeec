"""Milliseconds of a compiled policy, dense and 90% sparse, beside PyTorch's own, for 1 and 64 observations on one core.

python rl/benchmarks/policies.py
"""

import warnings

import torch

import gossamer as gs
from gossamer.measure import latency
from gossamer_rl.agents import ActorCritic
from gossamer_rl.environments import make
from gossamer_rl.policy import plain_input

torch.set_num_threads(1)
warnings.simplefilter("ignore")
copies = make("MiniGrid-DoorKey-8x8-v0", 64)
copies.reset(0)
for memory in (False, True):
    times = {}
    for sparsity in (0.0, 0.9):
        agent = ActorCritic(copies.seen, copies.actions, 64, torch.Generator().manual_seed(0), memory).eval()
        masks = gs.sparsify(agent, sparsity, score="random", include=("actor.*",)).masks if sparsity else {}
        actor = plain_input(agent.actor).eval()
        for batch in (1, 64):
            x = (torch.rand(batch, copies.seen.size) < 0.15).float()
            arguments = (x, torch.rand(batch, 64)) if memory else (x,)
            engine = gs.compile(actor, arguments, masks={n.removeprefix("actor."): m for n, m in masks.items()})
            times[sparsity, batch] = latency(lambda call=engine, given=arguments: call(*given))
            if not sparsity:
                with torch.no_grad():
                    times["torch", batch] = latency(lambda call=actor, given=arguments: call(*given))
    for batch in (1, 64):
        dense, sparse, eager = times[0.0, batch], times[0.9, batch], times["torch", batch]
        print(
            f"{'memory' if memory else 'no memory'}, batch {batch}: dense {dense:.4f} ms, 90% sparse {sparse:.4f} ms "
            f"({dense / sparse:.2f} times as fast), PyTorch {eager:.4f} ms"
        )
