"""From the shapes and strides of a call to a kernel, its launch geometry and its integer arguments: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..algebra import TERM, Operation
from ..calls.layout import Operand, Shapes, c_strides, coalesced, operand
from ..terms import Terms
from . import geometry
from .coefficients import coefficients_kernel
from .operands import CHANNELS, ROWS, STRIDED
from .rows import rows_kernel
from .source import Access, Source, Spec
from .sums import sums_kernel


class Planned(NamedTuple):
    """A kernel and how it is called.

    `parts` says for every output of how many partial sums it consists, 0 if it is no sum.
    """

    spec: Spec
    source: Source
    grid: tuple[int, int]
    integers: tuple[int, ...]
    parts: tuple[int, ...]


class Strides(NamedTuple):
    """What is to be known of an array: its shape, its strides, and whether its addresses are multiples of the dtype's
    size.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    aligned: bool


def plan(
    rule: Terms,
    operation: Operation,
    arrays: Sequence[Strides | None],
    shapes: Shapes,
    wanted: tuple[bool, ...],
    dtype: np.dtype[Any],
    out: Strides | None,
    limit: int,
) -> Planned:
    """Plans a (restricted) operation on a batch that is not empty, with at least one product."""
    return _Call(rule, operation, arrays, shapes, wanted, dtype, out, limit).planned()


