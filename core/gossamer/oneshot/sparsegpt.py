"""SparseGPT: the weights that stay make up for those that go, by the inverse of the layer's Hessian."""

import torch
from torch import Tensor

from gossamer.errors import InputError, of_type, positive, whole
from gossamer.oneshot.solver import Solver, refuse_pattern
from gossamer.patterns import NofM, Pattern, best, best_of_rows


class SparseGPT(Solver):
    """argmin ‖W X − (M ∘ Ŵ) X‖² column by column (Frantar & Alistarh 2023).

    With H = X Xᵀ + damping · mean(diag X Xᵀ) · I and U the upper Cholesky factor of H⁻¹, column j of the weights is
    pruned by w² / U_jj², and each error e = (w − ŵ) / U_jj is taken off the columns after it: W[:, j:] −= e U[j, j:].
    The mask is chosen for `block` columns at a time, for n:m for m. An input that is always zero loses its weights.

    Time is O(inputs³ + outputs · inputs²), memory three inputs² matrices of float32 beside the weights.
    """

    def __init__(self, *, block: int = 128, damping: float = 0.01) -> None:
        whole(1, block=block)
        of_type((int, float), "a number", damping=damping)
        positive(damping=damping)
        self.block, self.damping = block, damping

    def observed(self, x: Tensor, statistic: Tensor | None) -> Tensor:
        """X Xᵀ, of shape (inputs, inputs)."""
        return x.T @ x if statistic is None else statistic.addmm_(x.T, x)

    def solve(self, weight: Tensor, statistic: Tensor, pattern: Pattern, count: int) -> tuple[Tensor, Tensor]:
        """The adjusted weights and their mask."""
        refuse_pattern(pattern, "SparseGPT")
        columns = weight.shape[1]
        weight, mask = weight.clone(), torch.ones_like(weight, dtype=torch.bool)
        unused = statistic.diagonal() == 0
        weight[:, unused] = 0
        inverse = self.factor(statistic)
        width = self.block if not isinstance(pattern, NofM) else -(-self.block // pattern.m) * pattern.m
        gone, dead = 0, weight.numel() - count
        for start in range(0, columns, width):
            stop = min(columns, start + width)
            part, factor = weight[:, start:stop], inverse[start:stop, start:stop]
            errors, here = torch.empty_like(part), mask[:, start:stop]
            if not isinstance(pattern, NofM):
                now = round(dead * stop / columns) - gone
                gone += now
                here.copy_(best(part.square() / factor.diagonal().square(), part.numel() - now))
            for j in range(stop - start):
                if isinstance(pattern, NofM) and j % pattern.m == 0:
                    group = slice(j, j + pattern.m)
                    here[:, group] = best_of_rows(
                        part[:, group].square() / factor.diagonal()[group].square(), pattern.n
                    )
                kept = torch.where(here[:, j], part[:, j], 0)
                errors[:, j] = (part[:, j] - kept) / factor[j, j]
                part[:, j + 1 :].addr_(errors[:, j], factor[j, j + 1 :], alpha=-1)
                part[:, j] = kept
            weight[:, stop:].addmm_(errors, inverse[start:stop, stop:], alpha=-1)
        return weight, mask

    def factor(self, hessian: Tensor) -> Tensor:
        """The upper Cholesky factor of the damped Hessian's inverse; `InputError` where the inputs are not finite."""
        hessian = hessian.clone()
        diagonal = hessian.diagonal()
        mean = diagonal.mean()
        if not mean.isfinite():
            raise InputError("a layer's inputs are not finite; look for NaN in the batches or weights.")
        diagonal[diagonal == 0] = 1
        diagonal += self.damping * mean
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian, out=hessian), out=hessian)
        return torch.linalg.cholesky(inverse, upper=True)
