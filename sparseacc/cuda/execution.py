"""Runs operations on CuPy arrays.

What depends on shapes alone is planned once and kept; a call is then a look-up, allocations and a launch
on the caller's current stream. Sums over the batch come as partial sums, which CuPy adds up in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cupy
import numpy as np

from ..algebra import OPTIONAL, Operation
from ..calls.arrays import as_axis, check_out
from ..calls.dtypes import check_dtype, common_dtype, wide
from ..calls.layout import Shapes, resolve_shapes
from ..calls.plans import Cache
from ..terms import Terms, lengths
from . import geometry
from .planning import Planned, Strides, plan

_MOST_PLANS, _MOST_KERNELS, _MOST_BYTES = 2**14, 2**12, 2**28


def execute(
    rule: Terms,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    wanted: tuple[bool, ...],
    out: Any = None,
) -> tuple[Any, ...]:
    """Runs an operation; returns its outputs, None where not `wanted`.

    Optional inputs may be None, which is zero. `out` is for the first output.
    """
    axis = as_axis(axis)
    arrays = {name: value for value, (name, _) in zip(values, operation.inputs, strict=True)}
    given = {name: value for name, value in arrays.items() if value is not None or name not in OPTIONAL}
    device = device_of({**given, "out": out} if out is not None else given)
    for name, array in given.items():
        check_dtype(array.dtype, name)
    dtype = common_dtype(given)
    shapes = resolve_shapes(operation, lengths(rule), given, axis)
    if out is not None:
        check_out(ghost(out), shapes.outputs[0], dtype, {name: ghost(array) for name, array in given.items()})
    with cupy.cuda.Device(device):
        inputs = [None if array is None else converted(array, dtype) for array in arrays.values()]
        key = _key(rule, operation, inputs, axis, wanted, out, device)
        plan = _plans.get(key) or _plans.add(key, Plan(rule, operation, inputs, shapes, wanted, dtype, out))
        return plan.run(inputs, out)


def device_of(arrays: dict[str, Any]) -> int:
    """The device of all the arrays."""
    for name, array in arrays.items():
        if not isinstance(array, cupy.ndarray):
            where = ", ".join(f"{n} is {_described(a)}" for n, a in arrays.items())
            raise ValueError(f"{name} is not on the device: {where}; move it with cupy.asarray({name})")
    devices = {name: int(array.device.id) for name, array in arrays.items()}
    if len(set(devices.values())) > 1:
        raise ValueError("arrays on different devices: " + ", ".join(f"{n} on device {d}" for n, d in devices.items()))
    return next(iter(devices.values()))


def _described(value: Any) -> str:
    return (
        f"a CuPy array on device {value.device.id}" if isinstance(value, cupy.ndarray) else f"a {type(value).__name__}"
    )


def ghost(array: Any) -> Any:
    """A NumPy array with the addresses of a device array, to be asked about and never to be read."""
    if not isinstance(array, cupy.ndarray):
        return array
    interface = {
        "shape": array.shape,
        "typestr": array.dtype.str if array.dtype.kind != "V" else f"|V{array.dtype.itemsize}",
        "data": (array.data.ptr, False),
        "strides": array.strides,
        "version": 3,
    }
    return np.asarray(type("Ghost", (), {"__array_interface__": interface})()).view(array.dtype)


def is_aligned(array: Any) -> bool:
    """Whether addresses are multiples of the dtype's size."""
    return all(n % array.itemsize == 0 for n in (array.data.ptr, *array.strides))


def converted(array: Any, dtype: np.dtype[Any]) -> Any:
    """The array, or a copy of that dtype, by way of an aligned one: CuPy's own kernels read aligned numbers only."""
    if array.dtype != dtype and array.size and not is_aligned(array):
        array = in_bytes(array).copy().view(array.dtype)[..., 0]
    return array.astype(dtype, copy=False)


def in_bytes(array: Any) -> Any:
    """A view, with the bytes of a number along a last axis."""
    return cupy.ndarray((*array.shape, array.itemsize), cupy.uint8, array.data, (*array.strides, 1))


def _key(
    rule: Terms, operation: Operation, arrays: Sequence[Any], axis: int, wanted: tuple[bool, ...], out: Any, device: int
) -> Any:
    """All that a plan depends on."""
    key: list[Any] = [rule._digest, operation.name, axis, wanted, device]
    for array in (*arrays, out):
        key.append(None if array is None else (array.shape, array.strides, array.dtype, is_aligned(array)))
    return tuple(key)


