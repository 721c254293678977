"""How a product is computed where its arrays are sharded: each device multiplies its rows, as it does for ``x1 * x2``.

Devices have parts of the batch and whole active axes. What is summed over parts is summed over devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

_Shape = tuple[int, ...]
_Axes = tuple[str, ...]


def spread(axis: int, shapes: Sequence[_Shape], specs: Sequence[Sequence[Any]]) -> list[_Axes]:
    """The axes of the mesh that each dimension of the batch is spread over: as the first array has it that has it."""
    ndim = len(shapes[0])
    axes: list[_Axes] = [()] * ndim
    for shape, spec in zip(shapes, specs, strict=True):
        for d, names in enumerate(spec):
            if names is None or d == axis + ndim or shape[d] == 1 or axes[d]:
                continue
            names = names if isinstance(names, tuple) else (names,)
            if not any(set(names) & set(used) for used in axes):
                axes[d] = names
    return axes


def placed(axes: Sequence[_Axes], shape: _Shape) -> PartitionSpec:
    """Where an array is whose batch is spread so."""
    return PartitionSpec(*(names if names and n != 1 else None for names, n in zip(axes, shape, strict=True)))


def partitioned(product: Callable[[Sequence[Any], _Shape], Any], axis: int, out_shape: _Shape) -> Any:
    """A function of x1, x2 and weights, if there are, that computes ``product(factors, out_shape)`` in parts."""

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        shapes = [a.shape for a in (*arguments, result)]
        axes = spread(axis, shapes, [a.sharding.spec for a in (*arguments, result)])
        whole = [max(n) for n in zip(*shapes, strict=True)]
        axes = [
            names if n % math.prod(mesh.shape[name] for name in names) == 0 else ()
            for names, n in zip(axes, whole, strict=True)
        ]
        sums = tuple(
            name
            for names, n, out in zip(axes, whole, result.shape, strict=True)
            if n != 1 and out == 1
            for name in names
        )
        placements = [NamedSharding(mesh, placed(axes, shape)) for shape in shapes]
        part = placements[-1].shard_shape(result.shape)

        def lowered(*factors: Any) -> Any:
            y = product(factors, part)
            return jax.lax.psum(y, sums) if sums else y

        return mesh, lowered, placements[-1], tuple(placements[:-1])

    def rule(mesh: Any, arguments: Any, results: Any) -> Any:
        shapes = [tuple(value.shape) for value in (*arguments, *results)]
        at, names = axis + len(out_shape), []
        for k, shape in enumerate(shapes):
            names.append([f"a{k}" if d == at else f"b{d}" if n != 1 else f"one{k}_{d}" for d, n in enumerate(shape)])
        *given, result = names
        sums = sorted({name for each in given for name in each if name[0] == "b"} - set(result))
        text = f"{', '.join(' '.join(each) for each in given)} -> {' '.join(result)}"
        whole = tuple(f"a{k}" for k in range(len(names)))
        return text, {"reduction_factors": tuple(sums), "need_replication_factors": whole}

    function = custom_partitioning(lambda *factors: product(factors, out_shape))
    function.def_partition(partition, sharding_rule=rule)
    return function
