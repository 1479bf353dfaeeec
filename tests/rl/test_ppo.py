import math

import pytest
import torch

from gossamer_rl.config import Config
from gossamer_rl.policy import load
from gossamer_rl.ppo import Rollout, advantages, ppo_loss, sequences
from gossamer_rl.train import Run


def rollout(rewards: list[float], values: list[float], ended: list[bool], next_value: float) -> Rollout:
    column = [torch.tensor(x)[:, None] for x in (values, rewards, ended)]
    none = torch.zeros(0)
    return Rollout(none, none, none, *column, torch.tensor([next_value]), none)


def test_advantages_by_hand():
    # δ = 0 + ½·2 − 1, 1 + ½·4 − 2, 0 + ½·8 − 4 = 0, 1, 0 and A = 0 + ¼·1, 1 + ¼·0, 0
    result = advantages(rollout([0.0, 1.0, 0.0], [1.0, 2.0, 4.0], [False] * 3, 8.0), discount=0.5, trace=0.5)
    assert result[:, 0].tolist() == [0.25, 1.0, 0.0]


def test_nothing_is_carried_over_the_end_of_an_episode():
    # δ₁ = 1 − 2 without the next episode's value; A₀ = 0 + ¼ · −1
    result = advantages(rollout([0.0, 1.0, 0.0], [1.0, 2.0, 4.0], [False, True, False], 8.0), 0.5, 0.5)
    assert result[:, 0].tolist() == [-0.25, -1.0, 0.0]


def test_the_return_of_a_bonus_apart_goes_on_beyond_the_end_of_an_episode():
    one = rollout([0.0, 1.0, 0.0], [1.0, 2.0, 4.0], [False, True, False], 8.0)
    both = one._replace(
        **{name: torch.stack([getattr(one, name)] * 2, -1) for name in ("rewards", "values", "next_values")}
    )
    result = advantages(both, 0.5, 0.5)
    assert result[:, 0].T.tolist() == [[-0.25, -1.0, 0.0], [0.25, 1.0, 0.0]]


@pytest.mark.parametrize("memory", [False, True])
def test_rnd_is_valued_apart_and_its_agent_is_kept(memory, tmp_path):
    steps = 2 * 4 * 32
    config = Config(
        data="MiniGrid-Empty-5x5-v0", exploration="rnd", copies=4, horizon=32, steps=steps, width=8, memory=memory
    )
    run = Run(config)
    run.experience.environment.worlds.state.steps[:] = 95  # all are cut off five steps on
    run.experience.bonus.scale = 1.0
    rollout = run.learner.collect()
    assert rollout.rewards.shape == rollout.values.shape == (32, 4, 2) and rollout.ended[4].all()
    task, bonus = rollout.rewards.unbind(2)
    assert (bonus >= 0).all() and bonus.count_nonzero() > 32
    assert (task[4] != 0).all() and task[:4].count_nonzero() == 0  # the value of what would have come
    before = {name: value.clone() for name, value in run.agent.critic.state_dict().items()}
    run.learner.improve(rollout)
    assert any(not torch.equal(before[name], value) for name, value in run.agent.critic.state_dict().items())
    run.policy.save(tmp_path / "policy.gossamer")
    kept = load(tmp_path / "policy.gossamer").agent
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in run.agent.state_dict().items())


def test_loss_by_hand():
    # ρ = 2, ½ and A = 1, −1: min(2, 1.2) = 1.2 and min(−½, −0.8) = −0.8; ½ · mean(1, 9) = 2.5; entropy term 0.3
    loss = ppo_loss(
        torch.tensor([math.log(2), math.log(0.5)]),
        torch.zeros(2),
        torch.tensor([1.0, -1.0]),
        torch.tensor([0.0, 3.0]),
        torch.tensor([1.0, 0.0]),
        0.3,
    )
    assert loss.item() == pytest.approx(2.5 - 0.2 - 0.3)


def test_sequences_keep_their_steps_in_order():
    x = torch.arange(8).reshape(4, 2)  # step, copy: 0 1 / 2 3 / 4 5 / 6 7
    assert sequences(x, 2).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert sequences(x, 1).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("memory", [False, True])
def test_before_it_has_learned_the_agent_says_again_what_it_said_in_the_rollout(memory):
    run = Run(Config(data="MiniGrid-Empty-5x5-v0", copies=3, horizon=96, width=8, memory=memory, minibatch=64))
    run.experience.environment.worlds.state.steps[:] = 90  # ends within sequences
    rollout, learner = run.learner.collect(), run.learner
    cut = [sequences(x, learner.length) for x in (rollout.observations, rollout.ended, rollout.actions)]
    logits, values = run.agent.unroll(cut[0], rollout.states.flatten(0, 1), cut[1])
    said = logits.log_softmax(2).gather(2, cut[2][:, :, None])[:, :, 0]
    assert rollout.ended.any()
    torch.testing.assert_close(said, sequences(rollout.log_probabilities, learner.length), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values, sequences(rollout.values, learner.length), atol=1e-5, rtol=1e-5)
