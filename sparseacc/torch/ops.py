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

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from .. import dispatch
from ..accumulation import cached_rule
from ..calls import dtypes
from ..cpu.execution import planned
from ..cpu.threads import bounded
from ..operations import FORWARD, VJP, VJP_VJP, Operation
from ..rule import Rule, rule_of_text
from . import direct, inductor, stable

Tensor = torch.Tensor

_library = torch.library.Library("sparseacc", "FRAGMENT")  # as long as it lives, so do the operators
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
    _library.define(_name + _signature.format(_given), tags=(torch.Tag.pt2_compliant_tag,))

_ops = torch.ops.sparseacc
product, vjp, vjp_vjp = _ops.product.default, _ops.vjp.default, _ops.vjp_vjp.default

COMPUTED = frozenset(getattr(torch, name) for name in dtypes.STORED)


def from_text(text: str) -> Rule:
    """The rule that a text stands for."""
    try:
        return rule_of_text(text)
    except ValueError as error:
        raise ValueError(f"rule must be the text of a sparseacc.Rule, but {text!r:.40} is not: {error}") from error


def _check_form(
    operation: Operation, tensors: Sequence[Tensor | None], text: str, terms: Tensor | None, axis: int
) -> None:
    """Refuses arguments that have not the form of an operator's. Lengths are left to what comes after."""
    named = {name: x for x, (name, _) in zip(tensors, operation.inputs, strict=True) if x is not None}
    like = named["x1"]
    for name, x in named.items():
        if x.dtype != like.dtype or x.device != like.device or x.ndim != like.ndim:
            raise ValueError(
                "operators take tensors of one dtype, on one device, of one number of dimensions, but x1 is "
                f"{like.dtype} on {like.device} with {like.ndim}, and {name} {x.dtype} on {x.device} with {x.ndim}: "
                "sparseacc.torch.product converts them"
            )
    if like.dtype not in COMPUTED:
        raise TypeError(f"operators do not take {like.dtype}: sparseacc.torch.product converts it")
    if not -like.ndim <= axis < 0:
        raise ValueError(f"axis counts from the end in operators, from {-like.ndim} to -1 here, but is {axis}")
    if terms is not None and (text or terms.dtype != torch.int64 or terms.ndim != 2 or terms.shape[0] != 4):
        raise ValueError(
            "terms must be int64 of shape (4, nnz), and rule empty beside it, but they are "
            f"{terms.dtype} of shape {tuple(terms.shape)}, and {text!r:.40}"
        )


def _rule(
    operation: Operation,
    tensors: Sequence[Tensor | None],
    text: str,
    terms: Tensor | None,
    axis: int,
    n_out: int | None = None,
) -> Rule:
    """The rule of a call whose arguments have the form that they must have; `n_out` is otherwise the length of dy."""
    _check_form(operation, tensors, text, terms, axis)
    if terms is None:
        return from_text(text)
    *lengths, n1, n2 = (x.shape[axis] for x in tensors if x is not None)
    m1, m2, mu, bits = terms.cpu().numpy()
    return cached_rule((n1, n2, lengths[-1] if n_out is None else n_out), m1, m2, mu, bits.view(np.float64))


def _run(rule: Rule, operation: Operation, tensors: Sequence[Tensor | None], axis: int, wanted: Any) -> list[Tensor]:
    """The outputs; one of no size stands for one that is not wanted."""
    given = _taken(operation, tensors)
    with bounded(torch.get_num_threads()):
        results = dispatch.execute(rule, operation, given, axis, tuple(wanted))
    like = next(tensor for tensor in tensors if tensor is not None)
    return [like.new_empty(0) if result is None else _given_back(result) for result in results]


def _taken(operation: Operation, tensors: Sequence[Tensor | None]) -> list[Any]:
    """Views of tensors' memory on the host; those on a GPU as they are, for DLPack to hand over."""
    return [None if x is None else _view(x, name) for x, (name, _) in zip(tensors, operation.inputs, strict=True)]


def _view(tensor: Tensor, name: str) -> Any:
    check_storage(tensor, name)
    if not tensor.is_cpu:
        return tensor.detach()
    array = np.asarray(_Memory(tensor.clone() if tensor._is_zerotensor() else tensor))
    return array.view(dtypes.bfloat16(name)) if tensor.dtype is torch.bfloat16 else array


_TYPES = {getattr(torch, name): np.dtype("u2" if name == "bfloat16" else name).str for name in dtypes.STORED}


