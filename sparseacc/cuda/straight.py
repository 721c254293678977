"""Straight-line code for an operation of a rule: the terms as statements, with the coefficients as constants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..algebra import Operation
from ..calls.arrays import Array
from ..schedule import statements
from ..schedule.factors import Combinations, operations
from ..schedule.statements import PLANES, variable
from .operands import Operand, Stored


class Straight:
    """The arithmetic of a row.

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
        return [[variable(operand.name, c, p) for p in PLANES[self._planes]] for c in range(operand.columns)]

    def declare(self, outputs: Iterable[Operand]) -> Iterator[str]:
        """The outputs' variables, zero."""
        for operand in outputs:
            for names in self.variables(operand):
                yield f"{self._real} {' = 0, '.join(names)} = 0;"

    def compute(self, inputs: Iterable[Operand], outputs: Iterable[Operand]) -> Iterator[str]:
        """Reads this thread's row, computes, and writes the outputs given."""
        yield from self._load(inputs)
        yield from statements.statements(self._combinations, self._outputs, self._real, self._fma, self._planes)
        for operand in outputs:
            for column, names in enumerate(self.variables(operand)):
                yield operand.write(column, *names)

    def _load(self, inputs: Iterable[Operand]) -> Iterator[str]:
        read = statements.variables(self._combinations)
        for operand in inputs:
            for column, names in enumerate(self.variables(operand)):
                if read.isdisjoint(names):
                    continue
                if self._planes == 1:
                    yield f"const {self._real} {names[0]} = real({operand.read(column)});"
                else:
                    whole = variable(operand.name, column)
                    yield f"const {operand.stored.type} {whole} = {operand.read(column)};"
                    yield f"const {self._real} {names[0]} = {whole}.re, {names[1]} = {whole}.im;"

    def _fma(self, a: str, b: str, c: str) -> str:
        return f"{'fmaf' if self._real == 'float' else 'fma'}({a}, {b}, {c})"


def straight(terms: Sequence[Array], operation: Operation, outputs: Sequence[str], stored: Stored) -> Straight:
    """Arranges the `terms` (m1, m2, mu, with weights path, and C) of a (restricted) operation; `outputs` names its
    outputs.
    """
    return Straight(statements.combinations(terms, operation, stored.real, stored.planes), outputs, stored)
