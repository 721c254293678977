"""The derivatives of operators, which are operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .calling import call
from .operators import product, vjp, vjp_vjp

Tensor = torch.Tensor


def save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What the derivatives of the product need."""
    x1, x2, ctx.rule, terms, ctx.axis, ctx.n_out = inputs
    ctx.save_for_backward(x1, x2, terms)
    ctx.save_for_forward(x1, x2, terms)


def save_gradients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """What the derivatives of vjp and vjp_vjp need."""
    *tensors, ctx.rule, terms, ctx.axis, ctx.wanted = inputs
    ctx.save_for_backward(*tensors, terms)
    ctx.save_for_forward(*tensors, terms)
    ctx.set_materialize_grads(False)


# Backward passes get conjugated inputs: torch's gradient of a holomorphic function is the conjugate of its derivative.


def product_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    """Of <dy, P(x1, x2)>."""
    x1, x2, terms = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:2])
    gradients = call(vjp, dy, x1.conj(), x2.conj(), ctx.rule, terms, ctx.axis, wanted)
    return (*only(wanted, gradients), None, None, None, None)


def vjp_backward(ctx: Any, z1: Tensor | None, z2: Tensor | None) -> tuple[Any, ...]:
    """Of <z1, G1(dy, x2)> + <z2, G2(dy, x1)>."""
    dy, x1, x2, terms = ctx.saved_tensors
    z1, z2 = only(ctx.wanted, (z1, z2))
    if z1 is None and z2 is None:
        return (None,) * 7
    wanted = list(ctx.needs_input_grad[:3])
    gradients = call(vjp_vjp, z1, z2, dy.conj(), x1.conj(), x2.conj(), ctx.rule, terms, ctx.axis, wanted)
    return (*only(wanted, gradients), None, None, None, None)


def vjp_vjp_backward(ctx: Any, a: Tensor | None, b1: Tensor | None, b2: Tensor | None) -> tuple[Any, ...]:
    """Of <a, P(z1, x2) + P(x1, z2)> + <b1, G1(dy, z2)> + <b2, G2(dy, z1)>: all terms are of the form <., P(., .)>."""
    *saved, terms = ctx.saved_tensors
    z1, z2, dy, x1, x2 = (None if t is None else t.conj() for t in saved)
    n_out = saved[2].shape[ctx.axis]
    needs = ctx.needs_input_grad
    a, b1, b2 = only(ctx.wanted, (a, b1, b2))

    def gradients(y: Any, first: Any, second: Any, need1: bool, need2: bool) -> tuple[Any, Any]:
        """Of <y, P(first, second)>; None is zero."""
        wanted = [need1 and second is not None, need2 and first is not None]
        if y is None or not any(wanted):
            return None, None
        first, second = (x1 if first is None else first), (x2 if second is None else second)  # for its shape
        return only(wanted, call(vjp, y, first, second, ctx.rule, terms, ctx.axis, wanted))  # type: ignore[return-value]

    def product_of(first: Any, second: Any) -> Any:
        if first is None or second is None or not needs[2]:
            return None
        return call(product, first, second, ctx.rule, terms, ctx.axis, n_out)

    dz1, dx2 = gradients(a, z1, x2, needs[0], needs[4])
    dx1, dz2 = gradients(a, x1, z2, needs[3], needs[1])
    more1, more2 = gradients(dy, b1, b2, needs[0], needs[1])
    ddy = total(product_of(b1, z2), product_of(z1, b2))
    return (total(dz1, more1), total(dz2, more2), ddy, dx1, dx2, None, None, None, None)


def only(wanted: Sequence[bool], gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Those that are wanted, None for the others."""
    if False not in wanted:
        return tuple(gradients)
    return tuple(g if want else None for g, want in zip(gradients, wanted, strict=True))


def total(first: Any, second: Any) -> Any:
    """The sum, where None is zero."""
    return second if first is None else first if second is None else first + second


def whole(ctx: Any, results: Any, likes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tensors in place of None: of no size for what is not wanted, of zeros for what is zero."""
    return tuple(
        likes[0].new_empty(0) if not want else torch.zeros_like(like) if result is None else result.contiguous()
        for result, want, like in zip(results, ctx.wanted, likes, strict=True)
    )


def vmapped(op: Any, tensors: int) -> Any:
    """The batch dimension goes first, where every operator broadcasts; gradients are then of one sample each."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        if in_dims[tensors + 1] is not None:
            raise ValueError("the terms of a rule cannot be mapped over: call product in a loop over rules")
        moved = [
            None if x is None else x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
            for x, d in zip(arguments[:tensors], in_dims, strict=False)
        ]
        results = call(op, *moved, *arguments[tensors:])
        if isinstance(results, torch.Tensor):
            return results, 0
        return results, tuple(0 if want else None for want in arguments[-1])

    return rule


# Forward mode. The product is linear in each input, vjp in dy and in (x1, x2), vjp_vjp in (z1, z2) and in (dy, x1, x2):
# the derivative is a sum of two calls.


def _tangents(primals: Any, tangents: Any) -> list[Any]:
    """None is zero."""
    return [
        torch.zeros_like(x) if dx is None and x is not None else dx for x, dx in zip(primals, tangents, strict=True)
    ]


def product_jvp(ctx: Any, *tangents: Any) -> Tensor:
    """P(dx1, x2) + P(x1, dx2)."""
    x1, x2, terms = ctx.saved_tensors
    dx1, dx2 = _tangents((x1, x2), tangents[:2])
    rest = (ctx.rule, terms, ctx.axis, ctx.n_out)
    result: Tensor = call(product, dx1, x2, *rest) + call(product, x1, dx2, *rest)
    return result


def gradients_jvp(op: Any, linear: int) -> Any:
    """Of vjp or vjp_vjp, which is linear in its first `linear` inputs together, and in the others."""

    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        *primals, terms = ctx.saved_tensors
        tangent = _tangents(primals, tangents[: len(primals)])
        rest = (ctx.rule, terms, ctx.axis, ctx.wanted)
        first = call(op, *tangent[:linear], *primals[linear:], *rest)
        second = call(op, *primals[:linear], *tangent[linear:], *rest)
        return tuple(a + b for a, b in zip(first, second, strict=True))

    return jvp