class _Memory:
    """What NumPy needs for a view of a tensor, which it keeps. Tensor.numpy would forbid for ever that the storage is
    resized, as FSDP does it after each use of a parameter.
    """

    __slots__ = ("__array_interface__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape),
            "typestr": _TYPES[tensor.dtype],
            "data": (tensor.data_ptr(), False),
            "strides": tuple(step * tensor.itemsize for step in tensor.stride()),
        }


def check_storage(tensor: Tensor, name: str) -> None:
    """Refuses a tensor whose memory has been taken away, as FSDP does it with parameters that it has sharded."""
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    needed, there = (last + 1) * tensor.itemsize, tensor.untyped_storage().nbytes()
    if there < needed and tensor.numel():
        raise ValueError(f"{name} has no memory: it needs a storage of {needed} bytes, but that has {there}")


def _given_back(result: Any) -> Tensor:
    if isinstance(result, torch.Tensor):
        return result
    if result.dtype.name != "bfloat16":
        return torch.from_numpy(result)
    return torch.from_numpy(result.view(np.int16)).view(torch.bfloat16)


def _product(x1: Tensor, x2: Tensor, rule: str, terms: Tensor | None, axis: int, n_out: int) -> Tensor:
    known = _rule(FORWARD, (x1, x2), rule, terms, axis, n_out)
    if n_out != known.shape[2]:
        raise ValueError(f"n_out is {n_out}, but the rule's output has length {known.shape[2]}")
    return _run(known, FORWARD, (x1, x2), axis, (True,))[0]


def _vjp(
    dy: Tensor, x1: Tensor, x2: Tensor, rule: str, terms: Tensor | None, axis: int, wanted: list[bool]
) -> tuple[Tensor, ...]:
    known = _rule(VJP, (dy, x1, x2), rule, terms, axis)
    return tuple(_run(known, VJP, (dy, x1, x2), axis, wanted))


def _first(op: Any, operation: Operation) -> Any:
    """What C leaves to Python (stable.py): an operator's first call of a kind, which C may repeat."""

    def first(*arguments: Any) -> Any:
        *tensors, terms, axis, last = arguments
        rule = stable.current_rule()
        results = op(*tensors, rule, terms, axis, last)
        wanted = (True,) if operation is FORWARD else tuple(last)
        if terms is None and all(wanted):
            plan, _ = planned(from_text(rule), operation, _taken(operation, tensors), axis, wanted)
            stable.repeat(plan, tensors, rule, axis)
        return results

    return first


def _vjp_vjp(
    z1: Tensor | None,
    z2: Tensor | None,
    dy: Tensor,
    x1: Tensor,
    x2: Tensor,
    rule: str,
    terms: Tensor | None,
    axis: int,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    tensors = z1, z2, dy, x1, x2
    known = _rule(VJP_VJP, tensors, rule, terms, axis)
    return tuple(_run(known, VJP_VJP, tensors, axis, wanted))


# Fake kernels. Lengths may be unknown numbers there, which are compared by torch._check_value alone: what it cannot
# decide is checked when the graph runs.


def _fake_product(x1: Tensor, x2: Tensor, rule: str, terms: Tensor | None, axis: int, n_out: int) -> Tensor:
    inductor.prepare(_plain)
    _check_form(FORWARD, (x1, x2), rule, terms, axis)
    if terms is None:
        lengths = from_text(rule).shape
        for name, n, needed in zip(
            ("x1", "x2", "n_out"), (x1.shape[axis], x2.shape[axis], n_out), lengths, strict=True
        ):
            _check_length(name, n, needed)
    one1, one2 = list(x1.shape), list(x2.shape)
    one1[axis] = one2[axis] = 1
    shape = list(torch.broadcast_shapes(one1, one2))
    shape[axis] = n_out
    return x1.new_empty(shape)


def _check_length(name: str, n: Any, needed: int) -> None:
    torch._check_value(n == needed, lambda: f"{name} has length {n} along the active axis, but the rule needs {needed}")


def _fake_gradients(operation: Operation) -> Any:
    """Gradients have the shapes of the last inputs."""

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        inductor.prepare(_plain)
        *tensors, rule, terms, axis, wanted = arguments
        _check_form(operation, tensors, rule, terms, axis)
        inputs = tensors[-len(wanted) :]
        return tuple(x.new_empty(x.shape if want else (0,)) for x, want in zip(inputs, wanted, strict=True))

    return fake


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x1, x2, ctx.rule, terms, ctx.axis, ctx.n_out = inputs
    ctx.save_for_backward(x1, x2, terms)
    ctx.save_for_forward(x1, x2, terms)


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.rule, terms, ctx.axis, ctx.wanted = inputs
    ctx.save_for_backward(*tensors, terms)
    ctx.save_for_forward(*tensors, terms)
    ctx.set_materialize_grads(False)


# Backward passes get conjugated inputs: torch's gradient of a holomorphic function is the conjugate of its derivative.


def _product_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x1, x2, terms = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:2])
    gradients = call(vjp, dy, x1.conj(), x2.conj(), ctx.rule, terms, ctx.axis, wanted)
    return (*_only(wanted, gradients), None, None, None, None)


