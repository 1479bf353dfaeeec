"""The loops compiled by Numba; `reference` says what each computes. Rows, or atoms, are spread over threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from gossamer.kernels.threads import spread

GROUP = 16  # codes whose maximum is looked at first
EXPLAINED = 1e-5  # share below which nothing is left of a row, or of an atom beside those that were chosen
SORTED = 4  # with fewer than this many codes for each one chosen, rows are selected from whole


def compiled(loop: Callable) -> Any:
    """The loop as machine code that holds no lock, kept on disk where there is a place for it."""
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc", "nnan", "arcp"}}
    try:
        return njit(cache=True, **options)(loop)
    except RuntimeError:  # neither this folder nor the home can be written
        return njit(**options)(loop)


@compiled
def _kth(keys, count, k):
    """The k-th largest of the first `count` integers, or one that exactly k reach; bisection counts in vectors."""
    low, high = np.int64(keys[0]), np.int64(keys[0])
    for j in range(count):
        low, high = min(low, np.int64(keys[j])), max(high, np.int64(keys[j]))
    low -= 1
    while high - low > 1:
        middle = np.int32((low + high) >> 1)
        above = np.int32(0)
        for j in range(count):
            above += np.int32(keys[j] > middle)
        if above == k:
            return np.int32(middle + 1)
        if above > k:
            low = np.int64(middle)
        else:
            high = np.int64(middle)
    return np.int32(high)


@compiled
def _reaching(keys, count, least, place):
    """Set `place` to where keys reach `least`; return how many do."""
    n = 0
    for j in range(count):
        place[n] = j
        n += keys[j] >= least
    return n


@compiled
def _largest(h, k, values, atoms, first, last):
    """At least k of the maxima of groups reach the k-th largest maximum, so no smaller code is among the k largest.

    Codes are compared as integers in the order of their numbers.
    """
    width = h.shape[1]
    groups = width // GROUP
    narrow = groups < SORTED * k // 2 or groups <= k
    keys, tops, near = np.empty(width, np.int32), np.empty(groups + 1, np.int32), np.empty(width, np.int32)
    place, chosen = np.empty(width + 1, np.int32), np.empty(width + 1, np.int32)
    for i in range(first, last):
        bits = h[i].view(np.int32)
        for j in range(width):
            keys[j] = bits[j] ^ ((bits[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        if narrow:
            least = _kth(keys, width, k)
            count = _reaching(keys, width, least, place)
        else:
            for g in range(groups):
                top = keys[g * GROUP]
                for j in range(1, GROUP):
                    top = max(top, keys[g * GROUP + j])
                tops[g] = top
            reached, count = _kth(tops, groups, k), 0
            for g in range(groups):
                if tops[g] >= reached:
                    for j in range(g * GROUP, g * GROUP + GROUP):
                        place[count] = j
                        count += keys[j] >= reached
            for j in range(groups * GROUP, width):
                place[count] = j
                count += keys[j] >= reached
            for n in range(count):
                near[n] = keys[place[n]]
            least = _kth(near, count, k)
            count = _reaching(near, count, least, chosen)
            for n in range(count):
                place[n] = place[chosen[n]]
        ties = k
        for n in range(count):
            ties -= keys[place[n]] > least
        n = 0
        for m in range(count):
            j = place[m]
            equal = keys[j] == least
            if not equal or ties > 0:
                ties -= equal
                values[i, n], atoms[i, n] = max(h[i, j], np.float32(0)), j
                n += 1


@compiled
def _gather(values, atoms, starts, dictionary, out, first, last):
    for i in range(first, last):
        row = out[i]
        for n in range(starts[i], starts[i + 1]):
            value, atom = values[n], dictionary[atoms[n]]
            for d in range(len(row)):
                row[d] += value * atom[d]


@compiled
def _products(x, atoms, starts, dictionary, out, first, last):
    for i in range(first, last):
        row = x[i]
        for n in range(starts[i], starts[i + 1]):
            atom, total = dictionary[atoms[n]], np.float32(0)
            for d in range(len(row)):
                total += row[d] * atom[d]
            out[n] = total


@compiled
def _by_atom(atoms, starts, first, places, rows):
    for n in range(len(atoms)):
        first[atoms[n] + 1] += 1
    for j in range(len(first) - 1):
        first[j + 1] += first[j]
    place = first[:-1].copy()
    for i in range(len(starts) - 1):
        for n in range(starts[i], starts[i + 1]):
            at = place[atoms[n]]
            places[at], rows[at] = n, i
            place[atoms[n]] = at + 1


@compiled
def _scatter(values, first, places, rows, x, out, begin, end):
    for j in range(begin, end):
        atom = out[j]
        for d in range(len(atom)):
            atom[d] = 0
        for n in range(first[j], first[j + 1]):
            value, row = values[places[n]], x[rows[n]]
            for d in range(len(atom)):
                atom[d] += value * row[d]


@compiled
def _pursue(start, gram, signed, values, atoms, first, last):
    """The chosen atoms' Gram matrix is kept as its Cholesky factor, a row longer with each (Rubinstein et al. 2008)."""
    count, most = start.shape[1], values.shape[1]
    factor, row = np.empty((most, most), np.float32), np.empty(most, np.float32)
    left, keys = np.empty(count, np.float32), np.empty(count, np.float32)
    for i in range(first, last):
        for j in range(count):
            left[j] = start[i, j]
        least = np.float32(0)
        for n in range(most):
            for j in range(count):
                keys[j] = abs(left[j]) if signed else left[j]
            top = np.float32(0)
            for j in range(count):
                top = max(top, keys[j])
            if n == 0:
                least = np.float32(EXPLAINED) * top
            if top <= least:
                break
            best = 0
            while keys[best] < top:
                best += 1
            rest = gram[best, best]
            for a in range(n):
                total = gram[best, atoms[i, a]]
                for b in range(a):
                    total -= factor[a, b] * factor[n, b]
                factor[n, a] = total / factor[a, a]
                rest -= factor[n, a] * factor[n, a]
            if rest <= np.float32(EXPLAINED) * gram[best, best]:
                break
            factor[n, n] = np.sqrt(rest)
            atoms[i, n] = best
            total = start[i, best]
            for a in range(n):
                total -= factor[n, a] * row[a]
            row[n] = total / factor[n, n]
            for a in range(n, -1, -1):
                total = row[a]
                for b in range(a + 1, n + 1):
                    total -= factor[b, a] * values[i, b]
                values[i, a] = total / factor[a, a]
            if n + 1 < most:
                for j in range(count):
                    left[j] = start[i, j]
                for a in range(n + 1):
                    value, products = values[i, a], gram[atoms[i, a]]
                    for j in range(count):
                        left[j] -= value * products[j]
                for a in range(n + 1):
                    left[atoms[i, a]] = 0


