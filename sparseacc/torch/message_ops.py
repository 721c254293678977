"""Registers the operators of message passing with torch: kernels, fake kernels, derivatives, vmap."""

from __future__ import annotations

from typing import Any

from . import message_derivatives as derivatives
from . import message_kernels as kernels
from .message_operators import messages, messages_vjp, messages_vjp_vjp
from .operators import library
from .registration import register

_OPERANDS = ("x", "y", "weights")
_OPERATORS: tuple[tuple[Any, ...], ...] = (
    (
        messages,
        _OPERANDS,
        kernels.messages,
        kernels.fake_messages,
        derivatives.save_messages,
        derivatives.messages_backward,
        derivatives.messages_jvp,
    ),
    (
        messages_vjp,
        ("dout", *_OPERANDS),
        kernels.messages_vjp,
        kernels.fake_messages_vjp,
        derivatives.save_gradients,
        derivatives.vjp_backward,
        derivatives.vjp_jvp,
    ),
    (
        messages_vjp_vjp,
        ("zx", "zy", "zw", "dout", *_OPERANDS),
        kernels.messages_vjp_vjp,
        kernels.fake_messages_vjp_vjp,
        derivatives.save_gradients,
        derivatives.vjp_vjp_backward,
        derivatives.vjp_vjp_jvp,
    ),
)

for _op, _operands, _compute, _fake, _save, _backward, _jvp in _OPERATORS:
    for _device in ("CPU", "CUDA"):
        library.impl(_op, _compute, _device)
    register(_op, _fake, _save, _backward, _jvp, derivatives.vmapped(_op, _operands))
