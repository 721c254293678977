"""A rule as message passing reads it: a sparse matrix from the rows of x to those of the result, whose entries are sums
over the components of y. edges.h says how its code is read.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from ..calls.dtypes import computed_in
from ..calls.plans import Cache
from ..terms import Terms, distinct_terms
from . import limits
from ._kernel import ffi


class Matrix:
    """Of one rule, for one dtype.

    Attributes
    ----------
    pointer : cdata
        The `sa_matrix` of sparseacc.h.
    work : int
        Multiply-adds an edge and channel.
    nbytes : int
        What it takes.
    """

    __slots__ = ("_alive", "nbytes", "pointer", "work")

    def __init__(self, rule: Terms, dtype: np.dtype[Any]) -> None:
        m1, m2, mu, path, C = distinct_terms(rule, dtype.name, weighted=True)
        entries = _entries(path.tolist(), mu.tolist(), m1.tolist())
        code, groups, number = _code(entries)
        of_term = np.array([number[entry] for entry in zip(path.tolist(), mu.tolist(), m1.tolist(), strict=True)], int)
        real = computed_in(dtype.name)
        arrays: dict[str, Any] = {"code": np.array(code, np.int32)}
        for begins, other, coef, key, size, column in (
            ("terms_of_entry", "m2", "coef", of_term, len(number), m2),
            ("terms_of_m2", "entry", "coef_of_m2", m2, rule.shape[1], of_term),
        ):
            order = np.argsort(key, kind="stable")
            arrays[begins] = np.searchsorted(key[order], np.arange(size + 1)).astype(np.int32)
            arrays[other] = column[order].astype(np.int32)
            arrays[coef] = C[order].astype(real)
        self._alive = arrays
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self.work = len(number) + len({entry[:2] for entry in number})
        sizes = dict(zip(("n1", "n2", "n_out"), rule.shape, strict=True))
        sizes |= {"paths": rule.num_paths, "entries": len(number), "groups": groups}
        buffers = {
            name: ffi.from_buffer("int32_t[]" if array.dtype == np.int32 else "char[]", array)
            for name, array in arrays.items()
        }
        self.pointer = ffi.new("sa_matrix *", sizes | buffers)


_Entry = tuple[int, int, int]
"""Path, mu and m1."""


def _entries(path: list[int], mu: list[int], m1: list[int]) -> list[tuple[int, list[tuple[int, list[int]]]]]:
    """The paths, each with its rows mu, and each of those with its m1; rows that have the same m1 come side by side."""
    entries = sorted(set(zip(path, mu, m1, strict=True)))
    found = []
    for p, of_path in groupby(entries, key=lambda entry: entry[0]):
        rows = [(row, [entry[2] for entry in of_row]) for row, of_row in groupby(of_path, key=lambda entry: entry[1])]
        found.append((p, sorted(rows, key=lambda row: (row[1], row[0]))))
    return found


def _code(paths: list[tuple[int, list[tuple[int, list[int]]]]]) -> tuple[list[int], int, dict[_Entry, int]]:
    """The code, the number of paths with terms, and the number of each entry."""
    code = [len(paths)]
    number: dict[_Entry, int] = {}
    for path, rows in paths:
        code += [path, (len(rows) + 1) // 2]
        for i in range(0, len(rows), 2):
            (first, of_first), (second, of_second) = rows[i], rows[i + 1] if i + 1 < len(rows) else (-1, [])
            both = sorted(set(of_first) & set(of_second))
            only_first, only_second = (sorted(set(m1) - set(both)) for m1 in (of_first, of_second))
            code += [first, second, len(both), len(only_first), len(only_second), *both, *only_first, *only_second]
            pairs = [(row, m) for m in both for row in (first, second)]
            for row, m in [*pairs, *((first, m) for m in only_first), *((second, m) for m in only_second)]:
                number[path, row, m] = len(number)
    return code, len(paths), number


def matrix(rule: Terms, dtype: np.dtype[Any]) -> Matrix:
    """The matrix of a rule, made once."""
    key = rule._digest, dtype
    return _matrices.get(key) or _matrices.add(key, Matrix(rule, dtype))


_matrices: Cache[Matrix] = Cache("matrices", 2**10, limits.KEPT, lambda made: made.nbytes, newest=8)
