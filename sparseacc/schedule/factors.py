"""Sums of terms that share a factor.

Terms of one output that share a factor are summed first,

    out[mu] += (C x2[m2] + C' x2[m2'] + ...) x1[m1],

which takes one operation a term and one a group. Sums that differ at most in sign are formed once, whatever they go
into: in the double backward half of them coincide. Which of the two factors is shared is chosen for each product of the
operation, whatever takes fewest operations in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

Variable = tuple[int, int]
"""An output and one of its columns."""

Term = tuple[Variable, str, str, float]
"""``out += C a b``: the output, the variables a and b, and C."""

Combination = tuple[tuple[float, str], ...]
"""Coefficients and the variables that they multiply, to be summed."""


class Use(NamedTuple):
    """Where a combination goes: ``out += sign * combination * factor``."""

    out: Variable
    factor: str
    sign: int


Combinations = dict[Combination, list[Use]]


def operations(combinations: Combinations) -> int:
    """The multiplications and multiply-adds that they and their uses take."""
    return sum(len(total) - (total[0][0] == 1) + len(uses) for total, uses in combinations.items())


def combined(products: Sequence[list[Term]]) -> Combinations:
    """The combinations and where they go, for the terms of each product of an operation."""
    every = (_sharing(products, shared) for shared in product((0, 1), repeat=len(products)))
    return min(every, key=operations)


def _sharing(products: Sequence[list[Term]], shared: Sequence[int]) -> Combinations:
    """The same if of the factors of each product the one in `shared` is taken out of the sums."""
    groups: dict[tuple[Variable, str], list[tuple[str, float]]] = {}
    for terms, side in zip(products, shared, strict=True):
        for out, *factors, C in terms:
            groups.setdefault((out, factors[side]), []).append((factors[1 - side], C))
    combinations: Combinations = {}
    for (out, factor), group in sorted(groups.items()):
        group.sort()
        sign = -1 if group[0][1] < 0 else 1
        combinations.setdefault(tuple((sign * C, name) for name, C in group), []).append(Use(out, factor, sign))
    return combinations
