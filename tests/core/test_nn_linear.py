"""Linear layers with sparse storage."""

import copy
import io

import pytest
import torch
from torch import nn

from gossamer import InputError, kernels
from gossamer.nn import operators
from gossamer.nn.linear import SparseLinear
from gossamer.nn.storage import moved


@pytest.fixture
def pair():
    """A masked dense layer and its sparse copy, and the mask."""
    generator = torch.Generator().manual_seed(0)
    dense = nn.Linear(20, 12)
    mask = torch.rand(12, 20, generator=generator) < 0.3
    sparse = SparseLinear.from_dense(dense, mask)
    with torch.no_grad():
        dense.weight.mul_(mask)
    return dense, sparse, mask


def test_agrees_with_the_masked_dense_layer(pair):
    dense, sparse, mask = pair
    for shape in ((20,), (3, 20), (2, 5, 20), (200, 20), (0, 20)):
        x = torch.randn(shape)
        first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = dense(first), sparse(second)
        gradient = torch.randn_like(y)
        dense.zero_grad(), sparse.zero_grad()
        y.backward(gradient), z.backward(gradient)
        torch.testing.assert_close(z, y)
        torch.testing.assert_close(second.grad, first.grad)
        torch.testing.assert_close(sparse.values.grad, dense.weight.grad[mask], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sparse.bias.grad, dense.bias.grad)


def test_stores_its_non_zeros_alone(pair):
    _, sparse, mask = pair
    count = int(mask.sum())
    assert {name: tuple(p.shape) for name, p in sparse.named_parameters()} == {"values": (count,), "bias": (12,)}
    assert sparse.positions.dtype == torch.int32
    optimizer = torch.optim.Adam(sparse.parameters())
    sparse(torch.randn(3, 20)).sum().backward()
    optimizer.step()
    assert optimizer.state[sparse.values]["exp_avg"].shape == (count,)
    assert sparse.mask.equal(mask)
    assert sparse.density == count / 240


def test_without_a_mask_keeps_what_is_not_zero():
    dense = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[1.0, 0, 2], [0, 0, 3]]))
    sparse = SparseLinear.from_dense(dense)
    assert sparse.values.tolist() == [1, 2, 3]
    assert sparse.positions.tolist() == [0, 2, 5]
    assert sparse(torch.tensor([1.0, 1, 10])).tolist() == [21, 30]
    back = sparse.to_dense()
    assert back.weight.equal(dense.weight) and back.bias is None


def test_gradients_in_float64(pair):
    sparse = pair[1].double()
    x = torch.randn(4, 20, dtype=torch.float64, requires_grad=True)

    def run(x, values, bias):
        return operators.linear(x, values, sparse.positions, bias, 12)

    assert torch.autograd.gradcheck(run, (x, sparse.values, sparse.bias))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck, in torch 2.14
def test_the_operators_are_sound(pair):
    _, sparse, _ = pair
    x = torch.randn(4, 20, requires_grad=True)
    arguments = (x, sparse.values, sparse.positions, sparse.bias, 12)
    torch.library.opcheck(torch.ops.gossamer.linear.default, arguments)
    gradient = torch.randn(4, 12)
    back = (gradient, x.detach(), sparse.values.detach(), sparse.positions, True, True)
    torch.library.opcheck(torch.ops.gossamer.linear_backward.default, back)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiles_and_exports(pair):
    _, sparse, _ = pair
    x = torch.randn(4, 20, requires_grad=True)
    expected = sparse(x)
    compiled = torch.compile(sparse, fullgraph=True, backend="aot_eager")
    y = compiled(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    torch.testing.assert_close(x.grad, sparse.weight.sum(0).expand(4, 20))
    exported = torch.export.export(sparse, (x.detach(),), dynamic_shapes=({0: torch.export.Dim("n")},))
    z = torch.randn(7, 20)
    torch.testing.assert_close(exported.module()(z), sparse(z))


def test_copies_and_saved_states_are_whole(pair):
    _, sparse, _ = pair
    x = torch.randn(4, 20)
    expected = sparse(x)
    assert copy.deepcopy(sparse)(x).equal(expected)
    buffer = io.BytesIO()
    torch.save(sparse, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False)(x).equal(expected)
    other = SparseLinear(torch.randn(12, 20), torch.rand(12, 20) < 0.1, torch.zeros(12))
    parameter = other.values
    other.load_state_dict(sparse.state_dict())
    assert other(x).equal(expected)
    assert other.values is parameter


@pytest.mark.parametrize(
    "positions,values,message",
    [
        ([0, 1, 240], [1.0, 2, 3], "at most 239"),
        ([-1, 1, 2], [1.0, 2, 3], "from 0"),
        ([0, 2, 2], [1.0, 2, 3], "must ascend"),
        ([5, 4, 3], [1.0, 2, 3], "must ascend"),
        ([0, 1], [1.0, 2, 3], r"\(3,\) values for \(2,\) positions"),
        ([[0, 1, 2]], [[1.0, 2, 3]], "list of integers"),
        ([0.0, 1, 2], [1.0, 2, 3], "list of integers"),
        (None, [1.0, 2, 3], "without the other"),
    ],
)
def test_saved_states_that_make_no_sense_leave_the_layer_untouched(pair, positions, values, message):
    _, sparse, _ = pair
    x = torch.randn(4, 20)
    expected = sparse(x)
    state = sparse.state_dict() | {"values": torch.tensor(values)}
    if positions is None:
        del state["positions"]
    else:
        state["positions"] = torch.tensor(positions)
    with pytest.raises(RuntimeError, match=message):
        nn.Sequential(sparse).load_state_dict({f"0.{name}": tensor for name, tensor in state.items()}, strict=False)
    assert sparse(x).equal(expected)


def test_moves_its_topology():
    sparse = SparseLinear(torch.tensor([[1.0, 0, 2, 0], [0, 3, 0, 4]]))
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0, momentum=0.5)
    sparse(torch.tensor([1.0, 2, 3, 4])).sum().backward()
    optimizer.step()
    assert optimizer.state[sparse.values]["momentum_buffer"].tolist() == [1, 3, 2, 4]
    parameter = sparse.values
    source = sparse.move(drop=sparse.weight == 2, grow=torch.tensor([4]))
    assert sparse.weight.tolist() == [[1, 0, 0, 0], [0, 3, 0, 4]]
    assert sparse.mask.tolist() == [[True, False, False, False], [True, True, False, True]]
    assert source.tolist() == [0, -1, 2, 3]
    assert moved(optimizer.state[sparse.values]["momentum_buffer"], source).tolist() == [1, 0, 2, 4]
    assert sparse.values is parameter and sparse.values.grad is None
    assert sparse(torch.tensor([1.0, 2, 3, 4])).tolist() == [1, 22]


