"""The operators of message passing, three, each of which has its derivatives among them.

With F(dout, x, y, w) the sum over edges of the product of a row of each, linear in all four, `messages` is the gradient
of F for dout, `messages_vjp` those for x, y and w, and `messages_vjp_vjp` those of F(dout, zx, y, w) +
F(dout, x, zy, w) + F(dout, x, y, zw) for all four. message_derivatives.py makes all others of them.

The rule comes as text, as in operators.py, the graph as index tensors, which may be data of a compiled function.
"""

from __future__ import annotations

import torch

from .operators import library

_GRAPH = (
    "Tensor? senders, Tensor? receivers, Tensor? rows_of_y, Tensor? rows_of_weights, SymInt num_nodes, "
    "str rule, int axis"
)
_OPERANDS = "Tensor x, Tensor y, Tensor? weights"
_ALONG = "Tensor? zx, Tensor? zy, Tensor? zw"
_THREE, _FOUR = "Tensor, Tensor, Tensor", "Tensor, Tensor, Tensor, Tensor"
for _signature in (
    f"messages({_OPERANDS}, {_GRAPH}) -> Tensor",
    f"messages_vjp(Tensor dout, {_OPERANDS}, {_GRAPH}, bool[3] wanted) -> ({_THREE})",
    f"messages_vjp_vjp({_ALONG}, Tensor dout, {_OPERANDS}, {_GRAPH}, bool[4] wanted) -> ({_FOUR})",
):
    library.define(_signature, tags=(torch.Tag.pt2_compliant_tag,))

_ops = torch.ops.sparseacc
messages, messages_vjp, messages_vjp_vjp = (
    _ops.messages.default,
    _ops.messages_vjp.default,
    _ops.messages_vjp_vjp.default,
)
