"""Registers the operators with torch: kernels, fake kernels, derivatives, vmap."""

from __future__ import annotations

from typing import Any

import torch

from ..algebra import FORWARD, VJP, VJP_VJP
from . import calling, derivatives, direct, kernels, stable, weighted
from .operators import library, plain, product, vjp, vjp_vjp

in_c = stable.register()
"""Whether C has the CPU kernels of product and vjp (stable.py)."""

library.impl("product_first", kernels.first(kernels.product, FORWARD), "CPU")
library.impl("vjp_first", kernels.first(kernels.vjp, VJP), "CPU")


def _derived(op: Any, fake: Any, save: Any, backward: Any, jvp: Any, vmap: Any) -> None:
    """Registers what is not computed: shapes, derivatives, vmap; the last two for torch.func, too."""
    name = op.name().removesuffix(".default")
    torch.library.register_fake(name, fake, lib=library)
    torch.library.register_autograd(name, backward, setup_context=save, lib=library)
    torch.library.register_vmap(name, vmap, lib=library)
    methods = {"forward": op, "setup_context": save, "backward": backward, "jvp": jvp, "vmap": vmap}
    calling.functions[op] = type(
        op.name(), (torch.autograd.Function,), {method: staticmethod(function) for method, function in methods.items()}
    )


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
    for _each in (_op, plain[_op]) if _op in plain else (_op,):
        library.impl(_each, _compute, "CUDA")
        if not in_c or _op not in plain:
            library.impl(_each, _compute, "CPU")
    if _op in plain:
        torch.library.register_fake(plain[_op].name().removesuffix(".default"), _fake, lib=library)
    _derived(_op, _fake, _save, _backward, _jvp, derivatives.vmapped(_op, _count))
    calling.differentiable[_op] = direct.function(_op.name(), _count, _save, _backward)

for _weighted, _computed, *_rest in weighted.OPERATORS:
    for _device in ("CPU", "CUDA"):
        library.impl(_weighted, _computed, _device)
    _derived(_weighted, *_rest)
