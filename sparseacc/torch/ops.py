"""Registers the operators with torch: kernels, fake kernels, derivatives, vmap."""

from __future__ import annotations

import torch

from ..algebra import FORWARD, VJP, VJP_VJP
from . import calling, derivatives, direct, kernels, message_derivatives, message_kernels, stable
from .message_operators import messages, messages_vjp, messages_vjp_vjp
from .operators import library, plain, product, vjp, vjp_vjp

in_c = stable.register()
"""Whether C has the CPU kernels of product and vjp (stable.py)."""

library.impl("product_first", kernels.first(kernels.product, FORWARD), "CPU")
library.impl("vjp_first", kernels.first(kernels.vjp, VJP), "CPU")

for _op, _count, _compute, _fake, _save, _backward, _jvp in (
    (
        product,
        2,
        kernels.product,
        kernels.fake_product,
        derivatives.save_product,
        derivatives.product_backward,
        derivatives.product_jvp,
    ),
    (
        vjp,
        3,
        kernels.vjp,
        kernels.fake_gradients(VJP),
        derivatives.save_gradients,
        derivatives.vjp_backward,
        derivatives.gradients_jvp(vjp, 1),
    ),
    (
        vjp_vjp,
        5,
        kernels.vjp_vjp,
        kernels.fake_gradients(VJP_VJP),
        derivatives.save_gradients,
        derivatives.vjp_vjp_backward,
        derivatives.gradients_jvp(vjp_vjp, 2),
    ),
):
    _name = _op.name().removesuffix(".default")
    for _each in (_op, plain[_op]) if _op in plain else (_op,):
        library.impl(_each, _compute, "CUDA")
        if not in_c or _op not in plain:
            library.impl(_each, _compute, "CPU")
        torch.library.register_fake(_each.name().removesuffix(".default"), _fake, lib=library)
    _vmap = derivatives.vmapped(_op, _count)
    torch.library.register_autograd(_name, _backward, setup_context=_save, lib=library)
    torch.library.register_vmap(_name, _vmap, lib=library)
    _methods = {"forward": _op, "setup_context": _save, "backward": _backward, "jvp": _jvp, "vmap": _vmap}
    calling.functions[_op] = type(
        _op.name(), (torch.autograd.Function,), {name: staticmethod(method) for name, method in _methods.items()}
    )
    calling.differentiable[_op] = direct.function(_op.name(), _count, _save, _backward)

for _op, _operands, _compute, _fake, _save, _backward, _jvp in (
    (
        messages,
        ("x", "y", "weights"),
        message_kernels.messages,
        message_kernels.fake_messages,
        message_derivatives.save_messages,
        message_derivatives.messages_backward,
        message_derivatives.messages_jvp,
    ),
    (
        messages_vjp,
        ("dout", "x", "y", "weights"),
        message_kernels.messages_vjp,
        message_kernels.fake_messages_vjp,
        message_derivatives.save_gradients,
        message_derivatives.vjp_backward,
        message_derivatives.vjp_jvp,
    ),
    (
        messages_vjp_vjp,
        ("zx", "zy", "zw", "dout", "x", "y", "weights"),
        message_kernels.messages_vjp_vjp,
        message_kernels.fake_messages_vjp_vjp,
        message_derivatives.save_gradients,
        message_derivatives.vjp_vjp_backward,
        message_derivatives.vjp_vjp_jvp,
    ),
):
    _name = _op.name().removesuffix(".default")
    for _device in ("CPU", "CUDA"):
        library.impl(_op, _compute, _device)
    torch.library.register_fake(_name, _fake, lib=library)
    _vmap = message_derivatives.vmapped(_op, _operands)
    torch.library.register_autograd(_name, _backward, setup_context=_save, lib=library)
    torch.library.register_vmap(_name, _vmap, lib=library)
    _methods = {"forward": _op, "setup_context": _save, "backward": _backward, "jvp": _jvp, "vmap": _vmap}
    calling.functions[_op] = type(
        _op.name(), (torch.autograd.Function,), {name: staticmethod(method) for name, method in _methods.items()}
    )
