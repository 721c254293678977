"""Finds the couplings that a rule is made of: the blocks for which there is straight-line code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..algebra import Operation
from ..calls.arrays import Array
from ..schedule.blocks import Block, blocks
from ._kernel import ffi, lib
from .instructions import products
from .straight import DEGREE


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
    if len(operation.products) != 1:
        return []
    output = operation.outputs[operation.products[0].output]
    addresses = [*(operation.inputs[i][1] for i in operation.reads), output]

    def kernel(block: Block) -> Coupling | None:
        code, coef = products(operation, outputs, block.columns, block.C)
        straight = straight_line_code([block.sizes[a] for a in addresses], np.array(code, np.int32))
        return Coupling(straight, [block.begin[a] for a in addresses], coef) if straight else None

    return blocks(columns, C, output, DEGREE, kernel)
