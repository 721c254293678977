"""Which half runs an operation: asks the arrays, and imports no library that the caller has not imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import cpu
from .arrays import is_cupy, is_foreign
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
    unusual = [value for value in (*values, out) if type(value) is not np.ndarray and value is not None]
    if any(map(is_foreign, unusual)):
        from . import dlpack

        return dlpack.execute(execute, rule, operation, values, axis, wanted, out)
    if any(map(is_cupy, unusual)):
        from .cuda.execution import execute as cuda_execute

        return cuda_execute(rule, operation, values, axis, wanted, out)
    return cpu.execute(rule, operation, values, axis, wanted, out)
