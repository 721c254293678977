"""A polynomial as its kernel reads it, and the kernel's calls on NumPy arrays of one real dtype."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..calls.dtypes import computed_in
from ..calls.plans import Cache
from ..monomials import PolynomialTerms, changes
from ..schedule.polynomials import Program as Made
from ..schedule.polynomials import scheduled
from . import limits, memory
from ._kernel import ffi, lib
from .execution import pointer
from .matrix import buffer
from .programs import STORED_AS
from .turns import in_turns

_ATOMS_OF_SEGMENT, _MOST_SEGMENTS = 64, 256
"""Atoms that share coefficients: forming these costs about as much as an atom. Of more atoms there are not more
segments, as each gives the weights' gradient a row of its own."""
_WORK_PER_THREAD, _PARTS_PER_THREAD, _LONG = 4 * 10**6, 8, 10**10
"""Multiply-adds that are worth a thread more, and parts for each; of a call that is done in turns."""


class Program:
    """A polynomial as polynomial.h reads it, for one dtype.

    Attributes
    ----------
    pointer : cdata
        The `sa_polynomial` of sparseacc.h.
    work : int
        Multiply-adds an atom and channel, of the value.
    nbytes : int
        What it takes.
    """

    __slots__ = ("_alive", "nbytes", "pointer", "work")

    def __init__(self, terms: PolynomialTerms, dtype: np.dtype[Any]) -> None:
        made = scheduled(terms)
        code = _code(made)
        arrays = {"code": code}
        sparse: dict[str, Any] = {}
        for name, sums in (("of_coef", made.coefs), ("of_path", made.paths)):
            of_sums = {**sums._asdict(), "value": sums.value.astype(computed_in(dtype.name))}
            sparse[name] = {field: buffer(array) for field, array in of_sums.items()}
            arrays |= {f"{name}.{field}": array for field, array in of_sums.items()}
        self._alive, self.nbytes = arrays, sum(array.nbytes for array in arrays.values())
        self.work = made.work
        sizes = dict(zip(("n_in", "n_out"), terms.shape, strict=True))
        sizes |= {"paths": terms.num_paths, "coefs": len(made.coefs)}
        self.pointer = ffi.new("sa_polynomial *", sizes | {"code": buffer(code)} | sparse)


def _code(made: Made) -> Array:
    """The number of products P; of each how many factors and nodes it has, and its factors; of each node mu, and the
    number of q that complete it, and these.
    """
    products, heads, lengths = 0, [], []
    for p, mu, terms in made.nodes:
        is_first = changes(p)
        nodes = np.zeros(len(p), int)
        nodes[is_first] = np.diff(np.flatnonzero(is_first), append=len(p))
        head = np.column_stack([np.full(len(p), p.shape[1]), nodes, p, mu, terms])
        kept = is_first[:, None] | (np.arange(head.shape[1]) >= 2 + p.shape[1])
        products += int(is_first.sum())
        heads.append(head[kept])
        lengths.append(kept.sum(axis=1))
    return np.concatenate([[products], made.behind(heads, lengths)]).astype(np.int32)


def program(terms: PolynomialTerms, dtype: np.dtype[Any]) -> Program:
    """The program of a polynomial, made once."""
    key = terms._digest, dtype
    return _programs.get(key) or _programs.add(key, Program(terms, dtype))


_programs: Cache[Program] = Cache("polynomials", 2**8, limits.KEPT, lambda made: made.nbytes, newest=8)

_OPERANDS = {"x": lib.SA_X, "w": lib.SA_W, "dout": lib.SA_DOUT, "zx": lib.SA_ZX, "zw": lib.SA_ZW}
_RESULTS = {"out": lib.SA_OUT, "x": lib.SA_DX, "w": lib.SA_DW}


def contracted(
    terms: PolynomialTerms, arrays: Mapping[str, Array], rows: Array, wanted: tuple[str, ...]
) -> dict[str, Array]:
    """The value (out), or the gradients of x or of the weights w, by these names; along zx and zw if any is there.

    x and zx are (atoms, n_in, channels), dout is (atoms, n_out, channels), w and zw are (rows, paths, channels), of
    which atom i has row ``rows[i]``; any strides, all of one dtype.
    """
    if "out" in wanted and len(wanted) > 1 and not {"zx", "zw"} & arrays.keys():
        raise ValueError("values and gradients are computed by two calls")
    x, w = arrays["x"], arrays["w"]
    made, dtype = program(terms, x.dtype), x.dtype
    atoms, _, channels = x.shape
    order = None if np.all(rows[1:] >= rows[:-1]) else np.argsort(rows, kind="stable")
    index = rows if order is None else rows[order]
    most = max(_ATOMS_OF_SEGMENT, -(-atoms // _MOST_SEGMENTS))
    of_row = pairwise([*np.flatnonzero(changes(index)).tolist(), atoms])
    begin = np.array([first for a, b in of_row for first in range(a, b, most)] + [atoms], np.int64)
    segments = len(begin) - 1
    row_of_segment = index[begin[:-1]]
    results: dict[str, Array] = {}
    for name in wanted:
        shape = (segments, *w.shape[1:2], channels) if name == "w" else (atoms, terms.shape[name == "out"], channels)
        results[name] = memory.empty(shape, np.dtype(computed_in(dtype.name)) if name == "w" else dtype)
    if atoms and channels:
        work = made.work * atoms * channels * (1 if wanted == ("out",) else 3)
        threads = min(int(lib.sa_get_threads()), 1 + work // _WORK_PER_THREAD)
        parts = max(1, min(segments, max(threads * _PARTS_PER_THREAD if threads > 1 else 1, work // _LONG)))
        part = np.linspace(0, segments, parts + 1).astype(np.int64)
        operands: list[Any] = [{}] * lib.SA_ROWS
        data = [ffi.NULL] * lib.SA_ROWS
        for place, array in (
            *((_OPERANDS[name], array) for name, array in arrays.items()),
            *((_RESULTS[name], array) for name, array in results.items()),
        ):
            row, component, channel = array.strides
            operands[place] = {
                "row": row,
                "component": component,
                "channel": 0 if array.shape[2] == 1 else channel,
                "dtype": STORED_AS[array.dtype.name],
            }
            data[place] = pointer(array)
        call = ffi.new(
            "sa_contraction *",
            {
                "polynomial": made.pointer,
                "channels": channels,
                "order": ffi.NULL if order is None else ffi.from_buffer("int64_t[]", order),
                "begin": ffi.from_buffer("int64_t[]", begin),
                "row_of_segment": ffi.from_buffer("int64_t[]", row_of_segment),
                "part": ffi.from_buffer("int64_t[]", part),
                "rows_of": operands,
            },
        )

        def run(first: int, last: int) -> int:
            return int(lib.sa_contract(call, data, first, last, threads))

        if in_turns(run, parts) if work > _LONG else run(0, parts):
            raise MemoryError("no memory for the coefficients of a polynomial")
    if "w" in results:
        results["w"] = _of_rows(results["w"], row_of_segment, w)
    return results


def _of_rows(of_segment: Array, row_of_segment: Array, like: Array) -> Array:
    """The weights' gradient of each row: the sum over its segments, in their order."""
    total = np.zeros((len(like), *of_segment.shape[1:]), of_segment.dtype)
    first = np.flatnonzero(np.diff(row_of_segment, prepend=-1))
    if len(first):
        total[row_of_segment[first]] = np.add.reduceat(of_segment, first, axis=0)
    if like.shape[2] == 1:
        total = total.sum(axis=2, keepdims=True)
    return total.astype(like.dtype, copy=False)
