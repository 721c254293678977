"""Sums of terms that share a factor.

Terms of one output that share a factor are summed first,

    out[mu] += (C x2[m2] + C' x2[m2'] + ...) x1[m1],

which takes one operation a term and one a group. Sums that differ at most in sign are formed once, whatever they go
into: in the double backward half of them coincide. Which of the two factors is shared is chosen for each product of the
operation, whatever takes fewest operations in all. What goes into one output with the same outer factor (sums.py) is
summed before that multiplies it, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

Variable = tuple[int, int]
"""An output and one of its columns."""

Term = tuple[Variable, str, str, str, float]
"""``out += outer C a b``: the output, the outer variable or "", the variables a and b, and C."""

Combination = tuple[tuple[float, str], ...]
"""Coefficients and the variables that they multiply, to be summed."""


class Use(NamedTuple):
    """Where a combination goes: ``out += sign * combination * factor``, times `outer` unless that is ""."""

    out: Variable
    factor: str
    sign: int
    outer: str


Combinations = dict[Combination, list[Use]]


def operations(combinations: Combinations) -> int:
    """The multiplications and multiply-adds that they and their uses take."""
    scaled = {(use.out, use.outer) for uses in combinations.values() for use in uses if use.outer}
    return len(scaled) + sum(len(total) - (total[0][0] == 1) + len(uses) for total, uses in combinations.items())


_MOST_TRIED_TOGETHER = 4
"""Products whose choices are tried in every combination; of more, one after the other."""


def combined(products: Sequence[list[Term]]) -> Combinations:
    """The combinations and where they go, for the terms of each product of an operation."""
    if len(products) <= _MOST_TRIED_TOGETHER:
        every = (_sharing(products, shared) for shared in product((0, 1), repeat=len(products)))
        return min(every, key=operations)
    shared = [0] * len(products)
    best = _sharing(products, shared)
    for n in range(len(products)):
        shared[n] = 1
        other = _sharing(products, shared)
        if operations(other) < operations(best):
            best = other
        else:
            shared[n] = 0
    return best


def _sharing(products: Sequence[list[Term]], shared: Sequence[int]) -> Combinations:
    """The same if of the factors of each product the one in `shared` is taken out of the sums."""
    groups: dict[tuple[str, Variable, str], list[tuple[str, float]]] = {}
    for terms, side in zip(products, shared, strict=True):
        for out, outer, *factors, C in terms:
            groups.setdefault((outer, out, factors[side]), []).append((factors[1 - side], C))
    combinations: Combinations = {}
    for (outer, out, factor), group in sorted(groups.items()):
        group.sort()
        sign = -1 if group[0][1] < 0 else 1
        combinations.setdefault(tuple((sign * C, name) for name, C in group), []).append(Use(out, factor, sign, outer))
    return combinations
