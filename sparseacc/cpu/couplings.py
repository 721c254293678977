"""Finds the couplings that a rule is made of.

A model's rule is often many couplings side by side: each reads some columns of the inputs and writes some of the output
that no other writes. Those that have straight-line code are recognised by their instructions, and the kernel computes a
rule that is made of them coupling by coupling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..operations import Operation
from ._kernel import lib
from .instructions import products
from .straight import DEGREE

_WIDEST = 2 * DEGREE + 1
_FEWEST_TERMS = 4
"""Of a coupling, on average: of fewer, one loop over all is as fast as a call for each."""


class Coupling(NamedTuple):
    """What `sa_coupling` of sparseacc.h is made of."""

    straight: int
    begin: list[int]
    coef: list[float]


def straight_line_code(columns: Sequence[int], code: Sequence[int]) -> int:
    """Which is for instructions of real operands of so many columns, 0: none."""
    return int(lib.sa_straight(len(columns), columns, code, len(code)))


def couplings(
    operation: Operation, outputs: Sequence[int], columns: Sequence[list[int]], C: list[float]
) -> list[Coupling]:
    """Those of an operation on real numbers, in the order of the output's columns; none if they are not all of it.

    `columns` are m1, m2 and mu of every term.
    """
    if len(operation.products) != 1:
        return []
    output, *inputs = operation.products[0]
    addresses = [*(operation.inputs[i][1] for i in sorted(inputs)), operation.outputs[output]]
    of: dict[int, list[int]] = {}
    for k, out in enumerate(columns[addresses[-1]]):
        of.setdefault(out, []).append(k)
    found: list[Coupling] = []
    end = 0
    for out in sorted(of):
        if out < end:
            continue
        for which in _candidates(of, out):
            terms = sorted(which, key=lambda k: (columns[2][k], columns[0][k], columns[1][k]))
            own = [[column[k] for k in terms] for column in columns]
            begin, sizes = [min(c) for c in own], [max(c) - min(c) + 1 for c in own]
            # Of a coupling all sizes are odd and obey the triangle's inequality.
            if any(n % 2 == 0 for n in sizes) or max(sizes) > _WIDEST or 2 * max(sizes) >= sum(sizes):
                continue
            own = [[m - first for m in column] for column, first in zip(own, begin, strict=True)]
            code, coef = products(operation, outputs, own, [C[k] for k in terms])
            straight = straight_line_code([sizes[address] for address in addresses], code)
            if straight:
                found.append(Coupling(straight, [begin[address] for address in addresses], coef))
                end = out + sizes[addresses[-1]]
                break
        else:
            return []
    return found if len(C) >= _FEWEST_TERMS * len(found) else []


def _candidates(of: dict[int, list[int]], out: int) -> Iterator[list[int]]:
    """The terms `of` 11, 9, ... 1 outputs from `out` on."""
    if len(of[out]) > 2 * _WIDEST:
        return
    for width in range(_WIDEST, 0, -2):
        yield [k for o in range(out, out + width) for k in of.get(o, ())]
