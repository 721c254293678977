"""Finds the couplings that a rule is made of.

A model's rule is often many couplings side by side: each reads some columns of the inputs and writes some of the output
that no other writes. Those that have straight-line code are recognised by their instructions, and the kernel computes a
rule that is made of them coupling by coupling.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..calls.arrays import Array
from ..operations import Operation
from ..racah import real_terms
from ._kernel import ffi, lib
from .instructions import products
from .straight import DEGREE

_FEWEST_TERMS = 4
"""Of a coupling, on average: of fewer, one loop over all is as fast as a call for each."""


class Coupling(NamedTuple):
    """What `sa_coupling` of sparseacc.h is made of."""

    straight: int
    begin: list[int]
    coef: list[float]


def straight_line_code(columns: Sequence[int], code: npt.NDArray[np.int32]) -> int:
    """Which is for instructions of real operands of so many columns, 0: none."""
    return int(lib.sa_straight(len(columns), columns, ffi.from_buffer("int32_t[]", code), len(code)))


def couplings(operation: Operation, outputs: Sequence[int], columns: Sequence[Array], C: Array) -> list[Coupling]:
    """Those of an operation on real numbers, in the order of the output's columns; none if they are not all of it.

    `columns` are m1, m2 and mu of every term, no two of them the same.
    """
    if len(operation.products) != 1 or not len(C):
        return []
    output, *inputs = operation.products[0]
    addresses = [*(operation.inputs[i][1] for i in sorted(inputs)), operation.outputs[output]]
    order = np.argsort(columns[addresses[-1]], kind="stable")
    columns = [column[order] for column in columns]
    outs, begins = np.unique(columns[addresses[-1]], return_index=True)
    begins = np.append(begins, len(C))
    fits = _fits(columns, outs, begins)
    if len(C) < _FEWEST_TERMS * _fewest(fits):
        return []
    m1, m2, mu, coefficients, term = (array.tolist() for array in (*columns, C[order], begins))
    found: list[Coupling] = []
    at = 0
    while at < len(outs):
        for width in np.flatnonzero(fits[:, at])[::-1].tolist():
            terms = sorted(range(term[at], term[at + width]), key=lambda k: (mu[k], m1[k], m2[k]))
            own = [[column[k] for k in terms] for column in (m1, m2, mu)]
            begin = [min(column) for column in own]
            sizes = [max(column) - first + 1 for column, first in zip(own, begin, strict=True)]
            own = [[m - first for m in column] for column, first in zip(own, begin, strict=True)]
            code, coef = products(operation, outputs, own, [coefficients[k] for k in terms])
            straight = straight_line_code([sizes[address] for address in addresses], np.array(code, np.int32))
            if straight:
                found.append(Coupling(straight, [begin[address] for address in addresses], coef))
                at += width
                break
        else:
            return []
    return found if len(C) >= _FEWEST_TERMS * len(found) else []


def _fits(columns: Sequence[Array], outs: Array, begins: Array) -> npt.NDArray[np.bool_]:
    """For every width and output, whether there is a coupling of as many terms and columns as so many outputs from
    that one on have. `begins` says where the terms of each of `outs` begin.
    """
    widest = 2 * DEGREE + 1
    fits = np.zeros((widest + 1, len(outs)), bool)
    first, last = ([of.reduceat(c, begins[:-1]) for c in columns] for of in (np.minimum, np.maximum))
    low, high = first, last
    for width in range(1, min(widest, len(outs)) + 1):
        if width > 1:  # one output more
            low = [np.minimum(a[:-1], b[width - 1 :]) for a, b in zip(low, first, strict=True)]
            high = [np.maximum(a[:-1], b[width - 1 :]) for a, b in zip(high, last, strict=True)]
        sizes = np.array(high) - low + 1
        l1, l2, l3 = sizes // 2
        possible = np.all((sizes % 2 == 1) & (sizes <= widest), axis=0)
        possible &= outs[width - 1 :] - outs[: len(possible)] == width - 1
        at = np.flatnonzero(possible)
        kinds, kind = np.unique((l1[at] * (DEGREE + 1) + l2[at]) * (DEGREE + 1) + l3[at], return_inverse=True)
        needed = np.array([_terms(k) for k in kinds.tolist()], int)
        fits[width, at] = needed[kind] == begins[at + width] - begins[at]
    return fits


def _fewest(fits: npt.NDArray[np.bool_]) -> float:
    """As many couplings at least cover all outputs; infinitely many if an output is in none."""
    n = fits.shape[1]
    widest = np.zeros(n)
    for width in np.flatnonzero(fits.any(axis=1)).tolist():
        for k in range(width):
            widest[k:][fits[width, : n - k]] = width
    with np.errstate(divide="ignore"):
        return float(np.sum(1 / widest))


@cache
def _terms(kind: int) -> int:
    """How many a coupling has; 0 if its degrees, which `kind` has as digits, do not couple."""
    (l1, l2), l3 = divmod(kind // (DEGREE + 1), DEGREE + 1), kind % (DEGREE + 1)
    return sum(1 for _ in real_terms(l1, l2, l3, 1)) if abs(l1 - l2) <= l3 <= l1 + l2 else 0
