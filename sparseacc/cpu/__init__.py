"""The CPU half: runs operations on NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import (
    Array,
    Operand,
    as_array,
    c_strides,
    check_out,
    coalesced,
    common_dtype,
    cut_for_sums,
    operand,
    resolve_shapes,
)
from ..operations import FORWARD, OPTIONAL, TERM, Operation
from . import threads
from ._kernel import ffi, lib
from .programs import Program

if TYPE_CHECKING:
    from ..rule import Rule

_from_buffer = ffi.from_buffer
_NAMES = {lib.SA_BASELINE: "baseline", lib.SA_AVX2: "avx2", lib.SA_AVX512: "avx512"}


def instruction_set() -> str:
    """The instruction set that kernels use: "baseline" (SSE2, NEON), "avx2" or "avx512".

    Examples
    --------
    >>> sparseacc.cpu.instruction_set() in sparseacc.cpu.instruction_sets()
    True
    """
    return _NAMES[lib.sa_get_instruction_set()]


def instruction_sets() -> tuple[str, ...]:
    """Those that this machine has, the best last."""
    return tuple(name for isa, name in _NAMES.items() if isa <= lib.sa_best_instruction_set())


def set_instruction_set(name: str) -> None:
    """Chooses another of `instruction_sets()`, for measurements and tests. Results differ in the last bits.

    Raises
    ------
    ValueError
        If this machine does not have it.
    """
    if name not in instruction_sets():
        raise ValueError(f"instruction set {name!r} is not one of this machine's: {', '.join(instruction_sets())}")
    lib.sa_set_instruction_set({n: isa for isa, n in _NAMES.items()}[name])


def contiguous_product(rule: Rule, x1: Any, x2: Any) -> Array | None:
    """The product for the commonest case, axis last and C-contiguous arrays of one batch and dtype; else None.

    A call on few rows costs what is done here, so nothing is that could be known before.
    """
    if type(x1) is not np.ndarray or type(x2) is not np.ndarray:
        return None
    dtype = x1.dtype
    program = rule._programs.get(dtype)
    if program is None:
        return None  # the general way makes it
    shape = x1.shape
    n1, n2, n_out = rule.shape
    batch = shape[:-1]
    if (
        not shape
        or x2.dtype is not dtype
        or x2.shape != (*batch, n2)
        or shape[-1] != n1
        or not x1.flags.c_contiguous
        or not x2.flags.c_contiguous
    ):
        return None
    out: Array = np.empty((*batch, n_out), dtype)
    if lib.sa_run_contiguous(
        program.pointer, _from_buffer(x1), _from_buffer(x2), _from_buffer(out), math.prod(batch), 1, threads.limit
    ):
        raise _no_memory(rule)
    return out


def execute(
    rule: Rule,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    *,
    wanted: tuple[bool, ...] | None = None,
    out: Array | None = None,
) -> tuple[Any, ...]:
    """Runs an operation on NumPy arrays: checks and normalises them once, calls the kernel once, returns the outputs.

    An output is None where it is not `wanted`. An optional input may be None. `out` is for the first output.
    """
    arrays = [
        None if value is None and name in OPTIONAL else as_array(value, name)
        for value, (name, _) in zip(values, operation.inputs, strict=True)
    ]
    given = {name: array for array, (name, _) in zip(arrays, operation.inputs, strict=True) if array is not None}
    dtype = common_dtype(given)
    shapes = resolve_shapes(operation, (*rule.shape, rule.nnz), given, axis)
    if out is not None:
        check_out(out, shapes.outputs[0], dtype, given)
    wanted = wanted or (True,) * len(shapes.outputs)
    program = _program(rule, operation, tuple(array is not None for array in arrays), wanted, dtype)

    read = [arrays[i].astype(dtype, copy=False) for i in program.inputs]  # type: ignore[union-attr]
    operands = [operand(array.shape, array.strides, shapes.axis, shapes.batch) for array in read]
    rows = math.prod(shapes.batch)
    wide = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    reduced = [False] * len(read)
    for o in program.outputs:
        shape = shapes.outputs[o]
        if operation.outputs[o] == TERM:
            reduced.append(True)
            operands.append(Operand(wide.itemsize, (0,) * len(shapes.batch)))
            continue
        reduced.append(math.prod(shape) != rows * shape[shapes.axis])
        strides = c_strides(shape, wide if reduced[-1] else dtype) if out is None else out.strides
        operands.append(operand(shape, strides, shapes.axis, shapes.batch))
    layout = coalesced(shapes.batch, operands)
    parts = 0  # as many as threads
    if any(reduced):
        layout, parts = cut_for_sums(layout, reduced)

    results: list[Array] = []
    part_strides = [0] * len(operands)
    for k, o in enumerate(program.outputs, start=len(read)):
        shape = shapes.outputs[o]
        if not reduced[k]:
            results.append(np.empty(shape, dtype) if out is None else out)
            continue
        copies = parts if layout.strides[k][layout.cut] == 0 else 1
        results.append(np.zeros((copies, *shape), wide))
        part_strides[k] = results[-1].strides[0] if copies > 1 else 0

    if rows and program.outputs:
        call = [len(layout.shape), layout.cut, parts, *layout.shape]
        for k, array in enumerate((*read, *results)):
            call += [array.ctypes.data, operands[k].component, reduced[k], part_strides[k], *layout.strides[k]]
        if lib.sa_run(program.pointer, ffi.new("int64_t[]", call), threads.limit):
            raise _no_memory(rule)

    finished = dict(zip(program.outputs, results, strict=True))
    for k, o in enumerate(program.outputs, start=len(read)):
        if reduced[k]:
            finished[o] = finished[o].sum(axis=0).astype(dtype)
    return tuple(finished.get(o) for o in range(len(wanted)))


def _program(
    rule: Rule, operation: Operation, present: tuple[bool, ...], wanted: tuple[bool, ...], dtype: np.dtype[Any]
) -> Program:
    key: Any = dtype if operation is FORWARD else (operation.name, present, wanted, dtype)
    program = rule._programs.get(key)
    if program is None:
        program = rule._programs[key] = Program(rule, operation.restricted(present, wanted), wanted, dtype)
    return program


def _no_memory(rule: Rule) -> MemoryError:
    return MemoryError(f"no memory for a tile of rows of {rule}")
