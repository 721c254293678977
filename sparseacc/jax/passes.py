"""Message passing and polynomials as XLA calls them: C (cpu/native/xla.c) comes here; arrays are where XLA has them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from ..calls.arrays import Array
from ..cpu._kernel import ffi, lib
from ..graph import graph_of
from ..messages import solved
from ..monomials import as_text as polynomial_as_text
from ..polynomials import Polynomial, polynomial_of_text
from ..rule import rule_of_text
from ..terms import as_text
from .xla import DTYPES, failed

TARGET = "sparseacc_messages"
_DTYPES: dict[int, np.dtype[Any]] = {**DTYPES, 4: np.dtype(np.int32), 5: np.dtype(np.int64)}
"""By XLA's numbers."""


def attribute(sums: Any) -> str:
    """What XLA keeps of a call, by value: compiled functions may be saved, and loaded elsewhere."""
    words = (["messages"], sums.names, sums.wanted, [str(int(there)) for there in sums.columns])
    return ";".join((*(",".join(each) for each in words), str(sums.axis), str(sums.num_nodes), as_text(sums.rule)))


def polynomial_attribute(polynomial: Polynomial, names: Sequence[str], wanted: Sequence[str]) -> str:
    """The same of a polynomial."""
    return ";".join(("polynomial", ",".join(names), ",".join(wanted), polynomial_as_text(polynomial)))


@lru_cache(maxsize=256)
def _decoded(text: bytes) -> Callable[[list[Array], list[Array]], None]:
    """What a text asks for, of arguments and results."""
    kind, names, wanted, rest = text.decode().split(";", 3)
    make = {"messages": _messages, "polynomial": _polynomial}[kind]
    return make(names.split(","), wanted.split(","), rest)


def _messages(names: list[str], wanted: list[str], rest: str) -> Callable[[list[Array], list[Array]], None]:
    columns, at, nodes, text = rest.split(";", 3)
    there, axis, num_nodes = [column == "1" for column in columns.split(",")], int(at), int(nodes)
    rule = rule_of_text(text)

    def compute(arguments: list[Array], results: list[Array]) -> None:
        given = iter(arguments[len(names) :])
        graph = graph_of([next(given) if column else None for column in there], num_nodes, may_be_padded=True)
        arrays = {"dout" if name == "out" else name: array for name, array in zip(names, arguments, strict=False)}
        solved(rule, graph, axis, arrays, wanted, dict(zip(wanted, results, strict=True)))

    return compute


def _polynomial(names: list[str], wanted: list[str], text: str) -> Callable[[list[Array], list[Array]], None]:
    polynomial = polynomial_of_text(text)

    def compute(arguments: list[Array], results: list[Array]) -> None:
        *arrays, rows = arguments
        polynomial.compute(dict(zip(names, arrays, strict=True)), rows, dict(zip(wanted, results, strict=True)))

    return compute


@ffi.def_extern(error=13)  # type: ignore[untyped-decorator]
def sa_xla_pass(frame: Any, message: Any, size: int) -> int:
    """Computes what the attribute says of the arguments into the results. Returns 0, or an error for XLA to raise."""
    try:
        span = frame.attributes.values[0]
        compute = _decoded(ffi.unpack(span.pointer, span.size))
        arguments = [_array(frame.arguments.items[i]) for i in range(frame.arguments.size)]
        compute(arguments, [_array(frame.results.items[i]) for i in range(frame.results.size)])
    except BaseException as error:
        return failed(error, message, size)
    return 0


def _array(buffer: Any) -> Array:
    """A buffer of XLA as an array on its memory."""
    shape = ffi.unpack(buffer.dims, buffer.rank)
    dtype = _DTYPES[buffer.dtype]
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, ffi.buffer(ffi.cast("char *", buffer.data), math.prod(shape) * dtype.itemsize))


_address = int(ffi.cast("intptr_t", ffi.addressof(lib, "sa_xla_messages")))
jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(ctypes.c_void_p(_address)), platform="cpu")
