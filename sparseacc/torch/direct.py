"""Calls straight to the CPU's kernel, of plain tensors, while torch traces, transforms and watches nothing.

Torch takes longer to find an operator that Python has given derivatives than the kernel takes for a thousand rows. But
a call that an operator has made before needs nothing of torch but memory for its results. Where gradients are wanted,
it is a Function, whose backward pass is one call more.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.autograd import forward_ad

from ..calls.libraries import torch_reach
from ..calls.plans import Cache
from ..cpu._kernel import lib
from ..cpu.execution import Plan

Tensor = torch.Tensor

# What torch's dispatcher goes by: of a tensor, the kind of its memory, wrappers, conjugation, whether it takes
# derivatives; of a thread, modes, transforms, tracers, profilers, and whether it is below differentiation.
keys, included = torch._C._dispatch_keys, torch._C._dispatch_tls_local_include_set  # type: ignore[attr-defined]
watched, get_num_threads = torch._C._is_torch_function_mode_enabled, torch.get_num_threads  # type: ignore[attr-defined]
profiled = torch.autograd._profiler_enabled  # type: ignore[attr-defined]
sa_run_at = lib.sa_run_at

_AUTOGRAD = torch._C.DispatchKey.AutogradFunctionality
_MOST, _MOST_BYTES = 2**14, 2**28
_MOST_OPERANDS = 8
_TYPES = frozenset((Tensor, torch.nn.Parameter, torch.nn.Buffer))


class Call:
    """One that is repeated."""

    __slots__ = ("_inputs", "_itemsize", "_plan", "_reached", "_rest", "_run", "_shapes", "_wanted")

    def __init__(self, plan: Plan, tensors: Sequence[Any], wanted: Sequence[bool]) -> None:
        self._plan, self._run, self._wanted = plan, plan.call, wanted
        self._inputs, self._shapes = plan.program.inputs, [shape for shape, _ in plan.outputs]
        self._rest = (0,) * (_MOST_OPERANDS - len(self._inputs) - len(self._shapes))
        self._itemsize = plan.dtype.itemsize
        self._reached = [
            torch_reach(x) - x.storage_offset() * self._itemsize for x in (tensors[i] for i in self._inputs)
        ]

    @property
    def nbytes(self) -> int:
        """What it keeps alive."""
        return self._plan.nbytes

    def finds(self, tensors: Sequence[Any]) -> bool:
        """Whether the storage of all tensors reaches as far as they do: it may have been taken away from one."""
        for i, reached in zip(self._inputs, self._reached, strict=True):
            x = tensors[i]
            if x.storage_offset() * self._itemsize + reached > x.untyped_storage().nbytes():
                return False
        return True

    def run(self, tensors: Sequence[Any]) -> Any:
        """The result or results, new; those that are not wanted are of no size."""
        new = tensors[-1].new_empty
        results = [new(shape) for shape in self._shapes]
        addresses = [tensors[i].data_ptr() for i in self._inputs]
        addresses += [x.data_ptr() for x in results]
        if sa_run_at(self._run, get_num_threads(), *addresses, *self._rest):
            raise self._plan.no_memory()
        if len(self._wanted) == 1:
            return results[0]
        made = iter(results)
        return tuple(next(made) if want else new(0) for want in self._wanted)


calls: Cache[Call | None] = Cache("calls of torch", _MOST, _MOST_BYTES, lambda call: call.nbytes if call else 0)
"""Those that have been made, by all that they depend on but addresses; None is for one that is left to its operator."""


def usual(tensors: Sequence[Any]) -> bool:
    """Whether all are plain tensors, and torch does no more with them than compute and differentiate."""
    if included().raw_repr() not in _usual or forward_ad._current_level >= 0 or watched() or profiled():
        return False
    return all(type(x) in _TYPES and keys(x).raw_repr() in _plain for x in tensors)


def differentiates() -> bool:
    """Whether a call of usual tensors, one of which takes derivatives, is part of a graph."""
    return torch.is_grad_enabled() and not torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOGRAD)


def key(op: Any, tensors: Sequence[Any], text: str, axis: int, last: Any) -> Any:
    """All that a call of usual tensors, or None, depends on but addresses."""
    found = [op, text, axis, tuple(last) if type(last) is list else last]
    for x in tensors:
        found += (None,) if x is None else (x.shape, x.stride(), x.dtype)
    return tuple(found)


def remember(key: Any, plan: Plan, tensors: Sequence[Tensor | None], wanted: Sequence[bool]) -> None:
    """Lets a call be repeated, but not sums, large results, and calls that signals interrupt."""
    calls.add(key, Call(plan, tensors, wanted) if plan.small and plan.outputs and not plan.long else None)


def function(name: str, count: int, save: Any, backward: Any) -> Any:
    """A differentiable function of an operator's arguments, `count` tensors first, and of a Call at last."""

    def forward(ctx: Any, *arguments: Any) -> Any:
        *inputs, call = arguments
        results = call.run(inputs[:count])
        save(ctx, inputs, results)
        return results

    def backwards(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        return (*backward(ctx, *cotangents), None)

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backwards)}
    kind = type(name, (torch.autograd.Function,), methods)
    return super(torch.autograd.Function, kind).apply  # type: ignore[misc]  # does not look for transforms once more


def _usually() -> tuple[set[int], set[int]]:
    """Both in a new thread, whose state nobody has changed, in and outside of inference mode.

    None where no thread can be started.
    """
    plain: set[int] = set()
    usual: set[int] = set()

    def ask() -> None:
        for inference in (False, True):
            with torch.inference_mode(inference):
                plain.add(keys(torch.empty(0)).raw_repr())
                usual.add(included().raw_repr())

    with suppress(RuntimeError):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    return plain, usual


_plain, _usual = _usually()
