"""The function that XLA calls, the part of it that is Python.

XLA calls C (cpu/xla.c), which remembers the calls that it has made. What is new to it, or fails, comes here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from .. import cpu
from ..arrays import Array
from ..cpu._kernel import ffi, lib
from ..cpu.execution import planned
from ..cpu.recall import remember
from ..operations import FORWARD, VJP
from ..rule import Rule

TARGET = "sparseacc_product"

_INTERNAL_ERROR, _RESOURCE_EXHAUSTED = 13, 8

_DTYPES = {
    10: np.dtype(np.float16),
    11: np.dtype(np.float32),
    12: np.dtype(np.float64),
    15: np.dtype(np.complex64),
    16: np.dtype(ml_dtypes.bfloat16),
    18: np.dtype(np.complex128),
}


@ffi.def_extern()  # type: ignore[untyped-decorator]
def sa_xla_first(frame: Any) -> Any:
    """Computes the product of the two arguments into the result; an error is XLA's to raise."""
    try:
        buffers = [frame.arguments.items[0], frame.arguments.items[1], frame.results.items[0]]
        span = frame.attributes.values[0]
        text = ffi.unpack(span.pointer, span.size)
        rule, axis = _decoded(text)
        x1, x2, out = map(_view, buffers)
        batch = np.broadcast_shapes(*(_with(x.shape, axis, 1) for x in (x1, x2)))
        if _with(out.shape, axis, 1) == batch:
            plan, arrays = planned(rule, FORWARD, (x1, x2), axis, (True,), out)
            plan.run(arrays, out)
            remember(text, [n for b in buffers for n in (b.dtype, b.rank, *ffi.unpack(b.dims, b.rank))], plan)
        else:
            _sum(rule, axis, x1, x2, batch, out)
    except BaseException as error:
        return _error(frame, error)
    return ffi.NULL


def attribute(rule: Rule, axis: int) -> str:
    """What XLA keeps of a rule, by value: compiled functions may be saved, and loaded elsewhere."""
    return f"{axis};{rule._text}"


@lru_cache(maxsize=1024)
def _decoded(text: bytes) -> tuple[Rule, int]:
    axis, _, rule = text.decode().partition(";")
    return Rule._from_text(rule), int(axis)


def _view(buffer: Any) -> Array:
    dtype, shape = _DTYPES[buffer.dtype], tuple(ffi.unpack(buffer.dims, buffer.rank))
    size = dtype.itemsize
    for n in shape:
        size *= n
    return np.ndarray(shape, dtype, ffi.buffer(buffer.data, size)) if size else np.empty(shape, dtype)


def _sum(rule: Rule, axis: int, x1: Array, x2: Array, batch: tuple[int, ...], out: Array) -> None:
    """The product, summed where `out` has length 1 and the batch has not, as the gradient of what was broadcast.

    That is what vjp does, with m1 and mu exchanged: out takes the place of dx1, and of x1 only the shape counts.
    """
    x1, x2 = (np.broadcast_to(x, _with(batch, axis, x.shape[axis])) for x in (x1, x2))
    shape_only = np.broadcast_to(np.zeros((), out.dtype), out.shape)
    out[...] = cpu.execute(_transposed(rule), VJP, (x1, shape_only, x2), axis, (True, False))[0]


@lru_cache(maxsize=1024)
def _transposed(rule: Rule) -> Rule:
    return rule.transpose((2, 1, 0))


def _with(shape: Any, axis: int, n: int) -> tuple[int, ...]:
    changed = list(shape)
    changed[axis] = n
    return tuple(changed)


def _error(frame: Any, error: BaseException) -> Any:
    message = ffi.new("char[]", f"sparseacc: {type(error).__name__}: {error}".encode())
    code = _RESOURCE_EXHAUSTED if isinstance(error, MemoryError) else _INTERNAL_ERROR
    arguments = ffi.new("sa_xla_error *", {"message": message, "code": code})
    arguments.struct_size = ffi.sizeof("sa_xla_error")
    return frame.api.create_error(arguments)


address = int(ffi.cast("intptr_t", ffi.addressof(lib, "sa_xla")))
