"""A polynomial as kernels evaluate it: products P of components, times sums of coefficients times components.

    out[mu] += P * (coef[0] + coef[1] * x[q[0]] + coef[2] * x[q[1]] + ...)        over the nodes of mu

The coefficients are sums of weights, the same for all atoms with one row of weights, so that these are formed once for
many.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..calls.arrays import Array
from ..monomials import PolynomialTerms

Monomial = tuple[int, ...]


class Node(NamedTuple):
    """``P[p] * (coef * 1 + sum of coef * x[m])``: `own` says whether p is a monomial itself, and `m` what it is
    completed by.
    """

    p: Monomial
    own: bool
    m: list[int]

    def monomials(self) -> Iterator[Monomial | None]:
        """Those that its coefficients are of, the first one None if p is none."""
        yield self.p if self.own else None
        for m in self.m:
            yield tuple(sorted((*self.p, m)))


def nodes(monomials: set[Monomial]) -> list[Node]:
    """Every monomial in one node, in few nodes: the one is taken next that completes most of those that are left."""
    found: dict[Monomial, Node] = {}
    for degree in sorted({len(monomial) for monomial in monomials}, reverse=True):
        left = {monomial for monomial in monomials if len(monomial) == degree}
        for p in left & found.keys():
            found[p] = found[p]._replace(own=True)
        left -= found.keys()
        of_p: defaultdict[Monomial, dict[Monomial, int]] = defaultdict(dict)
        for monomial in left:
            for i, m in enumerate(monomial):
                of_p[monomial[:i] + monomial[i + 1 :]][monomial] = m
        heap = [(-len(of), p) for p, of in of_p.items()]
        heapq.heapify(heap)
        while left:
            most, p = heapq.heappop(heap)
            covered = left & of_p[p].keys()
            if len(covered) < -most:
                if covered:
                    heapq.heappush(heap, (-len(covered), p))
                continue
            found[p] = Node(p, False, sorted(of_p[p][monomial] for monomial in covered))
            left -= covered
    return list(found.values())


class Sparse(NamedTuple):
    """Sums: row i is the sum of value * what is at `column`, from `begin` of i to that of i + 1."""

    begin: Array
    column: Array
    value: Array

    def __len__(self) -> int:
        return len(self.begin) - 1


class Program(NamedTuple):
    """A polynomial, for any dtype.

    Attributes
    ----------
    nodes : list of (int, Node)
        Of each mu. Those of one product stand together, by how many m complete them: a loop that ends otherwise than
        the time before costs a processor as much as several terms.
    coefs, paths : Sparse
        The coefficients of the nodes in their order, as sums of weights, and the gradients of weights as sums of those
        of coefficients.
    products : int
        How many different P have more than one factor, or are products of those that have.
    """

    nodes: list[tuple[int, Node]]
    coefs: Sparse
    paths: Sparse
    products: int

    @property
    def work(self) -> int:
        """Multiply-adds an atom and channel, of the value, at the least: each P is formed once."""
        return len(self.coefs) + self.products


def scheduled(terms: PolynomialTerms) -> Program:
    """The program of a polynomial."""
    of_mu: list[dict[Monomial, list[tuple[int, float]]]] = [defaultdict(list) for _ in range(terms.shape[1])]
    for m, mu, path, C in terms.terms:
        for monomial, row, k, value in zip(m.tolist(), mu.tolist(), path.tolist(), C.tolist(), strict=True):
            of_mu[row][tuple(monomial)].append((k, value))
    found = [(row, node) for row, of in enumerate(of_mu) for node in nodes(set(of))]
    found.sort(key=lambda each: (len(each[1].p), each[1].p, len(each[1].m), each[0]))
    sums = [[] if monomial is None else of_mu[row][monomial] for row, node in found for monomial in node.monomials()]
    coef = np.repeat(np.arange(len(sums)), [len(of) for of in sums])
    path, value = (np.array([term[i] for of in sums for term in of], dtype) for i, dtype in ((0, int), (1, float)))
    products = {node.p[:n] for _, node in found for n in range(2, len(node.p) + 1)}
    return Program(
        found,
        _sparse(coef, path, value, len(sums)),
        _sparse(path, coef, value, terms.num_paths),
        len(products),
    )


def _sparse(row: Array, column: Array, value: Array, rows: int) -> Sparse:
    order = np.argsort(row, kind="stable")
    begin = np.searchsorted(row[order], np.arange(rows + 1))
    return Sparse(begin.astype(np.int32), column[order].astype(np.int32), value[order])
