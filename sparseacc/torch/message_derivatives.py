"""The derivatives of message passing, which are message passing.

Every one is a sum of F(dout, x, y, w), solved for one of its four places, with cotangents and tangents in others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .calling import call
from .derivatives import only, total, whole
from .message_operators import messages, messages_vjp, messages_vjp_vjp

Tensor = torch.Tensor
_Operands = Sequence[Any]
_NO_GRAPH = (None,) * 7
"""Gradients of what is no operand: index tensors, num_nodes, rule, axis."""


def save_messages(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What the derivatives of messages need."""
    *tensors, num_nodes, rule, axis = inputs
    ctx.rest = num_nodes, rule, axis
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def save_gradients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """What the derivatives of messages_vjp and messages_vjp_vjp need."""
    *others, ctx.wanted = inputs
    save_messages(ctx, tuple(others), output)
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> tuple[list[Any], tuple[Any, ...]]:
    """The operands, and the graph, rule and axis."""
    *operands, senders, receivers, rows_of_y, rows_of_weights = ctx.saved_tensors
    return operands, (senders, receivers, rows_of_y, rows_of_weights, *ctx.rest)


def _conjugates(ctx: Any) -> tuple[list[Any], tuple[Any, ...]]:
    """The same for a backward pass: torch's gradient of a holomorphic function is the conjugate of its derivative."""
    operands, rest = _saved(ctx)
    return [None if x is None else x.conj() for x in operands], rest


def messages_backward(ctx: Any, dout: Tensor) -> tuple[Any, ...]:
    """Of <dout, messages(x, y, w)>."""
    operands, rest = _conjugates(ctx)
    wanted = list(ctx.needs_input_grad[:3])
    return (*only(wanted, call(messages_vjp, dout, *operands, *rest, wanted)), *_NO_GRAPH)


def vjp_backward(ctx: Any, *z: Tensor | None) -> tuple[Any, ...]:
    """Of <zx, dx> + <zy, dy> + <zw, dw>."""
    operands, rest = _conjugates(ctx)
    z = only(ctx.wanted, z)
    wanted = list(ctx.needs_input_grad[:4])
    gradients: Any = (None,) * 4
    if any(x is not None for x in z):
        gradients = only(wanted, call(messages_vjp_vjp, *z, *operands, *rest, wanted))
    return (*gradients, *_NO_GRAPH, None)


def vjp_vjp_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    """Of the sum over places of F with z in one of them, along the cotangents in another."""
    (*z, dout, x, y, w), rest = _conjugates(ctx)
    a, *b = only(ctx.wanted, cotangents)
    needs = list(ctx.needs_input_grad[:7])
    needs_z, needs_dout, needs_operands = needs[:3], needs[3], needs[4:]
    ddout, operands, dz = _twice_along(z, b, dout, (x, y, w), rest, needs_dout, needs_operands, needs_z)
    if a is not None:
        if any(needs_z):
            dz = map(total, dz, only(needs_z, call(messages_vjp, a, x, y, w, *rest, needs_z)))
        if any(needs_operands):
            wanted = [False, *needs_operands]
            _, *more = only(wanted, call(messages_vjp_vjp, *z, a, x, y, w, *rest, wanted))
            operands = map(total, operands, more)
    return (*dz, ddout, *operands, *_NO_GRAPH, None)


def _twice_along(
    z: _Operands,
    b: _Operands,
    dout: Tensor,
    operands: _Operands,
    rest: tuple[Any, ...],
    needs_dout: bool,
    needs_operands: Sequence[bool],
    needs_z: Sequence[bool] = (False, False, False),
) -> tuple[Any, Any, Any]:
    """The gradients for dout, the operands and z of the sum of F with z in the place of one operand and b in that of
    another; None is zero. A call for each z has all that it is in.
    """
    ddout, of_operands, of_z = None, [None] * 3, [None] * 3
    for i, first in enumerate(z):
        along = [None if j == i else second for j, second in enumerate(b)]
        wanted = [needs_dout, *(needs_z[j] if j == i else needs_operands[j] for j in range(3))]
        if first is None or not any(x is not None for x in along) or not any(wanted):
            continue
        there = [first if j == i else operand for j, operand in enumerate(operands)]
        more, *gradients = only(wanted, call(messages_vjp_vjp, *along, dout, *there, *rest, wanted))
        ddout = total(ddout, more)
        for j, gradient in enumerate(gradients):
            where = of_z if j == i else of_operands
            where[j] = total(where[j], gradient)
    return ddout, of_operands, of_z


