"""The function that XLA calls, the part of it that is Python.

XLA calls C (cpu/native/xla.c), which runs calls that have been prepared here: most are when a function is lowered. A
function that was exported, or loaded, was lowered elsewhere; a call of it that is new to the process comes here.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..algebra import FORWARD, VJP, WEIGHTED_FORWARD, WEIGHTED_VJP
from ..calls.arrays import Array
from ..calls.dtypes import STORED, bfloat16
from ..calls.layout import c_strides
from ..cpu._kernel import ffi, lib
from ..cpu.execution import Plan, planned
from ..cpu.recall import remember
from ..rule import Rule, rule_of_text, transposed
from ..terms import as_text

TARGET = "sparseacc_product"

_INTERNAL_ERROR, _RESOURCE_EXHAUSTED = 13, 8

DTYPES = {stored.xla: bfloat16("bfloat16") if name == "bfloat16" else np.dtype(name) for name, stored in STORED.items()}
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
"""Of dtypes, as XLA numbers them."""

_Shapes = Sequence[tuple[int, ...]]


def attribute(rule: Rule, axis: int) -> str:
    """What XLA keeps of a rule, by value: compiled functions may be saved, and loaded elsewhere."""
    return f"{axis};{as_text(rule)}"


def prepare(rule: Rule, axis: int, dtype: np.dtype[Any], shapes: _Shapes) -> None:
    """Lets C run a product of arrays of these shapes (x1, x2, weights if there are, result) without Python."""
    _prepared(attribute(rule, axis).encode(), rule, axis, dtype, shapes)


def _prepared(text: bytes, rule: Rule, axis: int, dtype: np.dtype[Any], shapes: _Shapes) -> Plan:
    plan = _plan(rule, axis, dtype, shapes)
    remember(text, [n for shape in shapes for n in (_NUMBERS[dtype], len(shape), *shape)], plan)
    return plan


def _plan(rule: Rule, axis: int, dtype: np.dtype[Any], shapes: _Shapes) -> Plan:
    """The product, summed where the result has length 1 and the batch has not, as the gradient of what was broadcast.

    That is what vjp does, with m1 and mu exchanged: the result takes the place of dx1, and of x1 only the shape counts.
    """
    *factors, out = (_without_memory(shape, dtype) for shape in shapes)
    forward, gradient = (FORWARD, VJP) if len(factors) == 2 else (WEIGHTED_FORWARD, WEIGHTED_VJP)
    batch = np.broadcast_shapes(*(_with(x.shape, axis, 1) for x in factors))
    if _with(out.shape, axis, 1) == batch:
        return planned(rule, forward, factors, axis, (True,))[0]
    x1, *others = (np.broadcast_to(x, _with(batch, axis, x.shape[axis])) for x in factors)
    wanted = (True, *(False for _ in others))
    return planned(transposed(rule, (2, 1, 0)), gradient, (x1, out, *others), axis, wanted)[0]


def _without_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of which nothing but its shape may be read, whatever its size."""
    return np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, c_strides(shape, dtype))


def _with(shape: Any, axis: int, n: int) -> tuple[int, ...]:
    changed = list(shape)
    changed[axis] = n
    return tuple(changed)


@ffi.def_extern(error=_INTERNAL_ERROR)  # type: ignore[untyped-decorator]
def sa_xla_first(frame: Any, message: Any, size: int) -> int:
    """Computes the product of the arguments into the result. Returns 0, or an error for XLA to raise."""
    try:
        arguments = frame.arguments
        buffers = [*(arguments.items[n] for n in range(arguments.size)), frame.results.items[0]]
        span = frame.attributes.values[0]
        text = ffi.unpack(span.pointer, span.size)
        shapes = [tuple(ffi.unpack(buffer.dims, buffer.rank)) for buffer in buffers]
        plan = _prepared(text, *_decoded(text), DTYPES[buffers[0].dtype], shapes)
        if lib.sa_run_stored(plan.call, [ffi.cast("char *", buffer.data) for buffer in buffers]):
            raise plan.no_memory()
    except BaseException as error:
        return failed(error, message, size)
    return 0


def failed(error: BaseException, message: Any, size: int) -> int:
    """Writes what an error says for XLA, and returns its code."""
    said = f"sparseacc: {type(error).__name__}: {error}".encode()[: size - 1]
    ffi.memmove(message, said + b"\0", len(said) + 1)
    return _RESOURCE_EXHAUSTED if isinstance(error, MemoryError) else _INTERNAL_ERROR


def _decoded(text: bytes) -> tuple[Rule, int]:
    axis, _, rule = text.decode().partition(";")
    return rule_of_text(rule), int(axis)


address = int(ffi.cast("intptr_t", ffi.addressof(lib, "sa_xla")))
atexit.register(lib.sa_xla_leave_python)
