import torch
from torch.nn.functional import one_hot as torch_one_hot

import gossamer as gs
from gossamer_rl.agents import ActorCritic, one_hot, width_of_equal_size


def test_code_of_a_cell():
    locked_yellow_door = one_hot()[(4 * 6 + 4) * 3 + 2]
    assert locked_yellow_door.nonzero().flatten().tolist() == [4, 11 + 4, 11 + 6 + 2]


def test_agent_sees_the_one_hot_code_cell_by_cell():
    views = torch.randint(0, 3, (5, 7, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    agent = ActorCritic(8, torch.Generator().manual_seed(0))
    columns = views.long().unbind(-1)
    code = torch.cat([torch_one_hot(c, n) for c, n in zip(columns, (11, 6, 3), strict=True)], dim=-1)
    logits, values = agent(views)
    assert logits.shape == (5, 7) and values.shape == (5,)
    torch.testing.assert_close(logits, agent.actor(code.flatten(1).float()))
    torch.testing.assert_close(values, agent.critic(code.flatten(1).float())[:, 0])


def test_seed_gives_the_weights_and_the_first_policy_is_nearly_uniform():
    first, second = (ActorCritic(16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    logits, _ = first(torch.zeros(1, 7, 7, 3, dtype=torch.uint8))
    torch.testing.assert_close(logits.softmax(1), torch.full((1, 7), 1 / 7), atol=0.01, rtol=0)


def test_small_dense_agent_has_as_many_parameters_as_the_sparse_one_has_alive():
    agent = ActorCritic(64)
    masking = gs.sparsify(agent, 0.9)
    alive = sum(p.numel() for p in agent.parameters()) - sum(int((~mask).sum()) for mask in masking.masks.values())
    sizes = {w: sum(p.numel() for p in ActorCritic(w).parameters()) for w in (6, 7, 8)}
    assert width_of_equal_size(64, 0.9) == min(sizes, key=lambda w: abs(sizes[w] - alive)) == 7
    assert width_of_equal_size(64, 0.0) == 64
