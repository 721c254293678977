"""An operation of one rule as a C struct for the kernel: instructions.py says what is in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..algebra import Operation
from ..calls.arrays import Array
from ..calls.dtypes import STORED, computed_in
from ..terms import Terms, distinct_terms, lengths
from ._kernel import ffi, lib
from .couplings import couplings, straight_line_code
from .instructions import Code, contraction, products

STORED_AS = {name: getattr(lib, f"SA_{stored.component.upper()}") for name, stored in STORED.items()}


def _arrays(code: Code, real: np.dtype[Any]) -> tuple[Array, Array]:
    return np.array(code[0], np.int32), np.array(code[1], real)


class Program:
    """One operation of one rule for one dtype.

    Attributes
    ----------
    pointer : cdata
        The `sa_program` of sparseacc.h.
    inputs : tuple of int
        The operation's inputs that the kernel reads, in the order of its operands.
    outputs : tuple of int
        The operation's outputs that it writes.
    nbytes : int
        What it takes.
    """

    __slots__ = ("_alive", "inputs", "nbytes", "outputs", "pointer")

    def __init__(self, rule: Terms, operation: Operation, wanted: tuple[bool, ...], dtype: np.dtype[Any]) -> None:
        planes = STORED[dtype.name].planes
        self.inputs = operation.reads
        self.outputs = tuple(o for o, asked in enumerate(wanted) if asked)
        sizes = lengths(rule)
        input_lengths = [sizes[operation.inputs[i][1]] for i in self.inputs]
        output_lengths = [sizes[operation.outputs[o]] for o in self.outputs]
        if planes * (sum(input_lengths) + sum(output_lengths)) >= 2**31 - 1:
            raise MemoryError(f"{rule!r} is too large: a row of {operation.name} takes 2**31 numbers or more")
        operands = [planes * n for n in (*input_lengths, *output_lengths)]
        real = computed_in(dtype.name)
        straight, parts = 0, []
        if operation.contraction:
            columns = [rule.m1, rule.m2, rule.mu, rule.path]
            code, coef = _arrays(contraction(operation, [c.tolist() for c in columns], planes), real)
            work, complete = 2 * len(code), [False]
        else:
            *columns, C = distinct_terms(rule, dtype.name, operation.weighted)
            terms = [column.tolist() for column in columns], C.tolist()
            code, coef = _arrays(products(operation, self.outputs, *terms, planes), real)
            written = {p.output: len(np.unique(columns[operation.outputs[p.output]])) for p in operation.products}
            complete = [written.get(o) == n for o, n in zip(self.outputs, output_lengths, strict=True)]
            work = len(code)
            if planes == 1 and not operation.weighted:
                straight = straight_line_code(operands, code)
                parts = [] if straight else couplings(operation, self.outputs, columns, C)
        coefs = [np.array(part.coef, real) for part in parts]
        described = [
            {"straight": part.straight, "begin": part.begin, "coef": ffi.from_buffer(own)}
            for part, own in zip(parts, coefs, strict=True)
        ]
        coupling = ffi.new("sa_coupling[]", described)
        self._alive = (code, coef, coefs, coupling)
        self.nbytes = sum(array.nbytes for array in (code, coef, *coefs)) + ffi.sizeof(coupling)
        self.pointer = ffi.new(
            "sa_program *",
            {
                "n_inputs": len(self.inputs),
                "n_outputs": len(self.outputs),
                "columns": operands,
                "planes": planes,
                "dtype": STORED_AS[dtype.name],
                "complete": [True] * len(self.inputs) + complete,
                "contraction": operation.contraction,
                "outer": operation.weighted,
                "work": work + 4 * sum(operands),
                "code": ffi.from_buffer("int32_t[]", code),
                "coef": ffi.from_buffer(coef),
                "straight": straight,
                "couplings": len(parts),
                "coupling": coupling,
            },
        )
