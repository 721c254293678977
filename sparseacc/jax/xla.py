"""The function that XLA calls: arrays in XLA's own memory, in and out, without a copy.

XLA calls C functions that take one structure, described in its header xla/ffi/api/c_api.h: the interface has a
version and only grows. The part of it that is needed is declared below, so that nothing of XLA is needed to build the
package, and one build serves all versions. The function is Python that runs for some microseconds before the kernel,
which does not hold the interpreter's lock.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cffi
import ml_dtypes
import numpy as np

from .. import cpu
from ..arrays import Array
from ..operations import FORWARD, VJP
from ..rule import Rule

TARGET = "sparseacc_product"

_C_API = """
typedef struct extension { size_t struct_size; int type; struct extension *next; } extension;
typedef struct { size_t struct_size; extension *extensions; int major, minor; } version;
typedef struct { size_t struct_size; version api_version; uint32_t traits; int64_t state_type_id; } metadata;
typedef struct { extension base; metadata *metadata; } metadata_extension;
typedef struct { size_t struct_size; extension *extensions; const char *message; int code; } error_args;
typedef struct {
    size_t struct_size; extension *extensions; version api_version; void *internal; void *(*create_error)(error_args *);
} api;
typedef struct { size_t struct_size; extension *extensions; int dtype; void *data; int64_t rank, *dims; } buffer;
typedef struct { size_t struct_size; extension *extensions; int64_t size; int *types; buffer **items; } buffers;
typedef struct { const char *pointer; size_t size; } span;
typedef struct {
    size_t struct_size; extension *extensions; int64_t size; int *types; span **names; span **values;
} attributes;
typedef struct {
    size_t struct_size; extension *extensions; api *api; void *context; int stage;
    buffers arguments, results; attributes attributes;
} call_frame;
"""
_METADATA = 1  # the type of the extension by which XLA asks for the version
_INTERNAL_ERROR, _RESOURCE_EXHAUSTED = 13, 8

_ffi = cffi.FFI()
_ffi.cdef(_C_API)

_DTYPES = {
    10: np.dtype(np.float16),
    11: np.dtype(np.float32),
    12: np.dtype(np.float64),
    15: np.dtype(np.complex64),
    16: np.dtype(ml_dtypes.bfloat16),
    18: np.dtype(np.complex128),
}


@_ffi.callback("void *(call_frame *)")  # type: ignore[untyped-decorator]
def handler(frame: Any) -> Any:
    """Computes the product of the two arguments into the result; an error is XLA's to raise."""
    try:
        if frame.extensions and frame.extensions.type == _METADATA:
            # What is read here is in every version, so that any version will do.
            ours = _ffi.cast("metadata_extension *", frame.extensions).metadata.api_version
            ours.major, ours.minor = frame.api.api_version.major, frame.api.api_version.minor
            return _ffi.NULL
        x1, x2 = frame.arguments.items[0], frame.arguments.items[1]
        attribute = frame.attributes.values[0]
        rule, axis = _decoded(_ffi.unpack(attribute.pointer, attribute.size))
        _compute(rule, axis, _view(x1), _view(x2), _view(frame.results.items[0]))
    except BaseException as error:
        return _error(frame, error)
    return _ffi.NULL


def attribute(rule: Rule, axis: int) -> str:
    """What XLA keeps of a rule, by value: compiled functions may be saved, and loaded elsewhere."""
    return f"{axis};{rule._text}"


@lru_cache(maxsize=1024)
def _decoded(text: bytes) -> tuple[Rule, int]:
    axis, _, rule = text.decode().partition(";")
    return Rule._from_text(rule), int(axis)


def _view(buffer: Any) -> Array:
    dtype, shape = _DTYPES[buffer.dtype], tuple(_ffi.unpack(buffer.dims, buffer.rank))
    size = dtype.itemsize
    for n in shape:
        size *= n
    return np.ndarray(shape, dtype, _ffi.buffer(buffer.data, size)) if size else np.empty(shape, dtype)


def _compute(rule: Rule, axis: int, x1: Array, x2: Array, out: Array) -> None:
    """The product; where `out` has length 1 and the batch has not, summed, as the gradient of what was broadcast."""
    batch = list(np.broadcast_shapes(*(_with(x.shape, axis, 1) for x in (x1, x2))))
    if _with(out.shape, axis, 1) == tuple(batch):
        cpu.execute(rule, FORWARD, (x1, x2), axis, (True,), out)
        return
    # A sum is what vjp does, with m1 and mu exchanged: out takes the place of dx1, and of x1 only the shape counts.
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
    message = _ffi.new("char[]", f"sparseacc: {type(error).__name__}: {error}".encode())
    code = _RESOURCE_EXHAUSTED if isinstance(error, MemoryError) else _INTERNAL_ERROR
    arguments = _ffi.new("error_args *", {"message": message, "code": code})
    arguments.struct_size = _ffi.sizeof("error_args")
    return frame.api.create_error(arguments)


address = int(_ffi.cast("intptr_t", handler))
