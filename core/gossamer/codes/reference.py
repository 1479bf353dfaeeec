"""The loops in plain NumPy: what they must compute."""

from itertools import pairwise

import numpy as np


def largest(h: np.ndarray, k: int, values: np.ndarray, atoms: np.ndarray) -> None:
    """Set `values` (n, k) and `atoms` (n, k) to the k largest of each row of h (n, atoms), by ascending atom, ≥ 0."""
    chosen = np.sort(np.argpartition(-h, k - 1, axis=1)[:, :k], axis=1)
    atoms[...] = chosen
    values[...] = np.maximum(np.take_along_axis(h, chosen, 1), 0)


def gather(values: np.ndarray, atoms: np.ndarray, starts: np.ndarray, dictionary: np.ndarray, out: np.ndarray) -> None:
    """Add to each row of `out` (n, width) the atoms of its code: out_i += Σ_j value_ij · atom_j."""
    for i, (start, stop) in enumerate(pairwise(starts)):
        out[i] += values[start:stop] @ dictionary[atoms[start:stop]]


def products(x: np.ndarray, atoms: np.ndarray, starts: np.ndarray, dictionary: np.ndarray, out: np.ndarray) -> None:
    """Set `out` (non-zeros,) to the inner product of each row of x (n, width) with each atom of its code."""
    for i, (start, stop) in enumerate(pairwise(starts)):
        out[start:stop] = dictionary[atoms[start:stop]] @ x[i]


def by_atom(atoms: np.ndarray, starts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The non-zeros in the order of their atoms: (first of each of `count` atoms and the end, places, rows)."""
    order = np.argsort(atoms, kind="stable")
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[order]
    first = np.searchsorted(atoms[order], np.arange(count + 1))
    return first.astype(np.int64), order.astype(np.int32), rows.astype(np.int32)


def scatter(
    values: np.ndarray, first: np.ndarray, places: np.ndarray, rows: np.ndarray, x: np.ndarray, out: np.ndarray
) -> None:
    """Set each atom of `out` (atoms, width) to what its rows of x (n, width) give it: out_j = Σ_i value_ij · x_i."""
    for j, (start, stop) in enumerate(pairwise(first)):
        out[j] = values[places[start:stop]] @ x[rows[start:stop]]


def pursue(start: np.ndarray, gram: np.ndarray, signed: bool, values: np.ndarray, atoms: np.ndarray) -> None:
    """Set `values` (n, k) and `atoms` (n, k), zeros before, to codes by orthogonal matching pursuit, of the products
    `start` (n, atoms) of rows and atoms and those of atoms, `gram`: each time the atom whose product with what is not
    explained is largest, of either sign if `signed`; then all of the chosen by least squares."""
    for i, products in enumerate(start):
        left, chosen = products.astype(np.float64), []
        for n in range(values.shape[1]):
            keys = abs(left) if signed else left
            if keys.max() <= 1e-5 * (abs(products) if signed else products).max() or keys.max() <= 0:
                break
            chosen.append(int(keys.argmax()))
            own = gram[np.ix_(chosen, chosen)].astype(np.float64)
            if np.linalg.matrix_rank(own, 1e-5, hermitian=True) < len(chosen):
                break
            found = np.linalg.solve(own, products[chosen].astype(np.float64))
            values[i, : n + 1], atoms[i, n] = found, chosen[-1]
            left = products - found @ gram[chosen]
            left[chosen] = 0
