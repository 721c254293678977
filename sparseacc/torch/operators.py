"""The operators that torch sees: product, vjp and vjp_vjp, each of which has its derivatives among the three.

With P(x1, x2) the product, and G1(dy, x2) and G2(dy, x1) its gradients, vjp computes G1(dy, x2) and G2(dy, x1), and
vjp_vjp the gradients of <z1, G1(dy, x2)> + <z2, G2(dy, x1)>. Whatever the order, a derivative is a sum of P, G1 and G2
of inputs, cotangents taking the places of inputs; where it takes two places at once, one call computes both.

Operators take arrays in one form, and refuse any other: of one dtype and one number of dimensions, the active axis
counted from the end. A rule comes by value, as text. It is then a constant of a graph, which may be compiled, exported,
saved, and loaded in a process that has never seen the rule; a number that stands for a rule in a table could not be,
and tensors would have to be read in every call, on a GPU after waiting for it. But where a graph computes or is given
the terms as tensors, there is no text when it is made: then `rule` is empty and `terms` an int64 tensor (4, nnz): m1,
m2, mu, and the bits of C in float64.
"""

from __future__ import annotations

import torch

from ..calls import dtypes

Tensor = torch.Tensor

library = torch.library.Library("sparseacc", "FRAGMENT")  # as long as it lives, so do the operators
_PRODUCT = "(Tensor x1, Tensor x2, {} int axis, SymInt n_out) -> Tensor"
_VJP = "(Tensor dy, Tensor x1, Tensor x2, {} int axis, bool[2] wanted) -> (Tensor, Tensor)"
_VJP_VJP = (
    "(Tensor? z1, Tensor? z2, Tensor dy, Tensor x1, Tensor x2, {} int axis, bool[3] wanted) -> (Tensor, Tensor, Tensor)"
)
_RULE, _TERMS = "str rule, Tensor? terms,", "Tensor? terms,"
for _name, _signature, _given in (
    ("product", _PRODUCT, _RULE),
    ("product_plain", _PRODUCT, _RULE),
    ("product_first", _PRODUCT, _TERMS),
    ("vjp", _VJP, _RULE),
    ("vjp_plain", _VJP, _RULE),
    ("vjp_first", _VJP, _TERMS),
    ("vjp_vjp", _VJP_VJP, _RULE),
):
    library.define(_name + _signature.format(_given), tags=(torch.Tag.pt2_compliant_tag,))

_ops = torch.ops.sparseacc
product, vjp, vjp_vjp = _ops.product.default, _ops.vjp.default, _ops.vjp_vjp.default
plain = {product: _ops.product_plain.default, vjp: _ops.vjp_plain.default}
"""The same without derivatives."""

COMPUTED = frozenset(getattr(torch, name) for name in dtypes.STORED)
