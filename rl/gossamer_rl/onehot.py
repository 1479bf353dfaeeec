"""A linear layer over one-hot codes, which adds up the few columns of its weight that are looked at."""

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

_loop = njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy", nogil=True)


@_loop
def _number(codes: np.ndarray, place: np.ndarray) -> int:
    """Number the pairs (column, code) that occur in codes [n, columns]: place[column, code] is −1 or the number."""
    count = 0
    place[:] = -1
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            if place[j, codes[i, j]] < 0:
                place[j, codes[i, j]] = count
                count += 1
    return count


@_loop
def _sums(place: np.ndarray, members: np.ndarray, rows: np.ndarray, sums: np.ndarray) -> None:
    """sums[place[column, code]] = the sum of the rows that are members of it."""
    for j in range(place.shape[0]):
        for code in range(place.shape[1]):
            if place[j, code] >= 0:
                total = sums[place[j, code]]
                for row in members[j, code]:
                    if row >= 0:
                        for h in range(rows.shape[1]):
                            total[h] += rows[row, h]


@_loop
def _gather(codes: np.ndarray, place: np.ndarray, sums: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """out[i] = bias + the sum over columns of sums[place[column, codes[i, column]]]."""
    columns, width = codes.shape[1], out.shape[1]
    last = columns - columns % 4
    for i in range(len(codes)):
        for h in range(width):
            out[i, h] = bias[h]
        for j in range(0, last, 4):
            a, b = np.uint32(place[j, codes[i, j]]), np.uint32(place[j + 1, codes[i, j + 1]])
            c, d = np.uint32(place[j + 2, codes[i, j + 2]]), np.uint32(place[j + 3, codes[i, j + 3]])
            for h in range(width):
                out[i, h] += (sums[a, h] + sums[b, h]) + (sums[c, h] + sums[d, h])
        for j in range(last, columns):
            a = np.uint32(place[j, codes[i, j]])
            for h in range(width):
                out[i, h] += sums[a, h]


@_loop
def _scatter(codes: np.ndarray, place: np.ndarray, gradient: np.ndarray, sums: np.ndarray) -> None:
    """sums[place[column, codes[i, column]]] += gradient[i]: the transpose of `_gather`."""
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            a = np.uint32(place[j, codes[i, j]])
            for h in range(gradient.shape[1]):
                sums[a, h] += gradient[i, h]


@_loop
def _spread(place: np.ndarray, members: np.ndarray, sums: np.ndarray, rows: np.ndarray) -> None:
    """rows[member] += sums[place]: the transpose of `_sums`."""
    for j in range(place.shape[0]):
        for code in range(place.shape[1]):
            if place[j, code] >= 0:
                own = sums[place[j, code]]
                for row in members[j, code]:
                    if row >= 0:
                        for h in range(rows.shape[1]):
                            rows[row, h] += own[h]


@_loop
def _light(codes: np.ndarray, members: np.ndarray, x: np.ndarray) -> None:
    """Set x[i, member] to 1 for every member of the codes of row i."""
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            for member in members[j, codes[i, j]]:
                if member >= 0:
                    x[i, member] = 1.0


class _Gather(torch.autograd.Function):
    """y = W x + b for x the one-hot code, by the rows of Wᵀ that x looks at."""

    @staticmethod
    def forward(ctx, weight, bias, codes, members):  # pyright: ignore[reportIncompatibleMethodOverride]
        rows = np.ascontiguousarray(weight.detach().numpy().T)
        place = np.empty(members.shape[:2], np.int32)
        sums = np.zeros((_number(codes.numpy(), place), rows.shape[1]), np.float32)
        _sums(place, members, rows, sums)
        out = bias.new_empty(len(codes), len(bias))
        _gather(codes.numpy(), place, sums, bias.detach().numpy(), out.numpy())
        ctx.saved = codes, place, members, weight.shape, len(sums)
        return out

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        codes, place, members, shape, count = ctx.saved
        gradient = gradient.contiguous()
        sums, rows = np.zeros((count, shape[0]), np.float32), np.zeros((shape[1], shape[0]), np.float32)
        _scatter(codes.numpy(), place, gradient.numpy(), sums)
        _spread(place, members, sums, rows)
        return torch.from_numpy(rows).T, gradient.sum(0), None, None


class OneHotLinear(nn.Linear):
    """y = W x + b, where x is made of groups of one-hot codes, one group a column.

    `members` [columns, vocabulary, m] says which inputs of the layer are 1 for each code of each column, −1 for none.
    `forward` takes codes [n, columns], bytes below the vocabulary; a row costs columns · outputs additions in place of
    inputs · outputs multiplications, as each pair (column, code) that occurs in the batch is summed over its members
    once. On a GPU, and where the layer is traced, it is `one_hot` and a matrix product, which is also its plain twin.
    """

    members: Tensor

    def __init__(self, members: np.ndarray, outputs: int) -> None:
        super().__init__(int(members.max()) + 1, outputs)
        self.register_buffer("members", torch.from_numpy(members.astype(np.int32)), persistent=False)

    def one_hot(self, codes: Tensor) -> Tensor:
        """Codes [n, columns] as the floats [n, inputs] that they stand for."""
        found = self.members[torch.arange(codes.shape[1], device=codes.device), codes.long()].flatten(1).long()
        x = torch.zeros(len(codes), self.in_features + 1, device=codes.device)
        return x.scatter_(1, torch.where(found < 0, self.in_features, found), 1.0)[:, :-1]

    def lit(self, codes: np.ndarray) -> np.ndarray:
        """As `one_hot`, of arrays on the CPU: a few microseconds for one row."""
        x = np.zeros((len(codes), self.in_features), np.float32)
        _light(codes, self.members.numpy(), x)
        return x

    def forward(self, input: Tensor) -> Tensor:
        """Codes [n, columns] to [n, outputs]."""
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(self.one_hot(input))
        return _Gather.apply(self.weight, self.bias, input.contiguous(), self.members.numpy())  # pyright: ignore
