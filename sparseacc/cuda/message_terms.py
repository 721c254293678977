"""The rule as kernels of message passing read it. Contracted with an edge's y it is a sparse matrix A for each path:
out[mu] is the sum over paths of w[path] times the sum of A[k] x[m1] over the entries k of row mu.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ..calls.dtypes import computed_in
from ..terms import Terms, distinct_terms

MOST_SUMS = 48
"""Rows of the result that a thread sums at a time: they fit in registers, with what is multiplied."""


class Entry(NamedTuple):
    """One of a matrix: the sum of C y[m2] over its terms, each an m2 and a C."""

    path: int
    mu: int
    m1: int
    terms: tuple[tuple[int, float], ...]


def entries(rule: Terms, dtype: str) -> list[Entry]:
    """All of a rule's, sorted by path, mu and m1; coefficients are rounded to the dtype of the computation."""
    m1, m2, mu, path, C = distinct_terms(rule, dtype, weighted=True)
    rounded = C.astype(computed_in(dtype)).astype(np.float64).tolist()
    terms: dict[tuple[int, int, int], list[tuple[int, float]]] = {}
    for *entry, m, c in zip(path.tolist(), mu.tolist(), m1.tolist(), m2.tolist(), rounded, strict=True):
        terms.setdefault((entry[0], entry[1], entry[2]), []).append((m, c))
    return [Entry(*key, tuple(sorted(terms[key]))) for key in sorted(terms)]


def parts(found: Sequence[Entry], n_out: int, most: int) -> list[tuple[list[int], list[Entry]]]:
    """Rows of the result for blocks of their own, with their entries: so few that sums of all fit in registers.

    Rows of a path stay together as far as they fit, so that its weights are read once.
    """
    of_row: dict[int, list[Entry]] = {}
    for entry in found:
        of_row.setdefault(entry.mu, []).append(entry)
    paths = [list(path) for _, path in groupby(of_row, key=lambda mu: of_row[mu][0].path)]
    paths += [[mu] for mu in range(n_out) if mu not in of_row]
    fewest = _shared_out(paths, most)
    for limit in range(-(-n_out // len(fewest)), most):  # as even as their number allows
        rows = _shared_out(paths, limit)
        if len(rows) == len(fewest):
            break
    else:
        rows = fewest
    return [(part, sorted(entry for mu in part for entry in of_row.get(mu, ()))) for part in rows]


def _shared_out(paths: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    rows: list[list[int]] = [[]]
    for path in paths:
        if rows[-1] and len(rows[-1]) + len(path) > most:
            rows.append([])
        for mu in path:
            if len(rows[-1]) == most:
                rows.append([])
            rows[-1].append(mu)
    return rows
