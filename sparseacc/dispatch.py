"""Which half runs an operation: asks the arrays, and imports no library that the caller has not imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import cpu
from .operations import Operation

if TYPE_CHECKING:
    from .rule import Rule


def execute(
    rule: Rule,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    wanted: tuple[bool, ...],
    out: Any = None,
) -> tuple[Any, ...]:
    """Runs an operation where its arrays are; returns its outputs, None where not `wanted`.

    Optional inputs may be None, which is zero. `out` is for the first output.
    """
    if any(_on_gpu(value) for value in (*values, out)):
        from .cuda.execution import execute as cuda_execute

        return cuda_execute(rule, operation, values, axis, wanted, out)
    return cpu.execute(rule, operation, values, axis, wanted, out)


def _on_gpu(value: Any) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)
