import numpy as np
import torch

from gossamer_rl.config import Config
from gossamer_rl.dqn import action_values, errors
from gossamer_rl.replay import Batch
from gossamer_rl.rollouts import play
from gossamer_rl.train import Run, train


def test_values_are_of_the_state_and_what_an_action_has_over_the_mean():
    outputs = torch.tensor([[1.0, 2.0, 6.0]]), torch.tensor([10.0]), torch.zeros(1, 0)
    assert action_values(outputs).tolist() == [[8, 9, 13]]


def test_the_action_is_chosen_by_one_network_and_valued_by_the_other():
    # the first step goes on: 1 + ½ · 7, not ½ · 9; the second is the end
    batch = Batch(
        np.zeros(2), *[torch.zeros(0)] * 3, torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.zeros(0)
    )
    ahead, of_target = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[9.0, 7.0], [9.0, 7.0]])
    assert errors(torch.tensor([5.0, 5.0]), batch, ahead, of_target).tolist() == [0.5, 3.0]


def test_actions_are_at_random_first_and_the_best_later():
    run = Run(Config(agent="dqn", data="CartPole-v1", steps=400, copies=100, horizon=1, minibatch=100, epsilon=0.0))
    seen = run.experience.observe()
    best = run.agent(seen)[0].argmax(1)
    assert 20 < (run.learner.act(seen) == best).sum() < 80
    run.progress.updates = 4
    assert torch.equal(run.learner.act(seen), best)


def test_each_step_is_learned_from_as_often_as_asked():
    run = Run(Config(agent="dqn", data="CartPole-v1", steps=4000, copies=4, horizon=100, minibatch=32, epochs=2))
    gradients = []
    run.learner.learn = lambda: gradients.append(1)
    run.learner.update()
    assert len(gradients) == (100 - 2 - 31) * 4 * 2 // 32  # once four minibatches are known


def test_returns_are_of_one_step_until_the_delay_is_over():
    run = Run(Config(agent="dqn", data="CartPole-v1", steps=4000, copies=4, horizon=100, minibatch=32, delay=0.5))
    run.learner.update()
    asked, draw = [], run.learner.replay.draw
    run.learner.replay.draw = lambda *given: asked.append(given[3]) or draw(*given)
    for updates in (4, 5):
        run.progress.updates = updates
        run.learner.learn()
    assert asked == [1, None]


def test_what_the_agent_would_not_do_again_is_forgotten():
    run = Run(Config(agent="dqn", data="CartPole-v1", steps=4000, copies=4, horizon=100, minibatch=16, agreement=0.7))
    learner = run.learner
    learner.learn = lambda: None
    learner.update()  # at random: half of it is what the agent would do
    assert learner.replay.forgotten == (100 - 2) // 10
    for _ in range(20):
        learner.forget()
    assert 4 * 16 <= len(learner.replay) < 2 * 4 * 16
    before = learner.replay.forgotten
    seen, _ = learner.replay.oldest(20)
    learner.replay.actions[:] = run.agent(seen[:1])[0].argmax(1)
    run.learner.agent.actor[-1].bias.data[learner.replay.actions[0, 0]] += 100  # it would always do that
    learner.forget()
    assert learner.replay.forgotten == before


def test_dqn_crosses_deep_sea():
    config = Config(agent="dqn", data="DeepSea8-v0", steps=30_000, copies=8, horizon=125, minibatch=128, epochs=16)
    run = train(config)
    assert run.progress.solved_after and run.progress.solved_after <= 30_000
    found = play(run.policy.logits, "DeepSea8-v0", range(3), torch.Generator().manual_seed(0))
    assert found.success == 1.0