def _vjp_backward(ctx: Any, z1: Tensor | None, z2: Tensor | None) -> tuple[Any, ...]:
    dy, x1, x2, terms = ctx.saved_tensors
    z1, z2 = _only(ctx.wanted, (z1, z2))
    if z1 is None and z2 is None:
        return (None,) * 7
    wanted = list(ctx.needs_input_grad[:3])
    gradients = call(vjp_vjp, z1, z2, dy.conj(), x1.conj(), x2.conj(), ctx.rule, terms, ctx.axis, wanted)
    return (*_only(wanted, gradients), None, None, None, None)


def _vjp_vjp_backward(ctx: Any, a: Tensor | None, b1: Tensor | None, b2: Tensor | None) -> tuple[Any, ...]:
    """Of <a, P(z1, x2) + P(x1, z2)> + <b1, G1(dy, z2)> + <b2, G2(dy, z1)>: all terms are of the form <., P(., .)>."""
    *saved, terms = ctx.saved_tensors
    z1, z2, dy, x1, x2 = (None if t is None else t.conj() for t in saved)
    n_out = saved[2].shape[ctx.axis]
    needs = ctx.needs_input_grad
    a, b1, b2 = _only(ctx.wanted, (a, b1, b2))

    def gradients(y: Any, first: Any, second: Any, need1: bool, need2: bool) -> tuple[Any, Any]:
        """Of <y, P(first, second)>; None is zero."""
        wanted = [need1 and second is not None, need2 and first is not None]
        if y is None or not any(wanted):
            return None, None
        first, second = (x1 if first is None else first), (x2 if second is None else second)  # for its shape
        return _only(wanted, call(vjp, y, first, second, ctx.rule, terms, ctx.axis, wanted))  # type: ignore[return-value]

    def product_of(first: Any, second: Any) -> Any:
        if first is None or second is None or not needs[2]:
            return None
        return call(product, first, second, ctx.rule, terms, ctx.axis, n_out)

    dz1, dx2 = gradients(a, z1, x2, needs[0], needs[4])
    dx1, dz2 = gradients(a, x1, z2, needs[3], needs[1])
    more1, more2 = gradients(dy, b1, b2, needs[0], needs[1])
    ddy = _sum(product_of(b1, z2), product_of(z1, b2))
    return (_sum(dz1, more1), _sum(dz2, more2), ddy, dx1, dx2, None, None, None, None)


