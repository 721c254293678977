"""Writes an operation of a rule in the form that the CPU kernel reads.

`code` (int32) and `coef` hold the number of pairs of output columns (schedule/quads.py), and for each

    code: operand and column of the first, operand and column of the second, groups, then for each group

        code: operand of a, operand of b, quads, quads with -a', singles of the first, singles of the second,
              then the columns (a, a', b, b') of each quad, then (a, b) of each single
        coef: C1, C2 of each quad, then C of each single

where the second of an odd number of outputs is column 0 of an operand to spare, numbered after the others. A
contraction sums over rows instead; its terms are grouped by two factors, whose product is formed once:

    code: operands of a, b and c, groups, then for each group columns a and b, terms, then (c, sum) for each term
    coef: the sign of each group

Nothing but Python is needed here, as the build of the kernels uses this too (build.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations
from typing import TYPE_CHECKING

from ..schedule.planes import choices, real_terms
from ..schedule.quads import pairs_of_outputs

if TYPE_CHECKING:
    from ..algebra import Operation

Code = tuple[list[int], list[float]]
"""`code` and `coef`."""

_OPERAND = 2**32
"""An output is one number: its column, and this for each operand before its own."""


def products(
    operation: Operation, outputs: Sequence[int], columns: Sequence[list[int]], C: list[float], planes: int = 1
) -> Code:
    """An operation that multiplies two inputs: the terms are (m1, m2, mu) of `columns`, no two of them the same, with
    coefficients C.
    """
    place = {i: n for n, i in enumerate(operation.reads)}
    terms = []
    for product in operation.products:
        begin = (len(place) + outputs.index(product.output)) * _OPERAND
        own = [columns[column] for column in operation.columns(product)]
        terms.append(([place[i] for i in product.inputs], real_terms(own, C, planes, begin)))
    terms.sort()
    spare = (len(place) + len(outputs)) * _OPERAND
    code: list[int] = [0]
    coef: list[float] = []
    for (first, second), groups in pairs_of_outputs([own for _, own in terms], planes):
        code[0] += 1
        code += [*divmod(first, _OPERAND), *divmod(spare if second is None else second, _OPERAND), len(groups)]
        for n, (quads, singles) in groups:
            code += [*terms[n][0], *map(len, quads), *map(len, singles)]
            for (_, a, b, C1), (_, aa, bb, _), (_, _, _, C2), _ in chain(*quads):
                code += (a, aa, b, bb)
                coef += (C1, C2)
            for _, a, b, c in chain(*singles):
                code += (a, b)
                coef.append(c)
    return code, coef


def contraction(operation: Operation, columns: Sequence[list[int]], planes: int = 1) -> Code:
    """An operation that sums over rows."""
    factors = [columns[column] for _, column in operation.inputs]
    pair = min(combinations(range(3), 2), key=lambda ij: len(set(zip(*(factors[k] for k in ij), strict=True))))
    (third,) = {0, 1, 2} - set(pair)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for (p, q, r), plane, sign in choices(planes, 3):
        for k, (a, b, c) in enumerate(zip(*(factors[i] for i in (*pair, third)), strict=True)):
            groups.setdefault((planes * a + p, planes * b + q, sign), []).extend((planes * c + r, planes * k + plane))
    code = [*pair, third, len(groups)]
    for (first, second, _), terms in groups.items():
        code += [first, second, len(terms) // 2, *terms]
    return code, [float(sign) for _, _, sign in groups]
