"""The array semantics, for any engine: the active axis, broadcasting, and how a batch is laid out in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..algebra import M1, M2, MU, PATH, Operation
from .arrays import Array


def active_length(shape: Sequence[int], axis: int, name: str) -> int:
    """The length along the active axis."""
    if not -len(shape) <= axis < len(shape):
        raise np.exceptions.AxisError(axis, len(shape), name)
    return shape[axis]


def check_length(shape: Sequence[int], axis: int, name: str, needed: int, rule: tuple[int, ...]) -> None:
    """Refuses an array whose active axis has not the length that a rule of that shape needs."""
    if name in _OF_PATHS and len(shape) == 0:
        raise ValueError(f"{name} is one number, but must have one for each path; an axis is passed by name: axis=...")
    length = active_length(shape, axis, name)
    if length != needed:
        has = f"the rule has {needed} path{'s' * (needed != 1)}" if name in _OF_PATHS else f"the rule's shape is {rule}"
        raise ValueError(
            f"{name} has length {length} along axis {axis}, but the rule needs {needed}"
            f"{_guess(tuple(shape), axis, name, needed, rule)}: {name}.shape is {tuple(shape)}, {has}"
        )


def _guess(shape: tuple[int, ...], axis: int, name: str, needed: int, rule: tuple[int, ...]) -> str:
    """What may have been meant by an array whose active axis has another length."""
    for at in (-2, -1):
        if shape[at:][:1] == (needed,):
            no_channels = f", or {name}[..., None] if it has no channels" if (axis, at) == (-2, -1) else ""
            return f" (it has {needed} along axis {at}: pass axis={at}{no_channels})"
    exchanged = name in FACTORS[:2] and shape[axis] == rule[1 - FACTORS.index(name)]
    other = FACTORS[1 - FACTORS.index(name)] if exchanged else ""
    return f" ({shape[axis]} is what {other} needs: are x1 and x2 exchanged?)" if exchanged else ""


_OF_PATHS = ("weights", "dweights", "zw")


FACTORS = ("x1", "x2", "weights")
"""What the factors of a product are called."""


def no_broadcast(shapes: Sequence[Sequence[int]], axis: int, names: Sequence[str] = FACTORS) -> ValueError:
    """What to raise where arrays, of which there may be fewer than names, have no common batch."""

    def listed(values: Sequence[object]) -> str:
        *others, last = map(str, values)
        return f"{', '.join(others)} and {last}"

    whole = [tuple(shape) for shape in shapes]
    return ValueError(
        f"{listed(names[: len(whole)])} do not broadcast: their shapes are {listed(whole)}, "
        f"and without axis {axis} {listed([without(shape, axis) for shape in whole])}: "
        "lengths must be equal or 1, from the last on"
    )


def common_batch(shapes: Sequence[Sequence[int]], axis: int, names: Sequence[str] = FACTORS) -> tuple[int, ...]:
    """The shape of the batch of some arrays, of any size."""
    batches = (reversed(without(tuple(shape), axis)) for shape in shapes)
    lengths = [[n for n in each if n != 1] for each in itertools.zip_longest(*batches, fillvalue=1)]
    if any(n != each[0] for each in lengths for n in each):
        raise no_broadcast(shapes, axis, names)
    return tuple(each[0] if each else 1 for each in reversed(lengths))


class Operand(NamedTuple):
    """Where an operand's numbers are: strides in bytes, 0 where the batch is broadcast."""

    component: int
    batch: tuple[int, ...]


class Shapes(NamedTuple):
    """The shapes that an operation's arrays must have, and those that its results will have."""

    batch: tuple[int, ...]
    axis: int
    outputs: tuple[tuple[int, ...], ...]


