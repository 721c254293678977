"""Calls operators, in the way that what torch does with the tensors asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from ..algebra import FORWARD, VJP, VJP_VJP
from ..cpu.execution import planned
from . import direct
from .kernels import from_text
from .operators import product, vjp, vjp_vjp
from .tensors import taken

functions: dict[Any, Any] = {}
"""For each operator the same as a Function, which torch.func and forward mode know how to derive."""

differentiable: dict[Any, Any] = {}
"""For each operator the function of a call that is repeated (direct.py)."""

_OPERATIONS = {product: FORWARD, vjp: VJP, vjp_vjp: VJP_VJP}
"""Of the operators whose calls are repeated."""


def call(op: Any, *arguments: Any) -> Any:
    """An operator; inside torch.func and forward mode, which do not know operators' derivatives, as a Function."""
    forward_mode = forward_ad._current_level >= 0
    if is_compiling():
        if forward_mode:
            # Tangents would be lost there, without an error. Without fullgraph, this part now runs uncompiled.
            raise NotImplementedError(
                "torch.compile does not take forward mode (jvp, jacfwd, dual numbers) through other packages' "
                "operators: use reverse mode, or leave this part out of the graph"
            )
        return op(*arguments)
    try:
        return _called(op, forward_mode, arguments)
    except RuntimeError as error:  # as a kernel in C has to raise it: it begins with the name of what Python raised
        name, _, message = str(error).partition("\n\nAt:")[0].partition(": ")
        if name not in _ERRORS:
            raise
        raise _ERRORS[name](message) from error


_ERRORS = {error.__name__: error for error in (TypeError, ValueError, MemoryError)}


def _called(op: Any, forward_mode: bool, arguments: tuple[Any, ...]) -> Any:
    if torch._C._are_functorch_transforms_active():
        levels = torch._C._functorch.get_interpreter_stack()
        if sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1:
            # Functions get zero there as the second derivative, without an error.
            raise NotImplementedError(
                "torch does not take forward mode inside forward mode (jvp, jacfwd) through other packages' operators: "
                "use jacrev or grad for all but one of the derivatives"
            )
    elif not forward_mode:
        return _plainly(op, *arguments) if op in _OPERATIONS else op(*arguments)
    return functions[op].apply(*arguments)


def _plainly(op: Any, *arguments: Any) -> Any:
    """An operator where nothing transforms it; the call itself if it has been made before."""
    if op not in _OPERATIONS:
        return op(*arguments)
    *tensors, text, terms, axis, last = arguments
    if terms is not None or not direct.usual([x for x in tensors if x is not None]):
        return op(*arguments)
    key = direct.key(op, tensors, text, axis, last)
    result = repeated(key, op, tensors, text, axis, last)
    if result is not None:
        return result
    result = op(*arguments)
    if key not in direct.calls:
        operation, wanted = _OPERATIONS[op], (True,) if op is product else tuple(last)
        plan, _ = planned(from_text(text), operation, taken(operation, tensors), axis, wanted)
        direct.remember(key, plan, tensors, wanted)
    return result


def repeated(key: Any, op: Any, tensors: Sequence[Any], text: str, axis: int, last: Any) -> Any:
    """The results of a call that has been made before; None if it has not, or cannot be repeated."""
    call = direct.calls.get(key)
    if call is None or not call.finds(tensors):
        return None
    for x in tensors:
        if x is not None and x.requires_grad:
            if direct.differentiates():
                return differentiable[op](*tensors, text, None, axis, last, call)
            break
    return call.run(tensors)