def largest(h: np.ndarray, k: int, values: np.ndarray, atoms: np.ndarray, threads: int = 1) -> None:
    """The k largest of each row; of equal ones those of the lower atoms."""
    spread(lambda _, first, last: _largest(h, k, values, atoms, first, last), len(h), threads)


def gather(values, atoms, starts, dictionary, out, threads: int = 1) -> None:
    """Add the atoms of each row's code to `out`."""
    spread(lambda _, first, last: _gather(values, atoms, starts, dictionary, out, first, last), len(out), threads)


def products(x, atoms, starts, dictionary, out, threads: int = 1) -> None:
    """Set `out` to the inner products of rows and the atoms of their codes."""
    spread(lambda _, first, last: _products(x, atoms, starts, dictionary, out, first, last), len(x), threads)


def by_atom(atoms: np.ndarray, starts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The non-zeros in the order of their atoms."""
    first, places, rows = np.zeros(count + 1, np.int64), np.empty(len(atoms), np.int32), np.empty(len(atoms), np.int32)
    _by_atom(atoms, starts, first, places, rows)
    return first, places, rows


def scatter(values, first, places, rows, x, out, threads: int = 1) -> None:
    """Set each atom of `out` to the sum of its rows of x, weighted by the values."""
    spread(lambda _, begin, end: _scatter(values, first, places, rows, x, out, begin, end), len(out), threads)


def pursue(start, gram, signed: bool, values, atoms, threads: int = 1) -> None:
    """Set `values` and `atoms`, zeros before, to the codes of orthogonal matching pursuit."""
    spread(lambda _, first, last: _pursue(start, gram, signed, values, atoms, first, last), len(start), threads)
