"""Runs operations on NumPy arrays.

What depends on shapes alone is planned once and kept; a call is then a look-up, allocations and the kernel.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..algebra import FORWARD, OPTIONAL, TERM, VJP, Operation
from ..calls.arrays import Array, as_axis, check_out, check_writing
from ..calls.dtypes import as_array, common_dtype, wide
from ..calls.layout import Operand, Shapes, c_strides, coalesced, cut_for_sums, operand, resolve_shapes
from ..calls.plans import Cache
from ..terms import Terms, lengths
from . import limits, memory
from ._kernel import ffi, lib
from .programs import Program
from .turns import in_turns

from_buffer, sa_run, sa_run_3, sa_run_5 = ffi.from_buffer, lib.sa_run, lib.sa_run_3, lib.sa_run_5

_FIRST, _BOTH = (True,), (True, True)
_FORWARD, _VJP = FORWARD.name, VJP.name
_MOST_PLANS = _MOST_PROGRAMS = 2**14

_LONG, _PART, _LARGE_PART = 10**9, 10**7, 2 * 10**8
"""Work (`sa_program`) from which a call is done in turns, and of a part at least and at most. One is 0.05 to 1 ns."""
_ROWS_PER_PART = 4096
"""The least that begin at whole cache lines (walk.h, edge)."""


def _readable() -> bool:
    """Whether C finds the data of an array by the address of its object (`sa_data`)."""
    array = np.empty(1)
    return sys.implementation.name == "cpython" and lib.sa_data(id(array)) == from_buffer("char[]", array)


_READABLE = _readable()


def product(rule: Terms, x1: Array, x2: Array, axis: int, out: Array | None = None) -> Array:
    """The product, of arrays to an array. On few rows a call costs what is done here, so little is."""
    if type(axis) is int:
        # fmt: off
        key: tuple[Any, ...] = (rule._digest, _FORWARD, axis, x1.shape, x1.strides, x1.dtype,
                                x2.shape, x2.strides, x2.dtype)
        # fmt: on
        if out is not None:
            key += (out.shape, out.strides, out.dtype)
        plan = planned_before(key)
        if plan is not None and plan.simple:
            if out is None:
                out = np.empty(plan.first, plan.dtype)
            else:
                check_writing(out, {"x1": x1, "x2": x2})
            if sa_run_3(plan.call, id(x1), id(x2), id(out)):
                raise plan.no_memory()
            return out
    result: Array = execute(rule, FORWARD, (x1, x2), axis, _FIRST, out)[0]
    return result


def vjp(rule: Terms, dy: Array, x1: Array, x2: Array, axis: int) -> tuple[Array, Array]:
    """Both gradients, to new arrays; as short."""
    if type(axis) is int:
        # One display, as this is a tenth of the time.
        # fmt: off
        key = (rule._digest, _VJP, axis, dy.shape, dy.strides, dy.dtype, x1.shape, x1.strides, x1.dtype,
               x2.shape, x2.strides, x2.dtype)
        # fmt: on
        plan = planned_before(key)
        if plan is not None and plan.simple:
            dx1: Array = np.empty(x1.shape, plan.dtype)
            dx2: Array = np.empty(x2.shape, plan.dtype)
            if sa_run_5(plan.call, id(dy), id(x1), id(x2), id(dx1), id(dx2)):
                raise plan.no_memory()
            return dx1, dx2
    dx1, dx2 = execute(rule, VJP, (dy, x1, x2), axis, _BOTH)
    return dx1, dx2


def execute(
    rule: Terms,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    wanted: tuple[bool, ...],
    out: Array | None = None,
) -> tuple[Any, ...]:
    """Runs an operation; returns its outputs, None where not `wanted`.

    Optional inputs may be None, which is zero. `out` is for the first output.
    """
    plan, arrays = planned(rule, operation, values, axis, wanted, out)
    return plan.run(arrays, out)


def planned(
    rule: Terms,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    wanted: tuple[bool, ...],
    out: Array | None = None,
) -> tuple[Plan, Sequence[Any]]:
    """The plan of a call, and the arrays that it is for: `values` themselves if nothing has to be converted."""
    axis = as_axis(axis)
    plan = planned_before(_key(rule, operation, values, axis, wanted, out))
    if plan is None:
        return _new_plan(rule, operation, values, axis, wanted, out)
    if out is not None:
        check_writing(out, _given(operation, values))
    return plan, values


def _key(
    rule: Terms, operation: Operation, values: Sequence[Any], axis: int, wanted: tuple[bool, ...], out: Any
) -> Any:
    """All that a plan depends on; None if something has to be converted first."""
    key: list[Any] = [rule._digest, operation.name if all(wanted) else (operation.name, wanted), axis]
    for value in values:
        if type(value) is np.ndarray:
            key += (value.shape, value.strides, value.dtype)
        elif value is None:
            key.append(None)
        else:
            return None
    if isinstance(out, np.ndarray):
        key += (out.shape, out.strides, out.dtype)
    elif out is not None:
        return None
    return tuple(key)


def _given(operation: Operation, arrays: Sequence[Array | None]) -> dict[str, Array]:
    return {name: a for a, (name, _) in zip(arrays, operation.inputs, strict=True) if a is not None}


def _new_plan(
    rule: Terms, operation: Operation, values: Sequence[Any], axis: int, wanted: tuple[bool, ...], out: Array | None
) -> tuple[Plan, list[Array | None]]:
    """Checks the arrays, brings them to one dtype, and makes a plan for them."""
    arrays = [
        None if value is None and name in OPTIONAL else as_array(value, name)
        for value, (name, _) in zip(values, operation.inputs, strict=True)
    ]
    given = _given(operation, arrays)
    dtype = common_dtype(given)
    shapes = resolve_shapes(operation, lengths(rule), given, axis)
    if out is not None:
        check_out(out, shapes.outputs[0], dtype, given)
    with np.errstate(all="ignore"):
        arrays = [None if array is None else array.astype(dtype, copy=False) for array in arrays]
    key = _key(rule, operation, arrays, axis, wanted, out)  # of what has been converted, it may be known
    return _plans.get(key) or _plans.add(key, Plan(rule, operation, arrays, shapes, wanted, dtype, out)), arrays


class _Output(NamedTuple):
    """One to allocate: `copies` of it in float64 to be added up if it is reduced, else 0."""

    shape: tuple[int, ...]
    copies: int


class Plan:
    """Everything about a call that does not depend on addresses.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the inputs that it is for, and of the outputs.
    outputs : list of _Output
        Those that are wanted.
    first : tuple of int
        The first one's shape.
    simple : bool
        Whether it is for contiguous arrays that C can read, with results that are no sums, and given or small, in one
        turn.
    long : bool
        Whether it is done in turns, between which Python answers signals.
    call, layout, program : cdata, cdata, Program
        What `sa_run` takes, and what it points to.
    """

    __slots__ = (
        "_rule",
        "_wanted",
        "_wide",
        "call",
        "dtype",
        "first",
        "layout",
        "long",
        "outputs",
        "program",
        "simple",
    )

    def __init__(
        self,
        rule: Terms,
        operation: Operation,
        arrays: Sequence[Array | None],
        shapes: Shapes,
        wanted: tuple[bool, ...],
        dtype: np.dtype[Any],
        out: Array | None,
    ) -> None:
        present = tuple(array is not None for array in arrays)
        program = _program(rule, operation, present, wanted, dtype)
        summed = wide(dtype)
        rows = math.prod(shapes.batch)

        operands = [
            operand(array.shape, array.strides, shapes.axis, shapes.batch)
            for array in (arrays[i] for i in program.inputs)
            if array is not None
        ]
        reduced = [False] * len(operands)
        for o in program.outputs:
            shape = shapes.outputs[o]
            if operation.outputs[o] == TERM:
                reduced.append(True)
                operands.append(Operand(summed.itemsize, (0,) * len(shapes.batch)))
                continue
            reduced.append(math.prod(shape) != rows * shape[shapes.axis])
            strides = c_strides(shape, summed if reduced[-1] else dtype) if out is None else out.strides
            operands.append(operand(shape, strides, shapes.axis, shapes.batch))
        layout = coalesced(shapes.batch, operands)
        parts = 0  # as many as threads
        self.long = rows * program.pointer.work >= _LONG
        if any(reduced):
            layout, parts = cut_for_sums(layout, reduced)
        elif self.long:
            work = program.pointer.work
            each = max(1, min(max(_PART, _ROWS_PER_PART * work), _LARGE_PART) // work)
            parts = min(layout.shape[layout.cut], -(-rows // each))

        numbers = [len(layout.shape), layout.cut, parts, *layout.shape]
        self.outputs = []
        for k in range(len(operands)):
            apart = 0
            if k >= len(program.inputs):
                shared = layout.strides[k][layout.cut] == 0  # parts meet in its elements
                shape = shapes.outputs[program.outputs[k - len(program.inputs)]]
                copies = 0 if not reduced[k] else parts if shared else 1
                apart = math.prod(shape) * summed.itemsize if copies > 1 else 0
                self.outputs.append(_Output(shape, copies))
            numbers += [operands[k].component, reduced[k], apart, *layout.strides[k]]
        self.first = self.outputs[0].shape if self.outputs else ()
        self.layout = ffi.new("int64_t[]", numbers)
        self.call = ffi.new("sa_call *", [program.pointer, self.layout])
        self.program, self._rule, self._wanted = program, repr(rule), len(wanted)
        self._wide, self.dtype = summed, dtype
        self.simple = (
            _READABLE
            and not self.long
            and not any(reduced)
            and all(array.flags.c_contiguous for array in (*arrays, out) if array is not None)
            and (out is not None or all(math.prod(o.shape) * dtype.itemsize < memory.ALIGNED for o in self.outputs))
        )

    def _call(self, *pointers: Any) -> None:
        if self.long:
            failed = in_turns(lambda first, last: lib.sa_run_parts(self.call, pointers, first, last), self.layout[2])
        else:
            failed = sa_run(self.call, pointers)
        if failed:
            raise self.no_memory()

    @property
    def small(self) -> bool:
        """Whether no result is a sum, or so large that its memory is kept: then frameworks may allocate them."""
        return all(
            not copies and math.prod(shape) * self.dtype.itemsize < memory.KEPT for shape, copies in self.outputs
        )

    @property
    def nbytes(self) -> int:
        """What it keeps alive."""
        size: int = self.program.nbytes + 8 * len(self.layout)
        return size

    def no_memory(self) -> MemoryError:
        """What to raise where the kernel found none."""
        return MemoryError(f"no memory for a tile of rows of {self._rule}")

    def run(self, arrays: Sequence[Any], out: Array | None) -> tuple[Any, ...]:
        """Allocates the outputs and calls the kernel on arrays of the planned shapes, strides and dtype."""
        program = self.program
        if self.simple:
            results = [np.empty(shape, self.dtype) for shape, _ in self.outputs] if out is None else [out]
            self._call(*[from_buffer(arrays[i]) for i in program.inputs], *map(from_buffer, results))
        else:
            results = self._general(arrays, out)
        if len(results) == self._wanted:
            return tuple(results)
        finished = dict(zip(program.outputs, results, strict=True))
        return tuple(finished.get(o) for o in range(self._wanted))

    def _general(self, arrays: Sequence[Any], out: Array | None) -> list[Array]:
        results = (
            [out]
            if out is not None
            else [
                np.zeros((copies, *shape), self._wide) if copies else memory.empty(shape, self.dtype)
                for shape, copies in self.outputs
            ]
        )
        pointers = [pointer(arrays[i]) for i in self.program.inputs]
        self._call(*pointers, *map(pointer, results))
        for k, (_, copies) in enumerate(self.outputs):
            if copies:
                with np.errstate(all="ignore"):  # no operation warns: most of its arithmetic is not NumPy's
                    results[k] = results[k].sum(axis=0).astype(self.dtype)
        return results


def _program(
    rule: Terms, operation: Operation, present: tuple[bool, ...], wanted: tuple[bool, ...], dtype: np.dtype[Any]
) -> Program:
    key = (rule._digest, operation.name, present, wanted, dtype)
    program = _programs.get(key)
    return program or _programs.add(key, Program(rule, operation.restricted(present, wanted), wanted, dtype))


def pointer(array: Array) -> Any:
    """The address of an array's first number."""
    if array.flags.c_contiguous:
        return from_buffer(array)  # several times faster than asking for the address
    return ffi.cast("char *", array.ctypes.data)


# A rule of 1e6 terms has programs of 30 to 100 MB. Those that plans keep alive are counted for every plan.
_programs: Cache[Program] = Cache("programs", _MOST_PROGRAMS, limits.KEPT, lambda program: program.nbytes, newest=8)
_plans: Cache[Plan] = Cache("plans", _MOST_PLANS, limits.KEPT, lambda plan: plan.nbytes, newest=8)
planned_before = _plans.get