def resolve_shapes(operation: Operation, sizes: tuple[int, ...], arrays: Mapping[str, Array], axis: int) -> Shapes:
    """Checks the shapes of the inputs against the rule's sizes (of each column) and each other.

    `axis` counts within each array; x1, x2 and weights make the batch, and every other input has the shape of one of
    them or of their product.
    """
    columns = dict(operation.inputs)
    for name, array in arrays.items():
        check_length(array.shape, axis, name, sizes[columns[name]], sizes[:3])
    factors = {name: arrays[name].shape for name in FACTORS if name in arrays}
    batch = common_batch(tuple(factors.values()), axis)
    at = axis if axis >= 0 else axis + len(batch) + 1
    product = (*batch[:at], sizes[MU], *batch[at:])
    if math.prod(n for n in product if n) > _MOST_NUMBERS:
        given = " and ".join(f"{name} {shape}" for name, shape in factors.items())
        raise MemoryError(f"the product of {given} would be of shape {product}, which is too large")

    like = {M1: "x1", M2: "x2", PATH: "weights"}
    for name, array in arrays.items():
        source = like.get(columns[name])
        shape = factors[source] if source else product
        if array.shape != shape:
            of = source or f"the product of {' and '.join(factors)}"
            raise ValueError(f"{name}.shape is {array.shape}, but must be that of {of}: {shape}")
    outputs = tuple(
        arrays[source].shape if source else product if column == MU else (sizes[column],)
        for column, source in zip(operation.outputs, operation.shapes, strict=True)
    )
    return Shapes(batch, axis, outputs)


_MOST_NUMBERS = (2**63 - 1) // np.dtype(np.complex128).itemsize
"""So many bytes can be counted; NumPy counts as if dimensions of 0 were 1."""


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """A shape, or strides, of the batch alone."""
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


def operand(shape: tuple[int, ...], strides: tuple[int, ...], axis: int, batch: tuple[int, ...]) -> Operand:
    """The strides of an array of this shape, broadcast to the batch."""
    steps = tuple(0 if n == 1 else step for n, step in zip(without(shape, axis), without(strides, axis), strict=True))
    return Operand(strides[axis], (0,) * (len(batch) - len(steps)) + steps)


class Layout(NamedTuple):
    """A batch with as few dimensions as possible, at least one, and how it is cut for threads."""

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    cut: int


def coalesced(batch: tuple[int, ...], operands: Sequence[Operand]) -> Layout:
    """Merges neighbouring dimensions that every operand steps through evenly, and drops those of length 1."""
    shape: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for d, n in enumerate(batch):
        if n == 1:
            continue
        if shape and all(s[-1] == o.batch[d] * n for s, o in zip(strides, operands, strict=True)):
            shape[-1] *= n
            for s, o in zip(strides, operands, strict=True):
                s[-1] = o.batch[d]
        else:
            shape.append(n)
            for s, o in zip(strides, operands, strict=True):
                s.append(o.batch[d])
    if not shape:
        shape = [1]
        strides = [[0] for _ in operands]
    return Layout(tuple(shape), tuple(map(tuple, strides)), shape.index(max(shape)))


ROWS_PER_PART = 4096
MOST_PARTS = 64


def cut_for_sums(layout: Layout, reduced: Sequence[bool]) -> tuple[Layout, int]:
    """Cuts a batch for an operation some of whose outputs sum over it.

    The number of parts depends on the shape alone, so that sums come out bitwise the same for any number of threads. A
    dimension that no output sums over is best: then parts do not share elements.
    """

    def sums(d: int) -> bool:
        return any(r and layout.strides[o][d] == 0 for o, r in enumerate(reduced))

    free = [d for d in range(len(layout.shape)) if not sums(d) and layout.shape[d] >= MOST_PARTS // 4]
    cut = max(free or range(len(layout.shape)), key=layout.shape.__getitem__)
    parts = max(1, min(layout.shape[cut], MOST_PARTS, math.prod(layout.shape) // ROWS_PER_PART))
    return layout._replace(cut=cut), parts


def c_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The strides of a new array."""
    return tuple(dtype.itemsize * math.prod(shape[d + 1 :]) for d in range(len(shape)))
