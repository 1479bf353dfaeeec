import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer_rl.agents import Recurrent
from gossamer_rl.centred import CentredRigL, CentredSET
from gossamer_rl.observations import Seen


def centred(network: nn.Module, every: int = 1) -> tuple[CentredRigL, torch.optim.Optimizer]:
    masking = gs.sparsify(network, 0.5, score="random", include=("*",), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    masking.attach(optimizer)
    return CentredRigL(masking, network, every=every, until=100), optimizer


def test_scores_by_hand():
    # inputs (1, 0), (1, 1) and δ = 1, −3: g = (−2, −3), of the bias −2, x̄ = (1, ½): (0, |−3 + 1|)
    network = nn.Sequential(nn.Linear(2, 1))
    method, _ = centred(network)
    outputs = network(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    (outputs[:, 0] * torch.tensor([1.0, -3.0])).sum().backward()
    assert method.grow_scores("0.weight").tolist() == [[0, 2]]


def test_of_a_layer_called_at_every_step_the_inputs_of_all_steps_count():
    network = Recurrent(Seen(None, 3), 4, 2, 1.0, torch.Generator().manual_seed(0))
    method, _ = centred(network)
    generator = torch.Generator().manual_seed(1)
    shown, seen = torch.randn(6, 5, 3, generator=generator), []
    handle = network.back.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    network.unroll(shown, torch.zeros(5, 4), torch.ones(6, 5))[0].square().sum().backward()
    handle.remove()
    gradient, bias = method.gradient("back.weight"), network.back.bias.grad
    assert bias is not None
    expected = (gradient - torch.outer(bias, torch.cat(seen).mean(0))).abs()
    torch.testing.assert_close(method.grow_scores("back.weight"), expected)


def test_it_looks_only_in_the_step_before_an_update_and_keeps_the_count():
    network = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    method, optimizer = centred(network, every=3)
    counts, looked = method.masking.counts, []
    for _ in range(6):
        looked.append(len(network[0]._forward_pre_hooks))
        optimizer.zero_grad()
        network(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
        method.step()
    assert looked == [0, 0, 1, 0, 0, 1] and method.masking.counts == counts


def test_what_is_dropped_by_hand():
    # inputs (1, 0), (1, 2): deviations 0 and 1
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    masking = gs.sparsify(network, 0.0, include=("*",))
    masking.attach(torch.optim.SGD(network.parameters(), 0.1))
    method = CentredSET(masking, network, every=1, until=100)
    network[0].weight.data = torch.tensor([[9.0, 0.5], [-8.0, -3.0]])
    network(torch.tensor([[1.0, 0.0], [1.0, 2.0]])).sum().backward()
    assert method.drop_scores("0.weight").tolist() == [[0, 0.5], [0, 3]]
    method.load_state_dict(method.state_dict())
    method.moments["0.weight"] = [torch.tensor([[0.0, 0.0], [0.25, 0.0]])]  # σ² = ¼, and 0 after 1
    rarer = torch.tensor([[4.5, 0.5 * 0.9**0.5], [4, 3 * 0.9**0.5]])
    torch.testing.assert_close(method.drop_scores("0.weight"), rarer)


@pytest.mark.parametrize("kind", [CentredSET, CentredRigL])
def test_weights_move_to_the_inputs_that_change(kind):
    network, generator = nn.Sequential(nn.Linear(40, 8)), torch.Generator().manual_seed(0)
    masking = gs.sparsify(network, 0.8, score="random", include=("*",), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    masking.attach(optimizer)
    method = kind(masking, network, every=2, until=100, generator=generator)
    assert 0.3 < masking.masks["0.weight"][:, 20:].sum() / 64 < 0.7
    for _ in range(100):
        x = torch.randn(16, 40, generator=generator)
        x[:, :10], x[:, 10:20] = 0, 1
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()
        method.step()
    assert masking.counts["0.weight"] == 64 and masking.masks["0.weight"][:, 20:].sum() > 56


def test_an_input_that_never_changes_is_no_reason_to_grow():
    network = nn.Sequential(nn.Linear(3, 2))
    method, _ = centred(network)
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 5.0
    network(x).exp().sum().backward()
    scores = method.grow_scores("0.weight")
    assert (scores[:, 1] < 1e-3 * scores[:, [0, 2]].amin()).all()
    gradient = method.gradient("0.weight").abs()
    assert (gradient[:, 1] > gradient[:, [0, 2]].amax(1)).all()  # by which it would grow first