def messages_jvp(ctx: Any, *tangents: Any) -> Any:
    """F solved for dout, along the tangents."""
    operands, rest = _saved(ctx)
    result = None
    for i, tangent in enumerate(tangents[:3]):
        if tangent is not None:
            there = [tangent if j == i else operand for j, operand in enumerate(operands)]
            result = total(result, call(messages, *there, *rest))
    return result


def vjp_jvp(ctx: Any, *tangents: Any) -> tuple[Any, ...]:
    """It is linear in dout; along the other operands it is the gradient of its own gradient."""
    (dout, *operands), rest = _saved(ctx)
    ddout, *along = tangents[:4]
    results: Any = (None,) * 3
    if ddout is not None:
        results = only(ctx.wanted, call(messages_vjp, ddout, *operands, *rest, ctx.wanted))
    if any(x is not None for x in along):
        wanted = [False, *ctx.wanted]
        _, *more = only(wanted, call(messages_vjp_vjp, *along, dout, *operands, *rest, wanted))
        results = map(total, results, more)
    return whole(ctx, results, operands)


def vjp_vjp_jvp(ctx: Any, *tangents: Any) -> tuple[Any, ...]:
    """It is linear in z together, and in dout; along the other operands see `_twice_along`."""
    (*z, dout, x, y, w), rest = _saved(ctx)
    dz, ddout, along = tangents[:3], tangents[3], tangents[4:7]
    results: Any = _twice_along(z, along, dout, (x, y, w), rest, ctx.wanted[0], ctx.wanted[1:])
    results = [results[0], *results[1]]
    if any(t is not None for t in dz):
        more = only(ctx.wanted, call(messages_vjp_vjp, *dz, dout, x, y, w, *rest, ctx.wanted))
        results = map(total, results, more)
    if ddout is not None:
        wanted = [False, *ctx.wanted[1:]]
        more = only(wanted, call(messages_vjp_vjp, *z, ddout, x, y, w, *rest, wanted))
        results = map(total, results, more)
    return whole(ctx, results, (dout, x, y, w))


def vmapped(op: Any, names: Sequence[str]) -> Any:
    """Samples go side by side: their graphs are one, of as many rows as they have together."""
    likes = {"zx": "x", "zy": "y", "zw": "weights"}

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        size, n = info.batch_size, len(names)
        *index, num_nodes, text, axis = arguments[n : n + 7]
        rest = arguments[n + 7 :]
        rows = {"num_nodes": num_nodes}

        def samples(x: Any, d: Any) -> Any:
            return x.expand(size, *x.shape) if d is None else x.movedim(d, 0)

        operands = []
        for name, x, d in zip(names, arguments, in_dims, strict=False):
            if x is not None:
                x = samples(x, d)
                rows[likes.get(name, name)] = x.shape[1]
                x = x.reshape(-1, *x.shape[2:])
            operands.append(x)
        columns = []
        for name, x, d in zip(("x", "num_nodes", "y", "weights"), index, in_dims[n:], strict=False):
            if x is not None:
                begin = rows.get(name, 0) * torch.arange(size, dtype=torch.int64, device=x.device)
                x = (samples(x, d) + begin[:, None]).reshape(-1)
            columns.append(x)
        results = call(op, *operands, *columns, num_nodes * size, text, axis, *rest)
        if isinstance(results, Tensor):
            return results.unflatten(0, (size, num_nodes)), 0
        apart = [
            result.unflatten(0, (size, -1)) if want else result for result, want in zip(results, rest[0], strict=True)
        ]
        return tuple(apart), tuple(0 if want else None for want in rest[0])

    return rule
