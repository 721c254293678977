"""What arrays of some libraries need before they are exported: what they would say wrongly, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def kind_of(value: Any) -> str:
    """The class of an object, for messages."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def no_memory(value: Any, name: str) -> ValueError:
    """The error of an array that was left without its memory."""
    return ValueError(
        f"{name} ({kind_of(value)}) has a size but no memory, or too little: was its storage given back or resized?"
    )


def _prepared_torch(value: Any, name: str) -> Any:
    """What torch exports without a word, but is not what it stands for."""
    torch = sys.modules["torch"]
    instead = f"use {_differentiable('torch', name)}"
    if torch.compiler.is_compiling():
        raise TypeError(f"{name} is traced by torch.compile: {instead}")
    if value.requires_grad and not torch.is_grad_enabled():
        value = value.detach()
    if value.requires_grad or torch.autograd.forward_ad.unpack_dual(value).tangent is not None:
        raise TypeError(f"{name} requires gradients, which are not recorded here: {instead}, or pass {name}.detach()")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} has the layout {value.layout}, but must be dense: pass {name}.to_dense()")
    if type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise TypeError(f"{name} is a {kind_of(value)}, which torch traces: {instead}")
    with suppress(RuntimeError):  # of tensors without storage, which their export refuses
        if value.untyped_storage().nbytes() < torch_reach(value):
            raise no_memory(value, name)
    if value.is_conj() or value.is_neg():  # the memory holds the conjugate, or the negative
        if name == "out":
            raise ValueError("out is a conjugate or negative view: pass the tensor that it is a view of")
        return value.resolve_conj().resolve_neg()
    return value


def torch_reach(tensor: Any) -> int:
    """Bytes from the beginning of its storage to the end of a tensor: there may be fewer, if they were taken away."""
    if not tensor.numel():
        return 0
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    reach: int = (tensor.storage_offset() + last + 1) * tensor.itemsize
    return reach


def _prepared_jax(value: Any, name: str) -> Any:
    jax = sys.modules["jax"]
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} is traced by JAX (jit, grad, vmap ...): use {_differentiable('jax', name)}")
    if name == "out":
        raise TypeError("out is a JAX array, which cannot be written to: do not pass out")
    return value


def _differentiable(bridge: str, name: str) -> str:
    """What a bridge has instead of the function that was called with an argument of that name."""
    if name in ("x1", "x2"):
        return f"sparseacc.{bridge}.product(rule, x1, x2)"
    if name in ("x", "y"):
        return f"sparseacc.{bridge}.message_passing(rule, graph, x, y)"
    return f"sparseacc.{bridge}.product or sparseacc.{bridge}.message_passing"


PREPARED: dict[str, Callable[[Any, str], Any]] = {"torch": _prepared_torch, "jax": _prepared_jax}
"""An array as it can be exported; what would be read wrongly, or written where it must not, is refused."""
