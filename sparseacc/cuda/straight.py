"""Straight-line code for an operation of a rule: the terms as statements, with the coefficients as constants.

Terms of one output that share a factor are summed first,

    out[mu] += (C x2[m2] + C' x2[m2'] + ...) x1[m1],

which takes one operation a term and one a group. Sums that differ at most in sign are formed once, whatever they go
into: in the double backward half of them coincide. Which of the two factors is shared is chosen for each product of the
operation, whatever takes fewest operations in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..algebra import Operation
from ..calls.arrays import Array
from .operands import Operand, Stored

PLANES = {1: ("",), 2: ("r", "i")}
"""What distinguishes the variables of a column: nothing, or real and imaginary part."""

Sum = tuple[tuple[float, str], ...]
"""Coefficients and the variables that they multiply."""


class Use(NamedTuple):
    """Where a sum goes: ``out += sign * sum * factor``."""

    out: str
    factor: str
    sign: int


class Straight:
    """The arithmetic of a row, arranged so that few variables are alive at a time: a sum goes wherever it is needed at
    once.

    Attributes
    ----------
    operations : int
        Multiplications and multiply-adds a row.
    """

    tables: tuple[tuple[str, str], ...] = ()
    arrays: tuple[Any, ...] = ()

    def __init__(self, sums: dict[Sum, list[Use]], stored: Stored) -> None:
        self._sums, self._real, self._planes = sums, stored.real, stored.planes
        self.operations = sum(len(total) - (total[0][0] == 1) + len(uses) for total, uses in sums.items())
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
            name for total, uses in self._sums.items() for name in [*(n for _, n in total), *(u.factor for u in uses)]
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
        for total, uses in self._sums.items():
            (coefficient, name), *rest = total
            text = [f"{real} s = {name if coefficient == 1 else f'{literal(coefficient, real)} * {name}'};"]
            text += [f"s = {fma}({literal(c, real)}, {x}, s);" for c, x in rest]
            for out, factor, sign in uses:
                x = factor if sign > 0 else f"-{factor}"  # not -s, for which compilers multiply once more
                text.append(f"{out} = {fma}(s, {x}, {out});" if out in begun else f"{out} = s * {x};")
                begun.add(out)
            yield "{ " + " ".join(text) + " }"


def _variable(name: str, column: int, plane: str) -> str:
    return f"{name}_{column}{plane}"


def straight(terms: Sequence[Array], operation: Operation, outputs: Sequence[str], stored: Stored) -> Straight:
    """Arranges the `terms` m1, m2, mu and C of a (restricted) operation; `outputs` names its outputs."""
    arranged = (
        Straight(_sums(terms, operation, outputs, stored, shared), stored)
        for shared in product((0, 1), repeat=len(operation.products))
    )
    return min(arranged, key=lambda code: code.operations)


def _sums(
    terms: Sequence[Array],
    operation: Operation,
    outputs: Sequence[str],
    stored: Stored,
    shared: Sequence[int],
) -> dict[Sum, list[Use]]:
    """The sums and where they go, if of the factors of each product the one in `shared` is taken out of the sums."""
    columns, planes = [c.tolist() for c in terms[:3]], stored.planes
    coefficients = terms[3].astype(np.float32 if stored.real == "float" else np.float64).tolist()
    groups: dict[tuple[int, int, int, str], list[tuple[float, str]]] = {}
    for each, side in zip(operation.products, shared, strict=True):
        o, factors = each.output, each.inputs
        (common, c), (other, d) = (operation.inputs[factors[i]] for i in (side, 1 - side))
        to, commons, others = (columns[i] for i in (operation.outputs[o], c, d))
        for p, q in product(range(planes), repeat=2):
            sign = -1 if p and q else 1  # i * i
            one, two = PLANES[planes][p], PLANES[planes][q]
            for k, coefficient in enumerate(coefficients):
                key = (o, to[k], p ^ q, _variable(common, commons[k], one))
                groups.setdefault(key, []).append((sign * coefficient, _variable(other, others[k], two)))

    sums: dict[Sum, list[Use]] = {}
    for (o, column, plane, factor), group in sorted(groups.items()):
        group.sort(key=lambda term: (term[1], term[0]))
        sign = -1 if group[0][0] < 0 else 1
        total = tuple((sign * coefficient, name) for coefficient, name in group)
        sums.setdefault(total, []).append(Use(_variable(outputs[o], column, PLANES[planes][plane]), factor, sign))
    return sums


def literal(value: float, real: str) -> str:
    """A number in C, to the last bit; `value` has been rounded to `real`."""
    return f"{np.float32(value)!s}f" if real == "float" else repr(value)
