"""What engines compute of a product: sums of terms of two factors, and what multiplies such a sum.

With weights a product has a third factor, and it is the same for many terms that go into an output: it multiplies their
sum, once,

    out[mu] += weights[path] * (C x1[m1] x2[m2] + C' x1[m1'] x2[m2'] + ...).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..algebra import PATH, Operation, Product
from .planes import Term, real_terms


class Sum(NamedTuple):
    """Terms of one product.

    Attributes
    ----------
    factors : tuple of 2 int
        The inputs that are multiplied in each term.
    outer : tuple of 2 int, or None
        The input that multiplies the sum, and its real column; None if nothing does.
    terms : list of Term
    """

    factors: tuple[int, ...]
    outer: tuple[int, int] | None
    terms: list[Term]


def sums(
    operation: Operation, product: Product, columns: Sequence[list[int]], C: list[float], planes: int, begin: int = 0
) -> Iterator[Sum]:
    """A product of an operation in real numbers; the columns of its output begin at `begin`.

    The outer one of three factors is a path's weight, or where the output is one, what stands at the rule's output.
    """
    factors = product.inputs
    to = columns[operation.outputs[product.output]]
    column = {i: operation.inputs[i][1] for i in factors}
    if len(factors) == 2:
        yield Sum(factors, None, real_terms([to, *(columns[column[i]] for i in factors)], C, planes, begin))
        return
    outer = next((i for i in factors if column[i] == PATH), factors[0])
    inner = tuple(i for i in factors if i != outer)
    of = [to, *(columns[column[i]] for i in inner)]
    which: dict[int, list[int]] = {}
    for k, m in enumerate(columns[column[outer]]):
        which.setdefault(m, []).append(k)
    for m, terms in sorted(which.items()):
        own, coefficients = [[each[k] for k in terms] for each in of], [C[k] for k in terms]
        for plane in range(planes):
            yield Sum(inner, (outer, planes * m + plane), real_terms(own, coefficients, planes, begin, plane))
