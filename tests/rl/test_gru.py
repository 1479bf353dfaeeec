import torch

from gossamer_rl.agents import Recurrent
from gossamer_rl.gru import Steps
from gossamer_rl.observations import Seen


def some(steps=5, n=3, width=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = (steps, n, 3 * width), (3 * width, width), (3 * width,), (n, width)
    parts = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    goes_on = (torch.rand(steps, n, 1, generator=generator) < 0.7).to(dtype)
    assert 0 < goes_on.mean() < 1
    return [part.requires_grad_() for part in parts], goes_on


def test_the_gradient_by_hand_is_that_of_finite_differences():
    parts, goes_on = some()
    assert torch.autograd.gradcheck(lambda *x: Steps.apply(*x, goes_on), parts)


def test_states_and_gradients_equal_those_of_one_step_after_another():
    network = Recurrent(Seen(None, 6), 4, 2, 1.0, torch.Generator().manual_seed(1))
    x = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(2))
    state, goes_on = torch.ones(3, 4), torch.tensor([[1.0, 0, 1]] * 5)
    found = []
    for look in (False, True):
        handle = network.back.register_forward_pre_hook(lambda layer, inputs: None) if look else None
        network.zero_grad()
        outputs, _ = network.unroll(x, state, goes_on)
        outputs.square().sum().backward()
        found.append([outputs.detach(), *(p.grad.clone() for p in network.parameters())])
        if handle:
            handle.remove()
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
