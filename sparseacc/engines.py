"""Where the arrays of a call are computed with: one engine for the host, one for GPUs, with the same functions for what
differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple

import numpy as np

from .calls import dlpack
from .calls.arrays import Array, check_kind, check_out, is_cupy, is_on_device
from .calls.dtypes import as_array, common_dtype
from .cpu import polynomials
from .cpu.messages import Edges
from .cpu.threads import bounded


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
        Computes message passing.
    contracted : callable
        Computes polynomials.
    """

    device_of: Callable[[dict[str, Any]], int | None]
    as_array: Callable[[Any, str], Any]
    check_out: Callable[..., None]
    converted: Callable[[Any, np.dtype[Any]], Any]
    write: Callable[[Any, Any], None]
    on: Callable[[Any], AbstractContextManager[Any]]
    edges: Callable[..., Any]
    contracted: Callable[..., dict[str, Any]]


def _converted(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(dtype, copy=False)


_HOST = Engine(
    device_of=lambda arrays: None,
    as_array=as_array,
    check_out=check_out,
    converted=_converted,
    write=np.copyto,
    on=lambda device: nullcontext(),
    edges=Edges,
    contracted=polynomials.contracted,
)


def _engine_for(arrays: Mapping[str, Any]) -> Engine:
    """The GPU's if an array is CuPy's, else the CPU's."""
    if any(map(is_cupy, arrays.values())):
        from .cuda import messages as gpu

        return Engine(*(getattr(gpu, name) for name in Engine._fields))
    return _HOST


class Arguments:
    """The arrays of a call as an engine computes with them, and the way back to the caller's kind.

    Attributes
    ----------
    engine : Engine
        That of the arrays.
    device : int or None
        The number of the GPU that they are on; None: the host.
    arrays : dict of str to array
        Of dtypes that can be computed with, by the name of the argument.
    out : array or None
        Where the caller wants the result.
    dtype : dtype
        The one that they are promoted to.
    """

    def __init__(self, named: Mapping[str, Any], out: Any = None) -> None:
        given = dict(named) if out is None else {**named, "out": out}
        for name, value in given.items():
            if type(value) is not np.ndarray:
                check_kind(value, name)
                if is_on_device(value):
                    given[name] = dlpack.as_cupy(value, name)
        self._given_out, self._borrowed = out, dlpack.borrow(given)
        arrays = given | (self._borrowed.arrays if self._borrowed else {})
        self.engine = _engine_for(arrays)
        self.device = self.engine.device_of(arrays)
        self.out = arrays.pop("out", None)
        self.arrays = {name: self.engine.as_array(value, name) for name, value in arrays.items()}
        self.dtype = common_dtype(self.arrays)

    def converted(self) -> dict[str, Any]:
        """The arrays, all of the dtype."""
        with self.engine.on(self.device):
            return {name: self.engine.converted(array, self.dtype) for name, array in self.arrays.items()}

    def computing(self) -> ExitStack:
        """A context in which to compute: on the device, in no more threads than the caller's library would use."""
        context = ExitStack()
        if self._borrowed and self._borrowed.threads:
            context.enter_context(bounded(self._borrowed.threads))
        context.enter_context(self.engine.on(self.device))
        return context

    def given_back(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """Results, None among them, as the caller's kind of array; the caller's own `out` in the place of the first."""
        if self._given_out is not None:
            return (self._given_out, *results[1:])
        borrowed = self._borrowed
        return tuple(r if r is None or not borrowed else borrowed.give_back(r) for r in results)