def _strides(array: Any) -> Strides:
    return Strides(array.shape, array.strides, is_aligned(array))


class _Kernel(NamedTuple):
    """One that is compiled and loaded, and its tables, on one device."""

    function: Any
    tables: tuple[Any, ...]
    nbytes: int


def _compiled(rule: Terms, planned: Planned) -> _Kernel:
    """The kernel on the current device."""
    key = rule._digest, planned.spec, cupy.cuda.Device().id
    kernel = _kernels.get(key)
    if kernel is None:
        source = planned.source
        function = cupy.RawModule(code=source.code, options=source.options).get_function(source.name)
        if source.shared_mem > geometry.SHARED:
            function.max_dynamic_shared_size_bytes = source.shared_mem
        tables = tuple(map(cupy.asarray, source.tables))
        size = len(source.code) + sum(table.nbytes for table in tables)
        kernel = _kernels.add(key, _Kernel(function, tables, size))
    return kernel


class _Output(NamedTuple):
    """One to allocate: `parts` partial sums of it in the wide dtype, or none."""

    shape: tuple[int, ...]
    parts: int


class Plan:
    """Everything about a call that does not depend on addresses."""

    def __init__(
        self,
        rule: Terms,
        operation: Operation,
        arrays: Sequence[Any],
        shapes: Shapes,
        wanted: tuple[bool, ...],
        dtype: np.dtype[Any],
        out: Any,
    ) -> None:
        present = tuple(array is not None for array in arrays)
        self._dtype, self._wanted = dtype, wanted
        self._wide = wide(dtype)
        self._outputs = {o: _Output(shapes.outputs[o], 0) for o, asked in enumerate(wanted) if asked}
        self._inputs: tuple[int, ...] = ()
        self._kernel: _Kernel | None = None
        rows = math.prod(shapes.batch)
        computed = operation.restricted(present, wanted)
        if rows == 0 or rule.nnz == 0 or not computed.products:
            return  # nothing but zeros
        planned = plan(
            rule,
            computed,
            [None if array is None else _strides(array) for array in arrays],
            shapes,
            wanted,
            dtype,
            None if out is None else _strides(out),
            cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"],
        )
        self._outputs = {
            o: _Output(output.shape, parts)
            for (o, output), parts in zip(self._outputs.items(), planned.parts, strict=True)
        }
        self._inputs = planned.spec.inputs()
        self._grid, self._block, self._shared = planned.grid, (planned.source.threads,), planned.source.shared_mem
        self._integers = tuple(map(np.int64, planned.integers))
        self._kernel = _compiled(rule, planned)

    @property
    def nbytes(self) -> int:
        """What it keeps alive."""
        return self._kernel.nbytes if self._kernel else 0

    def run(self, arrays: Sequence[Any], out: Any) -> tuple[Any, ...]:
        """Allocates the outputs and launches the kernel on arrays of the planned shapes, strides and dtype."""
        if self._kernel is None:
            results = {o: cupy.zeros(output.shape, self._dtype) for o, output in self._outputs.items()}
            if out is not None:
                in_bytes(out)[...] = 0
                results = {0: out}
            return tuple(results.get(o) for o in range(len(self._wanted)))
        results = {
            o: cupy.empty((output.parts, *output.shape), self._wide)
            if output.parts
            else out
            if out is not None
            else cupy.empty(output.shape, self._dtype)
            for o, output in self._outputs.items()
        }
        inputs = [arrays[i] for i in self._inputs]
        self._kernel.function(
            self._grid,
            self._block,
            (*inputs, *results.values(), *self._kernel.tables, *self._integers),
            shared_mem=self._shared,
        )
        for o, output in self._outputs.items():
            if output.parts:
                results[o] = results[o].sum(axis=0).astype(self._dtype)
        return tuple(results.get(o) for o in range(len(self._wanted)))


_kernels: Cache[_Kernel] = Cache("kernels", _MOST_KERNELS, _MOST_BYTES, lambda kernel: kernel.nbytes)
_plans: Cache[Plan] = Cache("plans on GPUs", _MOST_PLANS, _MOST_BYTES, lambda plan: plan.nbytes)
