"""Writes an operation of a rule in the form that the CPU kernel reads.

A real rotation acts on the pair of components m, -m as on a complex number, and so the terms of a Clebsch-Gordan rule
come in quads, as those of complex arithmetic do: two outputs, two pairs of factors, and two coefficients up to sign,

    first += C1 (a b - a' b'),    second += C2 (a b' + a' b)        or the same with -a' for a'.

That takes 6 operations and 4 columns read for 4 terms, where single terms take 8 and 8. Quads are looked for in the
terms of every rule and operation, by their indices and coefficients alone. Outputs are therefore computed two at a
time. `code` (int32) and `coef` hold the number of pairs of output columns, and for each

    code: operand and column of the first, operand and column of the second, groups, then for each group

        code: operand of a, operand of b, quads, quads with -a', singles of the first, singles of the second,
              then the columns (a, a', b, b') of each quad, then (a, b) of each single
        coef: C1, C2 of each quad, then C of each single

where the second of an odd number of outputs is column 0 of an operand to spare, numbered after the others. The
coefficient gradient sums over rows instead; its terms are grouped by two factors, whose product is formed once:

    code: operands of a, b and c, groups, then for each group columns a and b, terms, then (c, sum) for each term
    coef: the sign of each group

Complex operands have two columns a component, and products of components become real ones:
(p + iq)(r + is) = (pr - qs) + i(ps + qr).

Nothing but Python is needed here, as the build of the kernels reads this too (build.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, combinations, product, zip_longest
from typing import NamedTuple, Protocol


class _Operation(Protocol):
    """What is read of an `Operation` (operations.py)."""

    @property
    def inputs(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def outputs(self) -> tuple[int, ...]: ...
    @property
    def products(self) -> tuple[tuple[int, int, int], ...]: ...


Code = tuple[list[int], list[float]]
"""`code` and `coef`."""


def products(
    operation: _Operation, outputs: Sequence[int], columns: Sequence[list[int]], C: list[float], planes: int = 1
) -> Code:
    """An operation that multiplies two inputs: the terms are (m1, m2, mu) of `columns`, with coefficients C."""
    inputs = sorted({i for p in operation.products for i in p[1:]})
    place = {i: n for n, i in enumerate(inputs)}
    terms = []
    for o, i, j in operation.products:
        addresses = operation.outputs[o], operation.inputs[i][1], operation.inputs[j][1]
        for p, q in product(range(planes), repeat=2):
            for out, a, b, c in zip(*(columns[address] for address in addresses), C, strict=True):
                output = len(place) + outputs.index(o), planes * out + (p ^ q)
                C_pq = -c if p and q else c
                terms.append(_Term(output, (place[i], place[j]), planes * a + p, planes * b + q, C_pq))
    return _products(terms, (len(place) + len(outputs), 0))


def sums(operation: _Operation, columns: Sequence[list[int]], planes: int = 1) -> Code:
    """The operation that sums over rows. i^(p + q + r) is +1, +i, -1 or -i for planes p, q, r of the three factors."""
    factors = [columns[column] for _, column in operation.inputs]
    pair = min(combinations(range(3), 2), key=lambda ij: len(set(zip(*(factors[k] for k in ij), strict=True))))
    (third,) = {0, 1, 2} - set(pair)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for p, q, r in product(range(planes), repeat=3):
        sign, imaginary = (1, 1, -1, -1)[p + q + r], (p + q + r) % 2
        for k, (a, b, c) in enumerate(zip(*(factors[i] for i in (*pair, third)), strict=True)):
            group = groups.setdefault((planes * a + p, planes * b + q, sign), [])
            group += (planes * c + r, planes * k + imaginary)
    code = [*pair, third, len(groups)]
    for (first, second, _), terms in groups.items():
        code += [first, second, len(terms) // 2, *terms]
    return code, [float(sign) for _, _, sign in groups]


_Output = tuple[int, int]
"""An operand and a column."""


class _Term(NamedTuple):
    out: _Output
    factors: tuple[int, int]
    a: int
    b: int
    C: float


class _Group(NamedTuple):
    """The terms of a pair of outputs that have their factors from the same two operands."""

    quads: tuple[list[tuple[_Term, _Term, _Term]], ...]
    singles: tuple[list[_Term], list[_Term]]


def _products(terms: list[_Term], spare: _Output) -> Code:
    quads = _quads(terms)
    used = {i for found in quads.values() for members in found for i in members}
    single: dict[_Output, list[_Term]] = {}
    for i, term in enumerate(terms):
        if i not in used:
            single.setdefault(term.out, []).append(term)
    alone = sorted({term.out for term in terms}.difference(*quads))
    pairs = [*sorted(quads), *zip_longest(alone[::2], alone[1::2], fillvalue=spare)]

    code = [len(pairs)]
    coef: list[float] = []
    for pair in pairs:
        groups: dict[tuple[int, int], _Group] = defaultdict(lambda: _Group(([], []), ([], [])))
        for members in quads.get(pair, ()):
            ab, aabb, abb, _ = (terms[i] for i in members)
            groups[ab.factors].quads[ab.C == aabb.C].append((ab, aabb, abb))
        for which, out in enumerate(pair):
            for term in sorted(single.get(out, ())):
                groups[term.factors].singles[which].append(term)
        code += [*pair[0], *pair[1], len(groups)]
        for factors, group in sorted(groups.items()):
            code += [*factors, *map(len, group.quads), *map(len, group.singles)]
            for ab, aabb, abb in chain(*map(sorted, group.quads)):
                code += [ab.a, aabb.a, ab.b, aabb.b]
                coef += [ab.C, abb.C]
            for term in chain(*group.singles):
                code += [term.a, term.b]
                coef.append(term.C)
    return code, coef


_MOST_CANDIDATES = 16
"""Terms of one output and coefficient to try as the second of a quad: more than Clebsch-Gordan rules have, and a limit
to the time that a rule of a million equal coefficients takes."""

_Quads = dict[tuple[_Output, _Output], list[tuple[int, int, int, int]]]


def _quads(terms: list[_Term]) -> _Quads:
    """Quads of each pair of outputs, as indices of the terms a b, a' b', a b', a' b. An output is in one pair."""
    alike: dict[tuple[_Output, tuple[int, int], float], list[int]] = {}
    at: dict[tuple[tuple[int, int], int, int], list[int]] = {}
    for i, term in enumerate(terms):
        alike.setdefault((term.out, term.factors, abs(term.C)), []).append(i)
        at.setdefault((term.factors, term.a, term.b), []).append(i)

    found: _Quads = {}
    for group in alike.values():
        for n, i in enumerate(group):
            for j in group[n + 1 : n + 1 + _MOST_CANDIDATES]:
                one, two = terms[i], terms[j]
                if one.a == two.a or one.b == two.b:
                    continue
                one_b, two_b = at.get((one.factors, one.a, two.b), ()), at.get((one.factors, two.a, one.b), ())
                for k, m in product(one_b, two_b):
                    three, four = terms[k], terms[m]
                    if three.out == four.out != one.out and abs(three.C) == abs(four.C):
                        if (one.C == two.C) == (three.C == four.C):
                            continue  # as of no rotation
                        if one.out < three.out:
                            found.setdefault((one.out, three.out), []).append((i, j, k, m))
                        else:  # the same quad with b and b' exchanged
                            found.setdefault((three.out, one.out), []).append((k, m, i, j))

    paired: set[_Output] = set()
    quads: _Quads = {}
    for pair in sorted(found, key=lambda pair: (-len(found[pair]), pair)):
        if not paired.isdisjoint(pair):
            continue
        paired.update(pair)
        used: set[int] = set()
        quads[pair] = []
        for members in found[pair]:
            if used.isdisjoint(members):
                used.update(members)
                quads[pair].append(members)
    return quads
