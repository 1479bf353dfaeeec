"""Steps a second of the whole loop of PPO, acting and learning, beside Stable-Baselines3's, on one core.

pip install stable-baselines3
python rl/benchmarks/loops.py --task MiniGrid-DoorKey-8x8-v0

Stable-Baselines3 runs with rl-zoo's settings for MiniGrid (8 environments, 128 steps, minibatches of 64, 10 epochs,
normalised flat observations).
"""

import argparse
import time
from statistics import median

import gymnasium
import torch
from minigrid.wrappers import FlatObsWrapper
from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # pyright: ignore[reportMissingImports]

from gossamer_rl.config import Config
from gossamer_rl.train import Run

UPDATES = 5

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="MiniGrid-DoorKey-8x8-v0")
options = parser.parse_args()
torch.set_num_threads(1)

peer = PPO(
    "MlpPolicy",
    VecNormalize(DummyVecEnv([lambda: FlatObsWrapper(gymnasium.make(options.task))] * 8)),
    n_steps=128,
    batch_size=64,
    n_epochs=10,
    ent_coef=0.0,
    learning_rate=2.5e-4,
    device="cpu",
)
peer.learn(1024)
start = time.perf_counter()
peer.learn(UPDATES * 1024)
theirs = UPDATES * 1024 / (time.perf_counter() - start)
print(f"stable-baselines3: {theirs:,.0f} steps a second")
for memory in (False, True):
    config = Config(data=options.task, steps=2_000_000, memory=memory)
    run, seconds = Run(config), []
    run.step()  # compiled now
    for _ in range(UPDATES):
        before = run.progress.seconds
        run.step()
        seconds.append(run.progress.seconds - before)
    ours = config.copies * config.horizon / median(seconds)
    print(f"gossamer{', with memory' * memory}: {ours:,.0f} steps a second, {ours / theirs:.1f} times as many")
