"""The engines of message passing: one for the host, one for GPUs, with the same functions for what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from .calls.arrays import Array, check_out, is_cupy
from .calls.dtypes import as_array
from .cpu.messages import Edges


class Engine(NamedTuple):
    """How arrays of one kind are checked and computed with.

    Attributes
    ----------
    device_of : callable
        The number of the GPU that all arrays are on; None: the host.
    as_array, check_out, converted : callable
        An array of a dtype that can be computed with; refuses an `out`; an array of another dtype.
    write : callable
        Copies a result.
    on : callable
        A context in which to compute on a device.
    edges : type
        Computes.
    """

    device_of: Callable[[dict[str, Any]], int | None]
    as_array: Callable[[Any, str], Any]
    check_out: Callable[..., None]
    converted: Callable[[Any, np.dtype[Any]], Any]
    write: Callable[[Any, Any], None]
    on: Callable[[Any], AbstractContextManager[Any]]
    edges: Callable[..., Any]


def _converted(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(dtype, copy=False)


_HOST = Engine(lambda arrays: None, as_array, check_out, _converted, np.copyto, lambda device: nullcontext(), Edges)


def engine_for(arrays: Mapping[str, Any]) -> Engine:
    """The GPU's if an array is CuPy's, else the CPU's."""
    if any(map(is_cupy, arrays.values())):
        from .cuda import messages as gpu

        return Engine(*(getattr(gpu, name) for name in Engine._fields))
    return _HOST
