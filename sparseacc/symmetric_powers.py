"""Polynomials that rotate as an irrep does: chains of Clebsch-Gordan couplings of an array with itself.

A chain multiplies one segment of irreps by another, couples the product to a degree, multiplies that by a third
segment, couples it again, and so on. As the factors commute, its polynomial is what remains of the coupling when it is
symmetrised over all orders of its factors: other chains of the same factors may give the same polynomial, a sum of
several, or zero.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from .angular import clebsch_gordan
from .calls.arrays import Array
from .irreps import Segment

Kind = tuple[int, ...]
"""Which segments are multiplied, by number, sorted."""

_STRAY = 1e-12
"""Coefficients of normalised polynomials below this are zeros that rounding has missed: others are above 1e-4, for four
factors of degrees up to 4 and three of degrees up to 6."""

_INDEPENDENT = 1e-6
"""What must be left of a normalised polynomial once its projections on others are subtracted. Of one that depends on
them 1e-15 is left, of others more than 0.2 for those factors, and more than 0.1 for five of degrees up to 3."""


class Chain(NamedTuple):
    """Segments of irreps in the order in which they are multiplied, the degree l after each, and the polynomial."""

    factors: tuple[int, ...]
    degrees: tuple[int, ...]
    polynomial: Array
    """Coefficients of the monomials of its kind, shape (2 l + 1, monomials)."""

    @property
    def kind(self) -> Kind:
        """Its segments, sorted."""
        return tuple(sorted(self.factors))


class Powers:
    """The symmetric powers of irreps, each of a multiplicity that does not matter here."""

    def __init__(self, segments: Sequence[Segment], convention: Literal["librascal", "e3nn"]) -> None:
        self._segments, self._convention = segments, convention
        ends = list(itertools.accumulate(segment.dim for segment in segments))
        self._rows = [range(end - segment.dim, end) for segment, end in zip(segments, ends, strict=True)]
        self.degrees, self.parities = [s.degree for s in segments], [s.parity for s in segments]
        self._orders = np.concatenate([np.arange(-s.degree, s.degree + 1) for s in segments])
        self.length = ends[-1]
        self._monomials: dict[Kind, Array] = {}
        self._products: dict[tuple[Kind, int], Array] = {}
        self._couplings: dict[tuple[int, int, int], Array] = {}
        self._bases: dict[tuple[Kind, int], list[Chain]] = {}

    def chains(self, power: int, degree: int, parity: int) -> list[Chain]:
        """Linearly independent ones by which all polynomials of an irrep can be written, sorted by their factors."""
        found = [
            chain
            for kind in itertools.combinations_with_replacement(range(len(self._segments)), power)
            if math.prod(self._segments[i].parity for i in kind) == parity
            for chain in self._basis(kind, degree)
        ]
        return sorted(found, key=lambda chain: chain[:2])

    def monomials(self, kind: Kind) -> Array:
        """Those of so many factors of each segment, shape (monomials, factors): rows are sorted, as they are."""
        found = self._monomials.get(kind)
        if found is None:
            parts = (itertools.combinations_with_replacement(self._rows[i], n) for i, n in Counter(kind).items())
            rows = sorted(tuple(sorted(itertools.chain(*part))) for part in itertools.product(*parts))
            found = self._monomials[kind] = np.array(rows, int).reshape(len(rows), len(kind))
        return found

    def starts(self) -> Iterator[Chain]:
        """The chains of one factor."""
        for i, segment in enumerate(self._segments):
            yield Chain((i,), (segment.degree,), np.eye(segment.dim))

    def longer(self, chain: Chain, factor: int, degree: int) -> Chain:
        """A chain times one more segment, coupled to a degree: not normalised."""
        coupling = self._coupling(chain.degrees[-1], self._segments[factor].degree, degree)
        kind = tuple(sorted((*chain.kind, factor)))
        polynomial = np.zeros((2 * degree + 1, len(self.monomials(kind))))
        for i, products in enumerate(self._times(chain.kind, factor)):
            polynomial[:, products] += coupling[:, i].T @ chain.polynomial
        return Chain((*chain.factors, factor), (*chain.degrees, degree), polynomial)

    def _basis(self, kind: Kind, degree: int) -> list[Chain]:
        """Linearly independent chains of a kind that make an irrep, of as few terms as greed finds, each of norm 1.

        Their number is exact, by counting monomials. Which of them are independent is decided in floating point, with a
        margin of many orders of magnitude.
        """
        found = self._bases.get((kind, degree))
        if found is None:
            found = self._bases[kind, degree] = self._independent(kind, degree, self._multiplicity(kind, degree))
        return found

    def _multiplicity(self, kind: Kind, degree: int) -> int:
        """How many irreps of a degree there are: of the complex monomials of order m, one each of every l >= |m|."""
        of_orders = Counter(self._orders[self.monomials(kind)].sum(axis=1).tolist())
        return of_orders[degree] - of_orders[degree + 1]

    def _independent(self, kind: Kind, degree: int, number: int) -> list[Chain]:
        if len(kind) == 1:
            return [chain for chain in self.starts() if chain.kind == kind and chain.degrees == (degree,)]
        if not number:
            return []
        weights = self._weights(kind) / (2 * degree + 1)
        candidates = []
        for factor in set(kind):
            others = list(kind)
            others.remove(factor)
            l2 = self._segments[factor].degree
            for l1 in range(abs(degree - l2), degree + l2 + 1):
                for shorter in self._basis(tuple(others), l1):
                    chain = self.longer(shorter, factor, degree)
                    norm = np.sqrt(np.sum(weights * chain.polynomial**2))
                    if norm > _STRAY:
                        polynomial = chain.polynomial / norm
                        polynomial[abs(polynomial) < _STRAY] = 0
                        candidates.append(chain._replace(polynomial=polynomial))
        candidates.sort(key=lambda chain: (np.count_nonzero(chain.polynomial), *chain[:2]))
        found: list[Chain] = []
        directions = np.zeros((0, candidates[0].polynomial.size))
        for chain in candidates:
            rest = (np.sqrt(weights) * chain.polynomial).ravel()
            for _ in range(2):  # once more, for what rounding has left
                rest = rest - (directions @ rest) @ directions
            left = np.linalg.norm(rest)
            if left > _INDEPENDENT and len(found) < number:
                found.append(chain)
                directions = np.vstack([directions, rest / left])
        if len(found) < number:
            raise ArithmeticError(
                f"{number} couplings of {kind} to {degree} are independent, but {len(found)} are found"
            )
        return found

    def _weights(self, kind: Kind) -> Array:
        """One by the number of orders of a monomial's factors: C**2 times it is the sum of the tensor's squares."""
        repeats = [math.prod(map(math.factorial, Counter(row).values())) for row in self.monomials(kind).tolist()]
        return np.array(repeats) / math.factorial(len(kind))

    def _times(self, kind: Kind, factor: int) -> Array:
        """Which monomial of a longer kind each of a kind is, times each component of a segment."""
        found = self._products.get((kind, factor))
        if found is None:
            longer = self.monomials(tuple(sorted((*kind, factor))))
            number = {tuple(row): i for i, row in enumerate(longer.tolist())}
            rows = self.monomials(kind).tolist()
            products = [[number[tuple(sorted((*row, i)))] for row in rows] for i in self._rows[factor]]
            found = self._products[kind, factor] = np.array(products)
        return found

    def _coupling(self, l1: int, l2: int, l3: int) -> Array:
        found = self._couplings.get((l1, l2, l3))
        if found is None:
            rule = clebsch_gordan(l1, l2, l3, convention=self._convention)
            found = self._couplings[l1, l2, l3] = rule.to_dense()
        return found
