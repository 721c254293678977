"""Finds the quads among the terms of products of two factors.

A real rotation acts on the pair of components m, -m as on a complex number, and so the terms of a Clebsch-Gordan rule
come in quads, as those of complex arithmetic do: two outputs, two pairs of factors, and two coefficients up to sign,

    first += C1 (a b - a' b'),    second += C2 (a b' + a' b)        or the same with -a' for a'.

That takes 6 operations and 4 columns read for 4 terms, where single terms take 8 and 8. Quads are looked for in the
terms of every rule and operation, by their indices and coefficients alone. Outputs are therefore computed two at a
time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

from .planes import Term


class Group(NamedTuple):
    """The terms of one product that go into a pair of outputs."""

    quads: tuple[list[tuple[Term, ...]], list[tuple[Term, ...]]]
    """Those with a', and those with -a' for it."""
    singles: tuple[list[Term], list[Term]]
    """The other terms of the first output and of the second."""


Pair = tuple[int, int | None]
"""Two outputs; the second of an odd number of them is None."""


def pairs_of_outputs(products: Sequence[list[Term]], planes: int) -> Iterator[tuple[Pair, list[tuple[int, Group]]]]:
    """All terms by pairs of outputs, each with the numbers of the products that go into it, and their terms."""
    quads = _quads(products, planes)
    used: list[set[int]] = [set() for _ in products]
    for n, members in chain(*quads.values()):
        used[n].update(members)
    singles: dict[int | None, dict[int, list[Term]]] = defaultdict(lambda: defaultdict(list))
    for n, terms in enumerate(products):
        for i, term in enumerate(terms):
            if i not in used[n]:
                singles[term[0]][n].append(term)
    alone = sorted({term[0] for terms in products for term in terms}.difference(*quads))
    for pair in chain(sorted(quads), zip_longest(alone[::2], alone[1::2])):
        groups: dict[int, Group] = defaultdict(lambda: Group(([], []), ([], [])))
        for n, members in quads.get(pair, ()):
            quad = tuple(products[n][i] for i in members)
            groups[n].quads[quad[0][3] == quad[1][3]].append(quad)
        for which, out in enumerate(pair):
            for n, terms in singles.get(out, {}).items():
                groups[n].singles[which].extend(terms)
        for group in groups.values():
            for terms_or_quads in (*group.quads, *group.singles):
                terms_or_quads.sort()
        yield pair, sorted(groups.items())


_MOST_CANDIDATES = 16
"""Terms of one output and coefficient to try as the second of a quad: more than Clebsch-Gordan rules have."""

_MOST_STEPS, _STEPS_OF_A_TERM = 3 * 2**18, 20
"""Steps that the search for the quads of an operation may take in all, for each choice of planes, and those that it may
take for each term. All couplings up to l = 8 side by side, in complex numbers, take fewer."""

_Quad = tuple[int, int, int, int]
"""The numbers of the terms a b, a' b', a b', a' b of a product."""

_Quads = dict[tuple[int, int], list[tuple[int, _Quad]]]
"""For each pair of outputs, the quads and of which product they are. An output is in one pair."""


def _quads(products: Sequence[list[Term]], planes: int) -> _Quads:
    """Quads that have no term in common."""
    found: dict[tuple[int, int], list[tuple[int, int, _Quad]]] = defaultdict(list)
    left = iter(range(_MOST_STEPS * planes**2))
    for n, terms in enumerate(products):
        steps = islice(left, _STEPS_OF_A_TERM * len(terms))
        for (order, (i, j, k, m)), _ in zip(_matches(terms, steps), steps, strict=False):
            one, other = terms[i][0], terms[k][0]
            if one < other:
                found[one, other].append((n, order, (i, j, k, m)))
            else:  # the same quad with b and b' exchanged
                found[other, one].append((n, order, (k, m, i, j)))
        if planes == 2 and next(steps, None) is None:
            return _complex_quads(products)

    paired: set[int] = set()
    quads: _Quads = {}
    for pair in sorted(found, key=lambda pair: (-len(found[pair]), pair)):
        if not paired.isdisjoint(pair):
            continue
        paired.update(pair)
        used: dict[int, set[int]] = defaultdict(set)
        quads[pair] = []
        for n, _, members in sorted(found[pair]):
            if used[n].isdisjoint(members):
                used[n].update(members)
                quads[pair].append((n, members))
    return quads


def _complex_quads(products: Sequence[list[Term]]) -> _Quads:
    """Every complex term is one: the planes of its factors are (0, 0), (1, 1), (0, 1), (1, 0)."""
    quads: _Quads = defaultdict(list)
    for n, terms in enumerate(products):
        each = len(terms) // 4
        for k in range(each):
            one, other = (k, 3 * each + k), (each + k, 2 * each + k)
            if terms[k][0] > terms[each + k][0]:  # an imaginary factor multiplies their sum
                one, other = other, one
            quads[terms[one[0]][0], terms[other[0]][0]].append((n, (*one, *other)))
    return quads


def _matches(terms: list[Term], steps: Iterator[int]) -> Iterator[tuple[int, _Quad]]:
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
