"""The operators with weights of paths, which are a third factor.

`weighted` is the form that is linear in four operands, dy, x1, x2 and weights, one for each index of a rule's terms,
and sums C times their product. One of the four is missing, and what multiplies it is the result: without dy it is the
product, without another operand its gradient, summed to the shape that is given. A derivative of this by one operand is
the same with another one missing, to any order. Two more operators compute in one pass what training takes most often:
`weighted_vjp` all gradients of the product, and `weighted_vjp_vjp` all gradients of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..algebra import M1, M2, MU, PATH, WEIGHTED_FORWARD, WEIGHTED_VJP, WEIGHTED_VJP_VJP, Operation
from ..terms import lengths
from . import calling, inductor, kernels
from .derivatives import only, total
from .operators import library, plain

Tensor = torch.Tensor

_COLUMNS = (MU, M1, M2, PATH)
"""What addresses the operands of the form."""

_FOUR = "Tensor dy, Tensor x1, Tensor x2, Tensor weights, str rule, int axis"
_ZS = "Tensor? z1, Tensor? z2, Tensor? zw"
for _signature in (
    "weighted(Tensor? dy, Tensor? x1, Tensor? x2, Tensor? weights, str rule, int axis, SymInt[] shape) -> Tensor",
    f"weighted_vjp({_FOUR}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
    f"weighted_vjp_vjp({_ZS}, {_FOUR}, bool[4] wanted) -> (Tensor, Tensor, Tensor, Tensor)",
):
    library.define(_signature, tags=(torch.Tag.pt2_compliant_tag,))

_ops = torch.ops.sparseacc
form, vjp, vjp_vjp = _ops.weighted.default, _ops.weighted_vjp.default, _ops.weighted_vjp_vjp.default

FORM = Operation("weighted", tuple(zip(("dy", "x1", "x2", "weights"), _COLUMNS, strict=True)), (), (), ())
"""The names of its operands, and what addresses them."""


def product(factors: Sequence[Tensor], rule: str, axis: int, n_out: int) -> Tensor:
    """The product of x1, x2 and weights in the form that operators take."""
    batches = []
    for x in factors:
        batches.append(list(x.shape))
        batches[-1][axis] = 1
    shape = list(torch.broadcast_shapes(*batches))
    shape[axis] = n_out
    result: Tensor = calling.call(form, None, *factors, rule, axis, shape)
    return result


def _missing(operands: Sequence[Any]) -> int:
    """Which of the four operands is missing."""
    missing = [n for n, operand in enumerate(operands) if operand is None]
    if len(missing) != 1:
        raise ValueError(f"of dy, x1, x2 and weights one must be None, which is computed, but {len(missing)} are")
    return missing[0]


def _form(*arguments: Any) -> Tensor:
    """What the form computes."""
    *operands, rule, axis, shape = arguments
    missing = _missing(operands)
    kernels.check_form(FORM, operands, axis)
    known = kernels.from_text(rule)
    if missing == 0:
        result = kernels.run(known, WEIGHTED_FORWARD, operands[1:], axis, (True,))[0]
    else:  # of the operand only the shape counts
        operands[missing] = operands[0].new_empty(1).expand(shape)
        wanted = tuple(n == missing for n in (1, 2, 3))
        result = kernels.run(known, WEIGHTED_VJP, operands, axis, wanted)[missing - 1]
    if list(result.shape) != list(shape):
        raise ValueError(f"shape is {list(shape)}, but the result's is {list(result.shape)}")
    return result


def _gradients(operation: Operation) -> Any:
    """What the other operators compute."""

    def gradients(*arguments: Any) -> tuple[Tensor, ...]:
        *tensors, rule, axis, wanted = arguments
        kernels.check_form(operation, tensors, axis)
        return tuple(kernels.run(kernels.from_text(rule), operation, tensors, axis, wanted))

    return gradients


def _fake_form(*arguments: Any) -> Tensor:
    *operands, rule, axis, shape = arguments
    inductor.prepare(plain)
    _missing(operands)
    kernels.check_form(FORM, operands, axis)
    sizes = lengths(kernels.from_text(rule))
    for x, (name, column) in zip(operands, FORM.inputs, strict=True):
        kernels.check_length("shape" if x is None else name, (shape if x is None else x.shape)[axis], sizes[column])
    given: Tensor = next(x for x in operands if x is not None)
    return given.new_empty(shape)


def _fake_gradients(operation: Operation) -> Any:
    fake = kernels.fake_gradients(operation)

    def without_terms(*arguments: Any) -> tuple[Tensor, ...]:
        *tensors, rule, axis, wanted = arguments
        found: tuple[Tensor, ...] = fake(*tensors, rule, None, axis, wanted)
        return found

    return without_terms


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.rule, ctx.axis, ctx.last = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.set_materialize_grads(False)


def _products(tensors: Sequence[Any], operation: Operation | None) -> list[tuple[int, int, tuple[int, ...]]]:
    """An output, what addresses it, and the inputs that are multiplied into it, for every product of no absent input.

    Without an operation those of the form, whose output is what is missing.
    """
    if operation is None:
        missing = _missing(tensors)
        return [(0, _COLUMNS[missing], tuple(n for n in range(4) if n != missing))]
    return [
        (p.output, operation.outputs[p.output], p.inputs)
        for p in operation.products
        if all(tensors[i] is not None for i in p.inputs)
    ]


def _solved(ctx: Any, operands: dict[int, Any], column: int, shape: Any) -> Tensor:
    """The form, by what addresses its operands."""
    arguments = [None if each == column else operands[each] for each in _COLUMNS]
    result: Tensor = calling.call(form, *arguments, ctx.rule, ctx.axis, list(shape))
    return result


def _columns(operation: Operation | None) -> list[int]:
    return [column for _, column in (FORM if operation is None else operation).inputs]


def _backward(operation: Operation | None) -> Any:
    """The backward pass of an operation, factor by factor of each product."""

    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        tensors, columns = ctx.saved_tensors, _columns(operation)
        found: list[Any] = [None] * len(tensors)
        for o, output, inputs in _products(tensors, operation):
            if cotangents[o] is None or (operation is not None and not ctx.last[o]):
                continue
            operands = {output: cotangents[o], **{columns[i]: tensors[i].conj() for i in inputs}}
            for i in inputs:
                if ctx.needs_input_grad[i]:
                    found[i] = total(found[i], _solved(ctx, operands, columns[i], tensors[i].shape))
        return (*found, None, None, None)

    return backward


_factor_by_factor = _backward(None)


def _form_backward(ctx: Any, cotangent: Any) -> tuple[Any, ...]:
    """That of the product in one pass."""
    dy, *factors = ctx.saved_tensors
    if dy is not None or cotangent is None:
        backward: tuple[Any, ...] = _factor_by_factor(ctx, cotangent)
        return backward
    wanted = list(ctx.needs_input_grad[1:4])
    gradients = calling.call(vjp, cotangent, *(x.conj() for x in factors), ctx.rule, ctx.axis, wanted)
    return (None, *only(wanted, gradients), None, None, None)


def _vjp_backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
    """In one pass."""
    tensors, zs = ctx.saved_tensors, only(ctx.last, cotangents)
    if all(z is None for z in zs):
        return (None,) * 7
    wanted = list(ctx.needs_input_grad[:4])
    gradients = calling.call(vjp_vjp, *zs, *(x.conj() for x in tensors), ctx.rule, ctx.axis, wanted)
    return (*only(wanted, gradients), None, None, None)


def _jvp(operation: Operation | None) -> Any:
    """Forward mode, factor by factor of each product."""

    def jvp(ctx: Any, *tangents: Any) -> Any:
        tensors, columns = ctx.saved_tensors, _columns(operation)
        shapes = [ctx.last] if operation is None else [x.shape for x in tensors[-len(ctx.last) :]]
        found: list[Any] = [None] * len(shapes)
        for o, output, inputs in _products(tensors, operation):
            for i in inputs:
                if tangents[i] is not None and (operation is None or ctx.last[o]):
                    operands = {columns[k]: tangents[k] if k == i else tensors[k] for k in inputs}
                    found[o] = total(found[o], _solved(ctx, operands, output, shapes[o]))
        if operation is None:
            return found[0]
        like = tensors[-1]
        return tuple(
            like.new_zeros(shape if want else 0) if x is None else x
            for x, shape, want in zip(found, shapes, ctx.last, strict=True)
        )

    return jvp


def _vmapped(op: Any) -> Any:
    """As in derivatives.py."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        *tensors, text, axis, last = arguments
        moved = [
            None if x is None else x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
            for x, d in zip(tensors, in_dims, strict=False)
        ]
        if op is form:
            return calling.call(op, *moved, text, axis, [info.batch_size, *last]), 0
        return calling.call(op, *moved, text, axis, last), tuple(0 if want else None for want in last)

    return rule


OPERATORS = (
    (form, _form, _fake_form, _save, _form_backward, _jvp(None), _vmapped(form)),
    (
        vjp,
        _gradients(WEIGHTED_VJP),
        _fake_gradients(WEIGHTED_VJP),
        _save,
        _vjp_backward,
        _jvp(WEIGHTED_VJP),
        _vmapped(vjp),
    ),
    (
        vjp_vjp,
        _gradients(WEIGHTED_VJP_VJP),
        _fake_gradients(WEIGHTED_VJP_VJP),
        _save,
        _backward(WEIGHTED_VJP_VJP),
        _jvp(WEIGHTED_VJP_VJP),
        _vmapped(vjp_vjp),
    ),
)
"""Each with what it computes, its fake kernel, what it saves, its derivatives, and vmap."""