class _Call:
    def __init__(
        self,
        rule: Terms,
        operation: Operation,
        arrays: Sequence[Strides | None],
        shapes: Shapes,
        wanted: tuple[bool, ...],
        dtype: np.dtype[Any],
        out: Strides | None,
        limit: int,
    ) -> None:
        self.rule, self.dtype = rule, dtype
        self.spec = Spec(operation, wanted, dtype.name, (), limit=limit)
        self.rows = math.prod(shapes.batch)
        self.planes = 2 if dtype.kind == "c" else 1
        inputs = [array for array in (arrays[i] for i in self.spec.inputs()) if array is not None]
        found = [operand(array.shape, array.strides, shapes.axis, shapes.batch) for array in inputs]
        self.aligned = [array.aligned for array in inputs]
        self.sizes: list[int] = []
        for o in self.spec.outputs():
            shape = shapes.outputs[o]
            self.sizes.append(math.prod(shape))
            if operation.outputs[o] == TERM:
                found.append(Operand(1, (0,) * len(shapes.batch)))
            else:
                # strides of sums are counted in elements: their dtype depends on the kernel
                summed = self.sizes[-1] != self.rows * shape[shapes.axis]
                strides = c_strides(shape, np.dtype(np.int8) if summed else dtype) if out is None else out.strides
                found.append(operand(shape, strides, shapes.axis, shapes.batch))
            self.aligned.append(out is None or out.aligned)
        layout = coalesced(shapes.batch, found)
        self.shape, self.strides = layout.shape, layout.strides
        self.steps = [o.component for o in found]
        self.columns = [o.columns for o in self.spec._replace(accesses=(Access(STRIDED),) * len(found)).operands(rule)]
        self.first_output = len(inputs)
        # which dimensions each operand sums over
        self.over = [
            tuple(d for d, step in enumerate(self.strides[k]) if step == 0 and self.shape[d] > 1)
            if k >= self.first_output and self.sizes[k - self.first_output]
            else ()
            for k in range(len(found))
        ]

    def planned(self) -> Planned:
        if self.spec.operation.contraction:
            return self._coefficients()
        if any(self.over):
            return self._sums() or self._terms_of_sums()
        return self._rows()

    def _how(self, k: int) -> str:
        """How a kernel reaches an operand."""
        item, n, strides = self.dtype.itemsize, self.columns[k], self.strides[k]
        if not self.aligned[k]:
            return STRIDED
        if self.steps[k] == item or n == 1:
            expected = n * item
            for length, stride in zip(reversed(self.shape), reversed(strides), strict=True):
                if stride != expected and length > 1:
                    break
                expected *= length
            else:
                return ROWS
        if len(self.shape) == 2 and (strides[1], self.steps[k]) == (item, self.shape[1] * item):
            return CHANNELS if strides[0] == n * self.shape[1] * item or self.shape[0] == 1 else STRIDED
        return STRIDED

    def _channels_first(self) -> None:
        """Regards the batch of an active axis in front as channels after it."""
        in_front = (self.shape[0] * self.dtype.itemsize, (self.dtype.itemsize,))
        if len(self.shape) == 1 < self.shape[0] and in_front in zip(self.steps, self.strides, strict=True):
            self.shape = (1, *self.shape)
            self.strides = tuple((0, *s) for s in self.strides)

    def _rows(self) -> Planned:
        self._channels_first()
        accesses = tuple(Access(self._how(k)) for k in range(len(self.steps)))
        spec = self._spec(accesses)
        source = rows_kernel(self.rule, spec)
        return Planned(spec, source, source.launch(self.rows).grid, self._integers(source), (0,) * self._outputs())

    def _terms_of_sums(self) -> Planned:
        """All terms of the sums, where a kernel that adds them up would not fit."""
        accesses, parts = [], []
        strides = [list(s) for s in self.strides]
        steps = list(self.steps)
        wide = 8 * self.planes
        for k, over in enumerate(self.over):
            accesses.append(Access(STRIDED, wide=True) if over else Access(self._how(k)))
            count = 1
            if over:
                steps[k] *= wide
                strides[k] = [wide * s for s in strides[k]]
            for d in over:
                strides[k][d] = count * self.sizes[k - self.first_output] * wide
                count *= self.shape[d]
            if k >= self.first_output:
                parts.append(count if over else 0)
        self.strides, self.steps = tuple(map(tuple, strides)), steps
        spec = self._spec(tuple(accesses))
        source = rows_kernel(self.rule, spec)
        return Planned(spec, source, source.launch(self.rows).grid, self._integers(source), tuple(parts))

    def _sums(self) -> Planned | None:
        summed = sorted({d for over in self.over for d in over})
        turned = max(summed, key=self.shape.__getitem__)
        hows = [self._how(k) if len(self.shape) == 1 else STRIDED for k in range(len(self.steps))]
        accesses = tuple(
            Access(STRIDED, True, over) if over else Access(how) for how, over in zip(hows, self.over, strict=True)
        )
        for threads in (geometry.THREADS, geometry.THREADS // 2, geometry.THREADS // 4):
            split = geometry.split(self.shape, threads)
            spec = self._spec(accesses, split, turned)
            source = sums_kernel(self.rule, spec)
            if source is not None:
                break
        else:
            return None
        tiles = geometry.boxes(self.shape, split, turned)
        strides = [list(s) for s in self.strides]
        steps = list(self.steps)
        parts = []
        for k in range(self.first_output, len(steps)):
            count = 1
            if self.over[k]:
                steps[k] *= self.planes
                strides[k] = [self.planes * s for s in strides[k]]
            for d in self.over[k]:
                strides[k][d] = count * self.sizes[k - self.first_output] * self.planes
                count *= tiles[d]
            parts.append(count if self.over[k] else 0)
        self.strides, self.steps = tuple(map(tuple, strides)), steps
        more = {f"tiles{d}": n for d, n in enumerate(tiles)}
        return Planned(spec, source, (math.prod(tiles), 1), self._integers(source, more), tuple(parts))

    def _coefficients(self) -> Planned:
        self._channels_first()
        accesses = [Access(self._how(k)) for k in range(self.first_output)]
        spec = self._spec((*accesses, Access(ROWS, wide=True)))
        source = coefficients_kernel(self.rule, spec)
        grid = source.launch(self.rows).grid
        return Planned(spec, source, grid, self._integers(source), (grid[0],))

    def _outputs(self) -> int:
        return len(self.steps) - self.first_output

    def _spec(self, accesses: tuple[Access, ...], split: tuple[int, ...] = (), turned: int = 0) -> Spec:
        return self.spec._replace(
            accesses=accesses, dims=len(self.shape), aligned=all(self.aligned), split=split, turned=turned
        )

    def _integers(self, source: Source, more: dict[str, int] | None = None) -> tuple[int, ...]:
        values = {"rows": self.rows, **(more or {})}
        values.update((f"n{d}", n) for d, n in enumerate(self.shape))
        for k, name in enumerate(source.arguments[: len(self.steps)]):
            values[f"{name}_step"] = self.steps[k]
            values.update((f"{name}_by{d}", step) for d, step in enumerate(self.strides[k]))
        return tuple(values[name] for name in source.arguments if name in values)
