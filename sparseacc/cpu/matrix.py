"""A rule as message passing reads it: a sparse matrix from the rows of x to those of the result, whose entries are sums
over the components of y. edges.h says how its code is read.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from ..calls.arrays import Array
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
        columns = distinct_terms(rule, dtype.name, weighted=True)
        order = np.lexsort((columns[0], columns[2], columns[3]))  # by path, mu and m1
        m1, m2, mu, path, C = (column[order] for column in columns)
        begins = np.flatnonzero(np.diff(path, prepend=-1)).tolist()
        code, first_of = [len(begins)], dict[bytes, int]()
        found: list[Array] = [np.zeros((2, 0), int)]  # terms, and the entries that they are of
        entries = self.work = 0
        for begin, end in pairwise([*begins, len(path)]):
            of = slice(begin, end)
            code_of_path, number = _path(mu[of].tolist(), m1[of].tolist())
            of_path = max(number) + 1
            likeness = (mu[of] - mu[begin], m1[of] - m1[begin], m2[of], C[of])
            first = first_of.setdefault(b"".join(column.tobytes() for column in likeness), entries)
            if first == entries:  # no copy of another
                found.append(np.stack([np.arange(begin, end), np.array(number) + first]))
                entries += of_path
            code += [int(path[begin]), first, *code_of_path]
            self.work += of_path + len(set(mu[of].tolist()))
        which, number_of = np.concatenate(found, axis=1)
        arrays: dict[str, Any] = {"code": np.array(code, np.int32)}
        for begin_of, other, coef, key, size, column in (
            ("terms_of_entry", "m2", "coef", number_of, entries, m2[which]),
            ("terms_of_m2", "entry", "coef_of_m2", m2[which], rule.shape[1], number_of),
        ):
            order = np.argsort(key, kind="stable")
            arrays[begin_of] = np.searchsorted(key[order], np.arange(size + 1)).astype(np.int32)
            arrays[other] = column[order].astype(np.int32)
            arrays[coef] = C[which][order].astype(computed_in(dtype.name))
        self._alive = arrays
        self.nbytes = sum(array.nbytes for array in arrays.values())
        sizes = dict(zip(("n1", "n2", "n_out"), rule.shape, strict=True))
        sizes |= {"paths": rule.num_paths, "entries": entries}
        buffers = {name: buffer(array) for name, array in arrays.items()}
        self.pointer = ffi.new("sa_matrix *", sizes | buffers)


def buffer(array: Array) -> Any:
    """A table of numbers for a field of a C struct, which does not keep it alive."""
    return ffi.from_buffer("int32_t[]" if array.dtype == np.int32 else "char[]", array)


def _path(mu: list[int], m1: list[int]) -> tuple[list[int], list[int]]:
    """The code of a path from its number of pairs on, and which of its entries each of its terms is of."""
    m1_of = {row: sorted({m for _, m in of_row}) for row, of_row in groupby(zip(mu, m1, strict=True), itemgetter(0))}
    rows = sorted(m1_of, key=lambda row: (m1_of[row], row))  # those that have the same m1 side by side
    code, number = [(len(rows) + 1) // 2], dict[tuple[int, int], int]()
    for i in range(0, len(rows), 2):
        first, second = rows[i], rows[i + 1] if i + 1 < len(rows) else -1
        of_first, of_second = m1_of[first], m1_of.get(second, [])
        both = sorted(set(of_first) & set(of_second))
        only_first, only_second = (sorted(set(m) - set(both)) for m in (of_first, of_second))
        code += [first, second, len(both), len(only_first), len(only_second), *both, *only_first, *only_second]
        pairs = [(row, m) for m in both for row in (first, second)]
        for entry in [*pairs, *((first, m) for m in only_first), *((second, m) for m in only_second)]:
            number[entry] = len(number)
    return code, [number[entry] for entry in zip(mu, m1, strict=True)]


def matrix(rule: Terms, dtype: np.dtype[Any]) -> Matrix:
    """The matrix of a rule, made once."""
    key = rule._digest, dtype
    return _matrices.get(key) or _matrices.add(key, Matrix(rule, dtype))


_matrices: Cache[Matrix] = Cache("matrices", 2**10, limits.KEPT, lambda made: made.nbytes, newest=8)
