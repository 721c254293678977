"""A polynomial as kernels evaluate it: products P of components, times sums of coefficients times components.

    out[mu] += P * (coef[0] + coef[1] * x[q[0]] + coef[2] * x[q[1]] + ...)        over the nodes of mu

The coefficients are sums of weights, the same for all atoms with one row of weights, so that these are formed once for
many. All of it is done for whole columns at a time: polynomials have up to millions of terms.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from ..calls.arrays import Array
from ..monomials import PolynomialTerms, changes, numbered


class Nodes(NamedTuple):
    """Those whose P have the same number of factors: of each these, a row, and mu, and how many q there are."""

    p: Array
    mu: Array
    terms: Array


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
    nodes : list of Nodes
        Those of no factor, of one, and so on. Those of one product stand together, by how many q complete them: a loop
        that ends otherwise than the time before costs a processor as much as several terms.
    q : Array
        What completes the nodes, in their order.
    coefs, paths : Sparse
        The coefficients of the nodes in their order, as sums of weights, and the gradients of weights as sums of those
        of coefficients.
    products : int
        How many different P have more than one factor, or are products of those that have.
    """

    nodes: list[Nodes]
    q: Array
    coefs: Sparse
    paths: Sparse
    products: int

    def behind(self, heads: list[Array], lengths: list[Array]) -> Array:
        """The q of each node behind other numbers: for each of `nodes` these, and how many each has of them."""
        terms = np.concatenate([of.terms for of in self.nodes])
        begin = np.cumsum(terms) - terms
        return np.insert(self.q, np.repeat(begin, np.concatenate(lengths)), np.concatenate(heads))

    @property
    def work(self) -> int:
        """Multiply-adds an atom and channel, of the value, at the least: each P is formed once."""
        return len(self.coefs) + self.products


def scheduled(terms: PolynomialTerms) -> Program:
    """The program of a polynomial."""
    of_degrees = terms.terms
    rows = [np.column_stack([m, mu]) for m, mu, _, _ in of_degrees] or [np.zeros((0, 2), np.int32)]
    begins = [changes(of_degree) for of_degree in rows]
    nodes, node, q = _nodes([of_degree[begin] for of_degree, begin in zip(rows, begins, strict=True)])
    order = np.argsort(node * (terms.shape[0] + 1) + q)
    node, q = node[order], q[order]
    unused = np.ones(sum(len(of.mu) for of in nodes), int)  # the first coefficient of nodes whose P is no monomial
    unused[node[q < 0]] = 0
    number = np.empty_like(node)
    number[order] = np.arange(len(node)) + np.cumsum(unused)[node]
    coef = number[np.cumsum(np.concatenate(begins)) - 1]
    order = np.argsort(coef, kind="stable")
    path = np.concatenate([np.zeros(0, np.int32), *(of.path for of in of_degrees)])
    value = np.concatenate([np.zeros(0), *(of.C for of in of_degrees)])
    coef, path, value = coef[order], path[order], value[order]
    return Program(
        nodes,
        q[q >= 0],
        _sparse(coef, path, value, len(node) + int(unused.sum())),
        _sparse(path, coef, value, terms.num_paths),
        _products(nodes),
    )


def _nodes(monomials: list[Array]) -> tuple[list[Nodes], Array, Array]:
    """The nodes that monomials are in, which are rows of factors and mu, by degree; and of each monomial the node, and
    the q that completes it there, -1 where it is the P of one.
    """
    monomials = [monomials[0][:0, 1:], *monomials]  # of degree 0, which there are none of
    nodes: list[Nodes] = []
    node = [np.zeros(len(rows), int) for rows in monomials]  # counted back from the last node; 0 for none yet
    q = [np.full(len(rows), -1) for rows in monomials]
    total = 0
    for degree in range(len(monomials) - 1, 0, -1):
        left = np.flatnonzero(node[degree] == 0)
        rows = monomials[degree][left]
        if not len(left):
            nodes.insert(0, Nodes(rows[:, 2:], rows[:, -1], left))
            continue
        products = np.concatenate([*(np.delete(rows, i, axis=1) for i in range(degree)), monomials[degree - 1]])
        number, example = numbered(products)
        of_left, of_shorter = np.split(number, [degree * len(left)])
        of_left = of_left.reshape(degree, -1)
        taken = _taken(of_left, len(example))
        terms = np.bincount(taken, minlength=len(example))
        used = np.flatnonzero(terms)
        used = used[np.lexsort((terms[used], np.cumsum(changes(products[example[used], :-1]))))]
        total += len(used)
        place = np.zeros(len(example), int)
        place[used] = np.arange(len(used)) - total
        node[degree][left], node[degree - 1] = place[taken], place[of_shorter]
        q[degree][left] = rows[np.arange(len(left)), np.argmax(of_left == taken, axis=0)]
        of_used = products[example[used]]
        nodes.insert(0, Nodes(of_used[:, :-1], of_used[:, -1], terms[used]))
    return nodes, np.concatenate(node) + total, np.concatenate(q)


def _products(nodes: list[Nodes]) -> int:
    """How many products of two factors or more are formed on the way to each P, factor by factor."""
    products, number = 0, np.concatenate([nodes[0].mu[:0], *(of.p[:, 0] for of in nodes[1:])])
    for n in range(2, len(nodes)):
        factor = np.concatenate([of.p[:, n - 1] for of in nodes[n:]])
        number, example = numbered(np.column_stack([number[len(number) - len(factor) :], factor]))
        products += len(example)
    return products


def _taken(of: Array, none: int) -> Array:
    """The product that each monomial is in a node of: `of` has those of each, a column, from the last to the first. In
    few: the one is taken next that completes most of those that are left, and of such the first.
    """
    taken = of[-1].tolist()  # those that no other is left with
    different = of.copy()
    different[1:][of[1:] == of[:-1]] = none  # of equal factors
    flat = different.ravel()
    number = np.bincount(flat, minlength=none + 1)
    number[none] = 0
    several = np.flatnonzero(number > 1)
    at = np.flatnonzero(number[flat] > 1)
    monomials = at[np.argsort(flat[at])] % of.shape[1]
    completed, by_number, left = {}, defaultdict(list), number.tolist()
    for p, end in zip(several.tolist(), np.cumsum(number[several]).tolist(), strict=True):
        completed[p] = monomials[end - left[p] : end]
        by_number[left[p]].append(p)
    products = list(zip(*different.tolist(), strict=True))
    for n in range(max(by_number, default=0), 1, -1):
        for p in sorted(by_number.pop(n, ())):
            if left[p] < n:
                by_number[left[p]].append(p)
                continue
            for k in completed[p].tolist():
                if products[k]:
                    taken[k] = p
                    for other in products[k]:
                        left[other] -= 1
                    products[k] = ()
    return np.array(taken, int)


def _sparse(row: Array, column: Array, value: Array, rows: int) -> Sparse:
    order = np.argsort(row, kind="stable")
    begin = np.searchsorted(row[order], np.arange(rows + 1))
    return Sparse(begin.astype(np.int32), column[order].astype(np.int32), value[order])
