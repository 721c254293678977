"""Finds the blocks that a rule is made of.

A model's rule is often many couplings side by side: each reads some columns of the inputs and writes some of the output
that no other writes. A block is such a part of a rule; which blocks there is a kernel for, the engine says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ..calls.arrays import Array
from ..racah import real_terms

_FEWEST_TERMS = 4
"""Of a block, on average: of fewer, one loop over all is as fast as a call for each."""

Kernel = TypeVar("Kernel")


class Block(NamedTuple):
    """The first of its columns m1, m2 and mu, how many there are, the terms' columns counted from those, and C."""

    begin: list[int]
    sizes: list[int]
    columns: list[list[int]]
    C: list[float]


def blocks(
    columns: Sequence[Array], C: Array, output: int, degree: int, kernel: Callable[[Block], Kernel | None]
) -> list[Kernel]:
    """What `kernel` has for the blocks of a rule, in the order of the columns of its output.

    `columns` are m1, m2 and mu of every term, no two of them the same; `output` is the number of that which addresses
    the output. Blocks are as wide as couplings up to a degree. If `kernel` has None for a part, none are returned.
    """
    if not len(C):
        return []
    order = np.argsort(columns[output], kind="stable")
    columns = [column[order] for column in columns]
    outs, begins = np.unique(columns[output], return_index=True)
    begins = np.append(begins, len(C))
    fits = _fits(columns, outs, begins, degree)
    if len(C) < _FEWEST_TERMS * _fewest(fits):
        return []
    m1, m2, mu, coefficients, term = (array.tolist() for array in (*columns, C[order], begins))
    found: list[Kernel] = []
    at = 0
    while at < len(outs):
        for width in np.flatnonzero(fits[:, at])[::-1].tolist():
            terms = sorted(range(term[at], term[at + width]), key=lambda k: (mu[k], m1[k], m2[k]))
            own = [[column[k] for k in terms] for column in (m1, m2, mu)]
            begin = [min(column) for column in own]
            sizes = [max(column) - first + 1 for column, first in zip(own, begin, strict=True)]
            own = [[m - first for m in column] for column, first in zip(own, begin, strict=True)]
            known = kernel(Block(begin, sizes, own, [coefficients[k] for k in terms]))
            if known is not None:
                found.append(known)
                at += width
                break
        else:
            return []
    return found if len(C) >= _FEWEST_TERMS * len(found) else []


def _fits(columns: Sequence[Array], outs: Array, begins: Array, degree: int) -> npt.NDArray[np.bool_]:
    """For every width and output, whether there is a coupling of as many terms and columns as so many outputs from
    that one on have. `begins` says where the terms of each of `outs` begin.
    """
    widest = 2 * degree + 1
    fits = np.zeros((widest + 1, len(outs)), bool)
    first, last = ([of.reduceat(c, begins[:-1]) for c in columns] for of in (np.minimum, np.maximum))
    low, high = first, last
    for width in range(1, min(widest, len(outs)) + 1):
        if width > 1:  # one output more
            low = [np.minimum(a[:-1], b[width - 1 :]) for a, b in zip(low, first, strict=True)]
            high = [np.maximum(a[:-1], b[width - 1 :]) for a, b in zip(high, last, strict=True)]
        sizes = np.array(high) - low + 1
        possible = np.all((sizes % 2 == 1) & (sizes <= widest), axis=0)
        possible &= outs[width - 1 :] - outs[: len(possible)] == width - 1
        at = np.flatnonzero(possible)
        every = (degree + 1,) * 3
        kinds, kind = np.unique(np.ravel_multi_index(tuple(sizes[:, at] // 2), every), return_inverse=True)
        needed = np.array([_terms(*map(int, np.unravel_index(k, every))) for k in kinds], int)
        fits[width, at] = needed[kind] == begins[at + width] - begins[at]
    return fits


def _fewest(fits: npt.NDArray[np.bool_]) -> float:
    """As many blocks at least cover all outputs; infinitely many if an output is in none."""
    n = fits.shape[1]
    widest = np.zeros(n)
    for width in np.flatnonzero(fits.any(axis=1)).tolist():
        for k in range(width):
            widest[k:][fits[width, : n - k]] = width
    with np.errstate(divide="ignore"):
        return float(np.sum(1 / widest))


@cache
def _terms(l1: int, l2: int, l3: int) -> int:
    """How many a coupling has; 0 if these degrees do not couple."""
    return sum(1 for _ in real_terms(l1, l2, l3, 1)) if abs(l1 - l2) <= l3 <= l1 + l2 else 0
