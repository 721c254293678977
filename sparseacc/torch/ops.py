"""Registers the operators of the product with torch: kernels, fake kernels, derivatives, vmap."""

from __future__ import annotations

import torch

from ..algebra import FORWARD, VJP, VJP_VJP
from . import calling, derivatives, direct, kernels, stable, weighted
from .operators import library, plain, product, vjp, vjp_vjp
from .registration import register

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
    for _each in (_op, plain[_op]) if _op in plain else (_op,):
        library.impl(_each, _compute, "CUDA")
        if not in_c or _op not in plain:
            library.impl(_each, _compute, "CPU")
    register(_op, _fake, _save, _backward, _jvp, derivatives.vmapped(_op, _count))
    if _op in plain:
        torch.library.register_fake(plain[_op].name().removesuffix(".default"), _fake, lib=library)
    calling.differentiable[_op] = direct.function(_op.name(), _count, _save, _backward)

for _weighted, _computed, *_rest in weighted.OPERATORS:
    for _device in ("CPU", "CUDA"):
        library.impl(_weighted, _computed, _device)
    register(_weighted, *_rest)
