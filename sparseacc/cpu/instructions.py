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

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product, zip_longest
from operator import neg
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
    """An operation that multiplies two inputs: the terms are (m1, m2, mu) of `columns`, no two of them the same, with
    coefficients C.
    """
    inputs = sorted({i for p in operation.products for i in p[1:]})
    place = {i: n for n, i in enumerate(inputs)}
    parts = []
    for o, i, j in operation.products:
        to, first, second = (
            columns[address] for address in (operation.outputs[o], operation.inputs[i][1], operation.inputs[j][1])
        )
        operand = (len(place) + outputs.index(o)) * _OPERAND
        terms: list[_Term] = []
        for p, q in product(range(planes), repeat=2):
            out = [operand + planes * m + (p ^ q) for m in to]
            a, b = [planes * m + p for m in first], [planes * m + q for m in second]
            terms += zip(out, a, b, map(neg, C) if p and q else C, strict=True)
        parts.append(_Part((place[i], place[j]), terms))
    return _products(sorted(parts), (len(place) + len(outputs)) * _OPERAND, planes)


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


_OPERAND = 2**32
"""An output is one number: its column, and this for each operand before its own."""

_Term = tuple[int, int, int, float]
"""An output, the columns of a and b, and C."""


class _Part(NamedTuple):
    """The terms that have their factors from the same two operands."""

    factors: tuple[int, int]
    terms: list[_Term]


class _Group(NamedTuple):
    """Those of a part that go into a pair of outputs."""

    quads: tuple[list[tuple[_Term, ...]], ...]
    singles: tuple[list[_Term], list[_Term]]


def _products(parts: list[_Part], spare: int, planes: int) -> Code:
    quads = _quads(parts, planes)
    used: list[set[int]] = [set() for _ in parts]
    for n, members in chain(*quads.values()):
        used[n].update(members)
    singles: list[dict[int, list[_Term]]] = [defaultdict(list) for _ in parts]
    for n, part in enumerate(parts):
        for i, term in enumerate(part.terms):
            if i not in used[n]:
                singles[n][term[0]].append(term)
    alone = sorted({term[0] for part in parts for term in part.terms}.difference(*quads))
    pairs = [*sorted(quads), *zip_longest(alone[::2], alone[1::2], fillvalue=spare)]

    code = [len(pairs)]
    coef: list[float] = []
    for pair in pairs:
        groups: dict[int, _Group] = defaultdict(lambda: _Group(([], []), ([], [])))
        for n, members in quads.get(pair, ()):
            quad = tuple(parts[n].terms[i] for i in members)
            groups[n].quads[quad[0][3] == quad[1][3]].append(quad)
        for n, of_part in enumerate(singles):
            for which, out in enumerate(pair):
                if out in of_part:
                    groups[n].singles[which].extend(of_part[out])
        code += [*divmod(pair[0], _OPERAND), *divmod(pair[1], _OPERAND), len(groups)]
        for n, group in sorted(groups.items()):
            code += [*parts[n].factors, *map(len, group.quads), *map(len, group.singles)]
            for (_, a, b, C1), (_, aa, bb, _), (_, _, _, C2), _ in chain(*map(sorted, group.quads)):
                code += (a, aa, b, bb)
                coef += (C1, C2)
            for _, a, b, C in chain(*map(sorted, group.singles)):
                code += (a, b)
                coef.append(C)
    return code, coef


_MOST_CANDIDATES = 16
"""Terms of one output and coefficient to try as the second of a quad: more than Clebsch-Gordan rules have."""

_MOST_STEPS, _STEPS_OF_A_TERM = 2**20, 20
"""Steps that the search for the quads of one product of two inputs may take in all, and for each term. All couplings up
to l = 8 side by side, in complex numbers, take fewer."""

_Quad = tuple[int, int, int, int]
"""The numbers of the terms a b, a' b', a b', a' b of a part."""

_Quads = dict[tuple[int, int], list[tuple[int, _Quad]]]
"""For each pair of outputs, the quads and of which part they are. An output is in one pair."""


def _quads(parts: list[_Part], planes: int) -> _Quads:
    """Quads that have no term in common."""
    found: dict[tuple[int, int], list[tuple[int, int, _Quad]]] = defaultdict(list)
    for n, (_, terms) in enumerate(parts):
        steps = iter(range(min(_MOST_STEPS, _STEPS_OF_A_TERM * len(terms))))
        for (order, (i, j, k, m)), _ in zip(_matches(terms, steps), steps, strict=False):
            one, other = terms[i][0], terms[k][0]
            if one < other:
                found[one, other].append((n, order, (i, j, k, m)))
            else:  # the same quad with b and b' exchanged
                found[other, one].append((n, order, (k, m, i, j)))
        if planes == 2 and next(steps, None) is None:
            return _complex_quads(parts)

    paired: set[int] = set()
    quads: _Quads = {}
    for pair in sorted(found, key=lambda pair: (-len(found[pair]), pair)):
        if not paired.isdisjoint(pair):
            continue
        paired.update(pair)
        used: list[set[int]] = [set() for _ in parts]
        quads[pair] = []
        for n, _, members in sorted(found[pair]):
            if used[n].isdisjoint(members):
                used[n].update(members)
                quads[pair].append((n, members))
    return quads


def _complex_quads(parts: list[_Part]) -> _Quads:
    """Every complex term is one: the planes of its factors are (0, 0), (1, 1), (0, 1), (1, 0)."""
    quads: _Quads = defaultdict(list)
    for n, (_, terms) in enumerate(parts):
        each = len(terms) // 4
        for k in range(each):
            quads[terms[k][0], terms[each + k][0]].append((n, (k, 3 * each + k, each + k, 2 * each + k)))
    return quads


def _matches(terms: list[_Term], steps: Iterator[int]) -> Iterator[tuple[int, _Quad]]:
    """Quads that terms can be members of, many of them of several, and numbers to order them by, as long as there are
    steps left.

    Two terms of an output with one coefficient, up to sign, are opposite corners of a rectangle of columns a, a' and
    b, b'. Where its other corners are two such terms of another output, the four are a quad, if the signs are those of
    a rotation.
    """
    count = Counter(abs(C) for _, _, _, C in terms)
    alike: dict[tuple[int, float], list[int]] = defaultdict(list)
    for i, (out, _, _, C) in enumerate(terms):
        if count[abs(C)] > 1:
            alike[out, abs(C)].append(i)
    tried: list[tuple[int, int]] = []
    pairs = ((i, j) for same in alike.values() for n, i in enumerate(same, 1) for j in same[n : n + _MOST_CANDIDATES])
    corners: dict[tuple[int, int, int, int, bool], int] = {}
    more: dict[tuple[int, int, int, int, bool], list[int]] = defaultdict(list)
    for _, (i, j) in zip(steps, pairs, strict=False):
        out, a, b, C = terms[i]
        _, aa, bb, D = terms[j]
        if a == aa or b == bb:
            continue
        low, high, first, second = (a, aa, b, bb) if a < aa else (aa, a, bb, b)
        others = low, high, second, first, C != D
        if others in corners:
            for order in (corners[others], *more.get(others, ())):
                one, two = tried[order]
                if terms[one][0] != out:
                    yield order, (one, two, i, j) if terms[one][1] == a else (one, two, j, i)
        these = low, high, first, second, C == D
        if corners.setdefault(these, len(tried)) != len(tried):
            more[these].append(len(tried))
        tried.append((i, j))
