import pytest
import torch

import gossamer as gs
from gossamer_rl.agents import ActorCritic, Recurrent, Scaled, width_of_equal_size
from gossamer_rl.observations import Seen, grid_members

VIEW = Seen(grid_members(), 984)


def test_agent_sees_the_one_hot_code():
    codes = torch.randint(0, 4, (5, 50), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    agent = ActorCritic(VIEW, 7, 8, torch.Generator().manual_seed(0))
    logits, values, _ = agent(codes)
    assert logits.shape == (5, 7) and values.shape == (5,)
    x = agent.actor[0].one_hot(codes)
    hidden = torch.tanh(x @ agent.actor[0].weight.T + agent.actor[0].bias)
    torch.testing.assert_close(logits, agent.actor[1:](x @ agent.actor[0].weight.T + agent.actor[0].bias))
    assert hidden.shape == (5, 8)


def test_seed_gives_the_weights_and_the_first_policy_is_nearly_uniform():
    first, second = (ActorCritic(VIEW, 7, 16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    logits, _, _ = first(torch.zeros(1, 50, dtype=torch.uint8))
    torch.testing.assert_close(logits.softmax(1), torch.full((1, 7), 1 / 7), atol=0.01, rtol=0)


def test_numbers_are_scaled_by_all_that_was_shown():
    scaled, x = Scaled(3), torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 4 + 7
    for part in x.split(90):
        scaled.show(part)
    torch.testing.assert_close(scaled.mean, x.mean(0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(scaled.square, x.var(0, correction=0), atol=1e-2, rtol=1e-2)
    assert scaled(torch.full((1, 3), 1e9)).tolist() == [[5, 5, 5]]


@pytest.mark.parametrize(("memory", "expected"), [(False, 7), (True, 9)])
def test_small_dense_agent_has_as_many_parameters_as_the_sparse_one_has_alive(memory, expected):
    agent = ActorCritic(VIEW, 7, 64, memory=memory)
    masking = gs.sparsify(agent, 0.9)
    alive = sum(p.numel() for p in agent.parameters()) - sum(int((~mask).sum()) for mask in masking.masks.values())
    sizes = {w: sum(p.numel() for p in ActorCritic(VIEW, 7, w, memory=memory).parameters()) for w in range(6, 11)}
    nearest = min(sizes, key=lambda w: abs(sizes[w] - alive))
    assert width_of_equal_size(VIEW, 7, 64, 0.9, memory) == nearest == expected
    assert width_of_equal_size(VIEW, 7, 64, 0.0, memory) == 64


def test_memory_is_a_gated_recurrent_unit():
    generator = torch.Generator().manual_seed(0)
    network, twin = Recurrent(Seen(None, 3), 8, 2, 1.0, generator), torch.nn.GRUCell(8, 8)
    twin.weight_ih, twin.bias_ih = network.into.weight, network.into.bias
    twin.weight_hh, twin.bias_hh = network.back.weight, network.back.bias
    for layer in (network.into, network.back):
        layer.bias.data.uniform_(generator=generator)
    shown, state = (torch.randn(5, size, generator=generator) for size in (3, 8))
    found, after = network(shown, state)
    x = torch.tanh(network.first(shown))
    torch.testing.assert_close(after, twin(x, state))
    torch.testing.assert_close(found, network.last(x + after))


@pytest.mark.parametrize("memory", [False, True])
def test_unrolled_steps_are_those_one_by_one_and_an_end_forgets(memory):
    generator = torch.Generator().manual_seed(0)
    agent = ActorCritic(Seen(None, 3), 4, 8, generator, memory)
    shown, ended = torch.randn(6, 5, 3, generator=generator), torch.rand(6, 5, generator=generator) < 0.3
    state = torch.randn(agent.begin(5).shape, generator=generator)
    logits, values = agent.unroll(shown, state, ended)
    for t in range(6):
        now, value, state = agent(shown[t], state)
        torch.testing.assert_close((logits[t], values[t]), (now, value))
        state = state * ~ended[t, :, None]
    assert ended.any() and state.shape == (5, 16 * memory)


def test_the_past_changes_what_an_agent_with_memory_does():
    agent = ActorCritic(VIEW, 7, 16, torch.Generator().manual_seed(0), memory=True)
    first, then = torch.zeros(1, 50, dtype=torch.uint8), torch.ones(1, 50, dtype=torch.uint8)
    _, _, state = agent(first)
    assert not torch.equal(agent(then, state)[0], agent(then)[0])
