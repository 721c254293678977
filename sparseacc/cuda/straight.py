"""Straight-line code for an operation of a rule: the terms as statements, with the coefficients as constants.

Sums of terms that share a factor are formed first (schedule/factors.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..algebra import Operation
from ..calls.arrays import Array
from ..schedule.factors import Combinations, Term, combined, operations
from ..schedule.sums import sums
from .operands import Operand, Stored

PLANES = {1: ("",), 2: ("r", "i")}
"""What distinguishes the variables of a column: nothing, or real and imaginary part."""


class Straight:
    """The arithmetic of a row, arranged so that few variables are alive at a time: a combination goes wherever it is
    needed at once.

    Attributes
    ----------
    operations : int
        Multiplications and multiply-adds a row.
    """

    tables: tuple[tuple[str, str], ...] = ()
    arrays: tuple[Any, ...] = ()

    def __init__(self, combinations: Combinations, outputs: Sequence[str], stored: Stored) -> None:
        self._combinations, self._outputs = combinations, outputs
        self._real, self._planes = stored.real, stored.planes
        self.operations = operations(combinations)
        self.title = f"{self.operations} operations a row"

    def variables(self, operand: Operand) -> list[list[str]]:
        """The variables of an operand: for each column one, or two of a complex number."""
        return [[_variable(operand.name, c, p) for p in PLANES[self._planes]] for c in range(operand.columns)]

    def declare(self, outputs: Iterable[Operand]) -> Iterator[str]:
        """The outputs' variables, zero."""
        for operand in outputs:
            for names in self.variables(operand):
                yield f"{self._real} {' = 0, '.join(names)} = 0;"

    def compute(self, inputs: Iterable[Operand], outputs: Iterable[Operand]) -> Iterator[str]:
        """Reads this thread's row, computes, and writes the outputs given."""
        yield from self._load(inputs)
        yield from self._statements()
        for operand in outputs:
            for column, names in enumerate(self.variables(operand)):
                yield operand.write(column, *names)

    def _load(self, inputs: Iterable[Operand]) -> Iterator[str]:
        read = {
            name
            for total, uses in self._combinations.items()
            for name in [*(n for _, n in total), *(n for u in uses for n in (u.factor, u.outer))]
        }
        for operand in inputs:
            for column, names in enumerate(self.variables(operand)):
                if read.isdisjoint(names):
                    continue
                if self._planes == 1:
                    yield f"const {self._real} {names[0]} = real({operand.read(column)});"
                else:
                    whole = _variable(operand.name, column, "")
                    yield f"const {operand.stored.type} {whole} = {operand.read(column)};"
                    yield f"const {self._real} {names[0]} = {whole}.re, {names[1]} = {whole}.im;"

    def _statements(self) -> Iterator[str]:
        real, fma = self._real, "fmaf" if self._real == "float" else "fma"
        begun: set[str] = set()

        def add(to: str, a: str, b: str) -> str:
            first = to not in begun
            begun.add(to)
            return f"{to} = {a} * {b};" if first else f"{to} = {fma}({a}, {b}, {to});"

        left = Counter((use.out, use.outer) for uses in self._combinations.values() for use in uses)
        for total, uses in self._combinations.items():
            (coefficient, name), *rest = total
            text = [f"{real} s = {name if coefficient == 1 else f'{literal(coefficient, real)} * {name}'};"]
            text += [f"s = {fma}({literal(c, real)}, {x}, s);" for c, x in rest]
            finished = []
            for (o, column), factor, sign, outer in uses:
                out = _real_variable(self._outputs[o], column, self._planes)
                x = factor if sign > 0 else f"-{factor}"  # not -s, for which compilers multiply once more
                inner = f"{out}_by_{outer}" if outer else out
                if outer and inner not in begun:
                    yield f"{real} {inner};"
                text.append(add(inner, "s", x))
                left[(o, column), outer] -= 1
                if outer and not left[(o, column), outer]:
                    finished.append((out, inner, outer))
            yield "{ " + " ".join(text) + " }"
            yield from (add(*each) for each in finished)


def _variable(name: str, column: int, plane: str) -> str:
    return f"{name}_{column}{plane}"


def _real_variable(name: str, column: int, planes: int) -> str:
    """Of a real column: a component has as many as planes."""
    component, plane = divmod(column, planes)
    return _variable(name, component, PLANES[planes][plane])


def straight(terms: Sequence[Array], operation: Operation, outputs: Sequence[str], stored: Stored) -> Straight:
    """Arranges the `terms` (m1, m2, mu, with weights path, and C) of a (restricted) operation; `outputs` names its
    outputs.
    """
    columns, planes = [c.tolist() for c in terms[:-1]], stored.planes
    C = terms[-1].astype(np.float32 if stored.real == "float" else np.float64).tolist()

    def variable(i: int, column: int) -> str:
        return _real_variable(operation.inputs[i][0], column, planes)

    products: list[list[Term]] = []
    for product in operation.products:
        products.append([])
        for (first, second), outer, real in sums(operation, product, columns, C, planes):
            by = variable(*outer) if outer else ""
            products[-1] += [
                ((product.output, out), by, variable(first, a), variable(second, b), c) for out, a, b, c in real
            ]
    return Straight(combined(products), outputs, stored)


def literal(value: float, real: str) -> str:
    """A number in C, to the last bit; `value` has been rounded to `real`."""
    return f"{np.float32(value)!s}f" if real == "float" else repr(value)
