"""Complex numbers as real ones: a component of a complex operand is two columns, its planes.

A product of components is then a real product for each choice of planes, 0 real and 1 imaginary, of its factors:
i^(p + q + ...) is +1, +i, -1 or -i.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from operator import neg

Term = tuple[int, int, int, float]
"""``out += C a b``: an output column, the columns of a and b, and C."""


def choices(planes: int, factors: int, outer: int = 0) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Every choice of a plane for each factor, the plane of their product with a factor of plane `outer`, its sign."""
    for chosen in product(range(planes), repeat=factors):
        turns = sum(chosen, outer)
        yield chosen, turns % 2, (1, 1, -1, -1)[turns % 4]


def real_terms(columns: Sequence[list[int]], C: list[float], planes: int, begin: int = 0, outer: int = 0) -> list[Term]:
    """The terms of a product of two factors; `columns` are those of the output, which begin at `begin`, and of both.

    Their sum is multiplied by a factor of plane `outer` before it is added to the output.
    """
    to, first, second = columns
    terms: list[Term] = []
    for (p, q), plane, sign in choices(planes, 2, outer):
        out = [begin + planes * m + plane for m in to]
        a, b = [planes * m + p for m in first], [planes * m + q for m in second]
        terms += zip(out, a, b, C if sign > 0 else map(neg, C), strict=True)
    return terms