def test_moves_that_make_no_sense_are_refused():
    sparse = SparseLinear(torch.tensor([[1.0, 0, 2, 0]]))
    for drop, grow in (([0], [1, 3]), ([1], [3]), ([0], [2])):
        with pytest.raises(InputError, match="drop living ones"):
            sparse.move(torch.tensor(drop), torch.tensor(grow))
    with pytest.raises(InputError, match="1 among them"):
        SparseLinear(torch.zeros(1, 4)).move(torch.tensor([1]), torch.tensor([2]))
    with pytest.raises(InputError, match="is made from a Linear"):
        SparseLinear.from_dense(nn.Conv1d(2, 2, 1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="index 4"):
        sparse.move(torch.tensor([0]), torch.tensor([4]))
    with pytest.raises(InputError, match=r"drop has shape \(4,\)"):
        sparse.move(torch.ones(4, dtype=torch.bool), torch.tensor([1]))
    with pytest.raises(InputError, match="mask has shape"):
        SparseLinear(torch.ones(2, 3), torch.ones(3, 2))
    assert sparse.weight.tolist() == [[1, 0, 2, 0]]


def test_dense_gradient_comes_when_it_is_asked_for(pair):
    dense, sparse, mask = pair
    x, gradient = torch.randn(5, 20), torch.randn(5, 12)
    sparse(x).backward(gradient)
    assert sparse.dense_grad is None
    sparse.wants_dense_grad = True
    for _ in range(2):
        sparse(x).backward(gradient)
    dense(x).backward(gradient)
    torch.testing.assert_close(sparse.dense_grad, 2 * dense.weight.grad)
    sparse.move(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
    assert sparse.dense_grad is None and not sparse.wants_dense_grad
    assert sparse.mask.equal(mask)


def test_inputs_of_other_sizes_are_refused(pair):
    sparse = pair[1]
    for x in (torch.zeros(2, sparse.in_features + 1), torch.zeros(2, sparse.in_features - 1).double()):
        with pytest.raises(InputError, match=f"the layer takes {sparse.in_features}"):
            sparse(x)


def test_trains_under_autocast():
    model = nn.Sequential(nn.Linear(6, 8), SparseLinear.from_dense(nn.Linear(8, 4), torch.rand(4, 8) < 0.5))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(3, 6)).float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.any() for p in model.parameters())


def test_a_topology_written_anew_but_unchanged_is_prepared_once():
    sparse = SparseLinear.from_dense(nn.Linear(8, 4), torch.rand(4, 8) < 0.5)
    sparse(torch.ones(1, 8))
    before = {id(entry[-1]) for entry in operators.structures.entries.values()}
    sparse.positions.copy_(sparse.positions.clone())  # as DDP does at every step
    sparse(torch.ones(1, 8))
    assert {id(entry[-1]) for entry in operators.structures.entries.values()} == before


def test_a_layer_without_weights_gives_its_bias():
    sparse = SparseLinear(torch.zeros(3, 4), bias=torch.tensor([1.0, 2, 3]))
    x = torch.randn(5, 4, requires_grad=True)
    y = sparse(x)
    assert y.equal(torch.tensor([1.0, 2, 3]).expand(5, 3))
    y.sum().backward()
    assert not x.grad.any()


@pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")
def test_structures_are_forgotten_with_their_topology():
    sparse = SparseLinear(torch.tensor([[1.0, 0, 2, 0]]))
    sparse(torch.ones(4))
    before = set(operators.structures.entries)
    sparse.move(torch.tensor([0]), torch.tensor([1]))
    assert sparse(torch.ones(4)).tolist() == [2]
    gone = before - set(operators.structures.entries)
    assert len(gone) == 1
    sparse.positions[0] = 3  # in place: the version tells
    assert sparse.positions.tolist() == [3, 2]
