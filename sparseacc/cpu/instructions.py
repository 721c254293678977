"""Writes an operation of a rule in the form that the CPU kernel reads.

`code` (int32) and `coef` hold the number of pairs of output columns (schedule/quads.py), and for each

    code: operand and column of the first, operand and column of the second, groups, then for each group

        code: operand of a, operand of b, quads, quads with -a', singles of the first, singles of the second,
              operand and column of what multiplies these sums (with weights), then the columns (a, a', b, b') of each
              quad, then (a, b) of each single
        coef: C1, C2 of each quad, then C of each single

where the second of an odd number of outputs is column 0 of an operand to spare, numbered after the others. A
contraction sums over rows instead; its terms are grouped by all factors but one, whose product is formed once:

    code: operands of these, that of the other, groups, then for each group columns of these, terms, then (column of the
          other, sum) for each term
    coef: the sign of each group

Nothing but Python is needed here, as the build of the kernels uses this too (build.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations
from typing import TYPE_CHECKING

from ..schedule.planes import choices
from ..schedule.quads import pairs_of_outputs
from ..schedule.sums import sums

if TYPE_CHECKING:
    from ..algebra import Operation

Code = tuple[list[int], list[float]]
"""`code` and `coef`."""

_OPERAND = 2**32
"""An output is one number: its column, and this for each operand before its own."""


def products(
    operation: Operation, outputs: Sequence[int], columns: Sequence[list[int]], C: list[float], planes: int = 1
) -> Code:
    """An operation that multiplies two inputs, or three with weights: the terms are (m1, m2, mu) of `columns`, with
    weights (m1, m2, mu, path), no two of them the same, with coefficients C.
    """
    place = {i: n for n, i in enumerate(operation.reads)}
    terms = []
    for product in operation.products:
        begin = (len(place) + outputs.index(product.output)) * _OPERAND
        for factors, outer, own in sums(operation, product, columns, C, planes, begin):
            terms.append(([place[i] for i in factors], [place[outer[0]], outer[1]] if outer else [], own))
    terms.sort()
    spare = (len(place) + len(outputs)) * _OPERAND
    code: list[int] = [0]
    coef: list[float] = []
    for (first, second), groups in pairs_of_outputs([own for *_, own in terms], planes):
        code[0] += 1
        code += [*divmod(first, _OPERAND), *divmod(spare if second is None else second, _OPERAND), len(groups)]
        for n, (quads, singles) in groups:
            operands, multiplier, _ = terms[n]
            code += [*operands, *map(len, quads), *map(len, singles), *multiplier]
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
    n = len(factors)
    shared = min(combinations(range(n), n - 1), key=lambda of: len(set(zip(*(factors[i] for i in of), strict=True))))
    (other,) = set(range(n)).difference(shared)
    groups: dict[tuple[int, ...], list[int]] = {}
    for (*chosen, last), plane, sign in choices(planes, n):
        own = [[planes * m + p for m in factors[i]] for i, p in zip(shared, chosen, strict=True)]
        for k, (c, *group) in enumerate(zip(factors[other], *own, strict=True)):
            groups.setdefault((*group, sign), []).extend((planes * c + last, planes * k + plane))
    code = [*shared, other, len(groups)]
    for (*group, _), terms in groups.items():
        code += [*group, len(terms) // 2, *terms]
    return code, [float(sign) for *_, sign in groups]