def _only(wanted: list[bool], gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    if False not in wanted:
        return tuple(gradients)
    return tuple(g if want else None for g, want in zip(gradients, wanted, strict=True))


def _sum(first: Any, second: Any) -> Any:
    return second if first is None else first if second is None else first + second


def _vmapped(op: Any, tensors: int) -> Any:
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


def _product_jvp(ctx: Any, *tangents: Any) -> Tensor:
    x1, x2, terms = ctx.saved_tensors
    dx1, dx2 = _tangents((x1, x2), tangents[:2])
    rest = (ctx.rule, terms, ctx.axis, ctx.n_out)
    result: Tensor = call(product, dx1, x2, *rest) + call(product, x1, dx2, *rest)
    return result


def _gradients_jvp(op: Any, linear: int) -> Any:
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        *primals, terms = ctx.saved_tensors
        tangent = _tangents(primals, tangents[: len(primals)])
        rest = (ctx.rule, terms, ctx.axis, ctx.wanted)
        first = call(op, *tangent[:linear], *primals[linear:], *rest)
        second = call(op, *primals[:linear], *tangent[linear:], *rest)
        return tuple(a + b for a, b in zip(first, second, strict=True))

    return jvp


def call(op: Any, *arguments: Any) -> Any:
    """An operator; inside torch.func and forward mode, which do not know operators' derivatives, as a Function."""
    forward_mode = forward_ad._current_level >= 0
    if is_compiling():
        if forward_mode:
            # Tangents would be lost there, without an error. Without fullgraph, this part now runs uncompiled.
            raise NotImplementedError(
                "torch.compile does not take forward mode (jvp, jacfwd, dual numbers) through other packages' "
                "operators: use reverse mode, or leave this part out of the graph"
            )
        return op(*arguments)
    try:
        return _called(op, forward_mode, arguments)
    except RuntimeError as error:  # as a kernel in C has to raise it: it begins with the name of what Python raised
        name, _, message = str(error).partition("\n\nAt:")[0].partition(": ")
        if name not in _ERRORS:
            raise
        raise _ERRORS[name](message) from error


_ERRORS = {error.__name__: error for error in (TypeError, ValueError, MemoryError)}


def _called(op: Any, forward_mode: bool, arguments: tuple[Any, ...]) -> Any:
    if torch._C._are_functorch_transforms_active():
        levels = torch._C._functorch.get_interpreter_stack()
        if sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1:
            # Functions get zero there as the second derivative, without an error.
            raise NotImplementedError(
                "torch does not take forward mode inside forward mode (jvp, jacfwd) through other packages' operators: "
                "use jacrev or grad for all but one of the derivatives"
            )
    elif not forward_mode:
        return _plainly(op, *arguments)
    return _functions[op].apply(*arguments)


def _plainly(op: Any, *arguments: Any) -> Any:
    """An operator where nothing transforms it; the call itself if it has been made before."""
    *tensors, text, terms, axis, last = arguments
    if terms is not None or not direct.usual([x for x in tensors if x is not None]):
        return op(*arguments)
    key = direct.key(op, tensors, text, axis, last)
    result = repeated(key, op, tensors, text, axis, last)
    if result is not None:
        return result
    result = op(*arguments)
    if key not in direct.calls:
        operation, wanted = _operations[op], (True,) if op is product else tuple(last)
        plan, _ = planned(from_text(text), operation, _taken(operation, tensors), axis, wanted)
        direct.remember(key, plan, tensors, wanted)
    return result


def repeated(key: Any, op: Any, tensors: Sequence[Any], text: str, axis: int, last: Any) -> Any:
    """The results of a call that has been made before; None if it has not, or cannot be repeated."""
    call = direct.calls.get(key)
    if call is None or not call.finds(tensors):
        return None
    if torch.is_grad_enabled():
        for x in tensors:
            if x is not None and x.requires_grad:
                return _direct[op](*tensors, text, None, axis, last, call)
    return call.run(tensors)


_plain = {product: _ops.product_plain.default, vjp: _ops.vjp_plain.default}
_in_c = stable.register()
_library.impl("product_first", _first(_product, FORWARD), "CPU")
_library.impl("vjp_first", _first(_vjp, VJP), "CPU")

_functions: dict[Any, Any] = {}
_direct: dict[Any, Any] = {}
_operations = {product: FORWARD, vjp: VJP, vjp_vjp: VJP_VJP}

for _op, _count, _compute, _fake, _save, _backward, _jvp in (
    (product, 2, _product, _fake_product, _save_product, _product_backward, _product_jvp),
    (vjp, 3, _vjp, _fake_gradients(VJP), _save_gradients, _vjp_backward, _gradients_jvp(vjp, 1)),
    (vjp_vjp, 5, _vjp_vjp, _fake_gradients(VJP_VJP), _save_gradients, _vjp_vjp_backward, _gradients_jvp(vjp_vjp, 2)),
):
    _name = _op.name().removesuffix(".default")
    for _each in (_op, _plain[_op]) if _op in _plain else (_op,):
        _library.impl(_each, _compute, "CUDA")
        if not _in_c or _op not in _plain:
            _library.impl(_each, _compute, "CPU")
        torch.library.register_fake(_each.name().removesuffix(".default"), _fake, lib=_library)
    torch.library.register_autograd(_name, _backward, setup_context=_save, lib=_library)
    torch.library.register_vmap(_name, _vmapped(_op, _count), lib=_library)
    _methods = {
        "forward": _op,
        "setup_context": _save,
        "backward": _backward,
        "jvp": _jvp,
        "vmap": _vmapped(_op, _count),
    }
    _functions[_op] = type(
        _op.name(), (torch.autograd.Function,), {name: staticmethod(method) for name, method in _methods.items()}
    )
    _direct[_op] = direct.function(_op.name(), _count, _save, _backward)
