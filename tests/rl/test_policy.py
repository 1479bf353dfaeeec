import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch

import gossamer as gs
import gossamer_rl
from gossamer import InputError
from gossamer_rl.agents import ActorCritic
from gossamer_rl.environments import make
from gossamer_rl.policy import Policy


def trained(name: str, sparsity: float = 0.0, memory: bool = False, greedy: bool = False) -> Policy:
    copies, generator = make(name, 1), torch.Generator().manual_seed(0)
    agent = ActorCritic(copies.seen, copies.actions, 16, generator, memory)
    for parameter in agent.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    masks = gs.sparsify(agent, sparsity, generator=generator).masks if sparsity else {}
    return Policy(agent.eval(), name, masks, greedy)


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-6x6-v0", "CartPole-v1", "FrozenLake-v1"])
def test_a_saved_policy_acts_as_before(tmp_path, name):
    policy = trained(name, 0.5)
    policy.save(tmp_path / "policy.gossamer")
    again = gossamer_rl.load(tmp_path / "policy.gossamer")
    copies = make(name, 5)
    copies.reset(0)
    shown = copies.observe()
    expected = policy.agent(torch.from_numpy(shown))[0].detach()
    torch.testing.assert_close(policy.logits(shown)[0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.logits(shown)[0], expected, atol=1e-4, rtol=1e-4)
    assert again.masks.keys() == policy.masks.keys()
    observation, _ = gymnasium.make(name, disable_env_checker=True).reset(seed=1)
    action, _ = again.act(observation, torch.Generator().manual_seed(0))
    assert 0 <= action < copies.actions


def test_other_files_are_refused(tmp_path):
    gs.save(torch.nn.Linear(2, 2), tmp_path / "other.gossamer")
    with pytest.raises(InputError, match="holds no policy"):
        gossamer_rl.load(tmp_path / "other.gossamer")
    with pytest.raises(InputError, match="lost"):
        gossamer_rl.load(tmp_path / "lost.gossamer")


def test_a_policy_goes_where_it_sees_the_same():
    policy = trained("MiniGrid-DoorKey-6x6-v0")
    assert policy.elsewhere("MiniGrid-DoorKey-16x16-v0") == "MiniGrid-DoorKey-16x16-v0"
    with pytest.raises(InputError, match="CartPole"):
        policy.elsewhere("CartPole-v1")


def test_the_exported_actor_agrees(tmp_path):
    policy = trained("MiniGrid-DoorKey-6x6-v0", 0.9)
    policy.export_onnx(tmp_path / "actor.onnx")
    codes = torch.zeros(1, 50, dtype=torch.uint8)
    x = policy.agent.actor[0].one_hot(codes).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "actor.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found, policy.logits(codes.numpy())[0].numpy(), atol=1e-4)


def test_a_saved_policy_remembers_as_the_agent_does(tmp_path):
    policy = trained("MiniGrid-DoorKey-6x6-v0", 0.8, memory=True)
    policy.save(tmp_path / "policy.gossamer")
    again, state, copies = gossamer_rl.load(tmp_path / "policy.gossamer"), None, make("MiniGrid-DoorKey-6x6-v0", 3)
    copies.reset(0)
    whole = policy.agent.begin(3)
    for t in range(5):
        shown = copies.observe()
        logits, state = again.logits(shown, state)
        expected, _, whole = policy.agent(torch.from_numpy(shown), whole)
        torch.testing.assert_close(logits, expected.detach(), atol=1e-4, rtol=1e-4)
        copies.step(np.full(3, t % 3))
    policy.export_onnx(tmp_path / "actor.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "actor.onnx")
    assert len(session.get_inputs()) == len(session.get_outputs()) == 2


def test_a_greedy_policy_takes_the_action_of_the_largest_logit(tmp_path):
    policy = trained("FrozenLake-v1", greedy=True)
    policy.save(tmp_path / "policy.gossamer")
    again, best = gossamer_rl.load(tmp_path / "policy.gossamer"), int(policy.agent(torch.tensor([[3]]))[0].argmax())
    assert [again.act(3, torch.Generator().manual_seed(s))[0] for s in range(20)] == [best] * 20
