"""A polynomial as kernels evaluate it: products of components in a table, and sums of coefficients times those.

    out[mu] += P[p] * (coef[0] + coef[1] * x[q[0]] + coef[2] * x[q[1]] + ...)        over the nodes of mu

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
    rows : int
        Of the table: 1, then the components of x, then each product of two rows above it.
    factors : ndarray
        Which two rows, for each product.
    code : ndarray
        For each mu the number of groups; for each group how many q its nodes have, and how many nodes; and for each
        node the rows p and q. Nodes of one length stand together, as a loop that ends otherwise than the time before
        costs a processor as much as several terms.
    coefs, paths : Sparse
        The coefficients in the order of the code, as sums of weights, and the gradients of weights as sums of those of
        coefficients.
    """

    rows: int
    factors: Array
    code: Array
    coefs: Sparse
    paths: Sparse

    @property
    def work(self) -> int:
        """Multiply-adds an atom and channel, of the value."""
        return len(self.coefs) + len(self.factors) // 2

    def components(self, row: int, n_in: int) -> list[int]:
        """Those whose product is in a row of the table."""
        last: list[int] = []
        while row > n_in:
            row, component = self.factors[2 * (row - 1 - n_in) :][:2].tolist()
            last.insert(0, component - 1)
        return [row - 1, *last] if row else last


def scheduled(terms: PolynomialTerms) -> Program:
    """The program of a polynomial."""
    n_in, n_out = terms.shape
    of_mu: list[dict[Monomial, list[tuple[int, float]]]] = [defaultdict(list) for _ in range(n_out)]
    for m, mu, path, C in terms.terms:
        for monomial, row, k, value in zip(m.tolist(), mu.tolist(), path.tolist(), C.tolist(), strict=True):
            of_mu[row][tuple(monomial)].append((k, value))
    nodes_of = [nodes(set(of)) for of in of_mu]
    row_of: dict[Monomial, int] = {(): 0} | {(m,): 1 + m for m in range(n_in)}
    factors: list[int] = []
    for p in sorted({node.p[:n] for of in nodes_of for node in of for n in range(2, len(node.p) + 1)}, key=len):
        row_of[p] = len(row_of)
        factors += [row_of[p[:-1]], 1 + p[-1]]
    code: list[int] = []
    sums: list[list[tuple[int, float]]] = []
    for of, nodes_of_mu in zip(of_mu, nodes_of, strict=True):
        groups = defaultdict[int, list[Node]](list)
        for node in nodes_of_mu:
            groups[len(node.m)].append(node)
        code.append(len(groups))
        for length, group in sorted(groups.items()):
            code += [length, len(group)]
            for node in sorted(group, key=lambda node: row_of[node.p]):
                code += [row_of[node.p], *(1 + m for m in node.m)]
                sums += [[] if monomial is None else of[monomial] for monomial in node.monomials()]
    coef = np.repeat(np.arange(len(sums)), [len(of) for of in sums])
    path, value = (np.array([term[i] for of in sums for term in of], dtype) for i, dtype in ((0, int), (1, float)))
    return Program(
        len(row_of),
        np.array(factors, np.int32),
        np.array(code, np.int32),
        _sparse(coef, path, value, len(sums)),
        _sparse(path, coef, value, terms.num_paths),
    )


def _sparse(row: Array, column: Array, value: Array, rows: int) -> Sparse:
    order = np.argsort(row, kind="stable")
    begin = np.searchsorted(row[order], np.arange(rows + 1))
    return Sparse(begin.astype(np.int32), column[order].astype(np.int32), value[order])
