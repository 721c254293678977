"""A rule as message passing reads it: a sparse matrix from the rows of x to those of the result, whose entries are sums
over the components of y. edges.h says how its code is read.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..calls.dtypes import computed_in
from ..calls.plans import Cache
from ..terms import Terms, distinct_terms
from . import limits, paths
from ._kernel import ffi, lib


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
        heads, shapes, first_of = list[list[int]](), list[int](), dict[bytes, int]()
        known = dict[frozenset[paths.Entry], tuple[dict[paths.Entry, int], int, int]]()
        found: list[Array] = [np.zeros((2, 0), int)]  # terms, and the entries that they are of
        entries = self.work = 0
        for begin, end in pairwise([*begins, len(path)]):
            of = slice(begin, end)
            (first_mu, step_of_mu, *mus), (first_m1, step_of_m1, *m1s) = _counted(mu[of]), _counted(m1[of])
            of_terms = list(zip(mus, m1s, strict=True))
            of_path = frozenset(of_terms)
            if of_path not in known:
                shape = np.array(paths.code(of_path), np.int32)
                known[of_path] = paths.order(of_path), len(shapes), lib.sa_straight_path(buffer(shape), len(shape))
                shapes += shape.tolist()
            place, at, straight = known[of_path]
            likeness = (mu[of] - mu[begin], m1[of] - m1[begin], m2[of], C[of])
            first = first_of.setdefault(b"".join(column.tobytes() for column in likeness), entries)
            if first == entries:  # no copy of another
                found.append(np.array([range(begin, end), [first + place[entry] for entry in of_terms]]))
                entries += len(place)
            heads.append([int(path[begin]), first, first_m1, step_of_m1, first_mu, step_of_mu, at, straight])
            self.work += len(place) + len(set(mus))
        which, number_of = np.concatenate(found, axis=1)
        after_heads = 1 + sum(map(len, heads))
        code = [len(heads), *(n for *head, at, straight in heads for n in (*head, after_heads + at, straight)), *shapes]
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


def _counted(rows: Array) -> list[int]:
    """The first of rows, the step from one to the next (1 where steps differ), and the rows in steps from the first."""
    steps = np.diff(np.unique(rows))
    step = int(steps[0]) if len(steps) and (steps == steps[0]).all() else 1
    return [int(rows.min()), step, *((rows - rows.min()) // step).tolist()]


def matrix(rule: Terms, dtype: np.dtype[Any]) -> Matrix:
    """The matrix of a rule, made once."""
    key = rule._digest, dtype
    return _matrices.get(key) or _matrices.add(key, Matrix(rule, dtype))


_matrices: Cache[Matrix] = Cache("matrices", 2**10, limits.KEPT, lambda made: made.nbytes, newest=8)
