"""The operators of polynomials, three, and their derivatives, which are among them.

`polynomial` is the value, `polynomial_vjp` its gradients, and `polynomial_vjp_vjp` those of <zx, dx> + <zw, dw>. With T
the polynomial's tangent, a polynomial of x and zx side by side (`tangent`), the last one is

    ddy = T(x|zx, w) + P(x, zw)
    dx  = the part for x of T's gradients + the gradient of P(x, zw)
    dw  = the gradient of T(x|zx, w),

so that its derivatives are of the same three, and theirs.

Operators take arrays in one form: x (atoms, n_in, channels), weights (rows, paths, channels or 1) and, for each atom,
its row of weights, int64. The polynomial comes as text, as rules do (operators.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any

import torch

from ..cpu.threads import bounded
from ..monomials import as_text
from ..polynomials import Polynomial, polynomial_of_text, tangent
from .calling import call
from .derivatives import only, total, whole
from .operators import COMPUTED, library
from .registration import register
from .tensors import given_back, viewed

Tensor = torch.Tensor

_OPERANDS = "Tensor x, Tensor weights, Tensor rows, str polynomial"
for _signature in (
    f"polynomial({_OPERANDS}) -> Tensor",
    f"polynomial_vjp(Tensor dy, {_OPERANDS}, bool[2] wanted) -> (Tensor, Tensor)",
    f"polynomial_vjp_vjp(Tensor? zx, Tensor? zw, Tensor dy, {_OPERANDS}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
):
    library.define(_signature, tags=(torch.Tag.pt2_compliant_tag,))

_ops = torch.ops.sparseacc
value, vjp, vjp_vjp = (
    _ops.polynomial.default,
    _ops.polynomial_vjp.default,
    _ops.polynomial_vjp_vjp.default,
)

known = lru_cache(2**8)(polynomial_of_text)


@lru_cache(2**8)
def _tangent(text: str) -> str:
    return as_text(tangent(known(text)))


# Kernels.


def _checked(named: Mapping[str, Tensor | None], rows: Tensor, text: str) -> Polynomial:
    """Refuses arguments that have not the form of an operator's. Lengths are left to what comes after."""
    given = {name: x for name, x in named.items() if x is not None}
    like = given["x"]
    for name, x in given.items():
        if x.dtype != like.dtype or x.device != like.device or x.ndim != 3:
            raise ValueError(
                "operators take tensors of 3 dimensions and one dtype on one device, but x is "
                f"{like.dtype} on {like.device}, and {name} {x.dtype} on {x.device} with {x.ndim} dimensions: "
                "sparseacc.torch.polynomial converts them"
            )
    if like.dtype not in COMPUTED or like.dtype.is_complex:
        raise TypeError(f"operators do not take {like.dtype}: polynomials are computed of real floating-point numbers")
    if rows.dtype != torch.int64:
        raise TypeError(f"rows must be int64 in operators, but is {rows.dtype}")
    return known(text)


def _run(method: str, named: Mapping[str, Tensor | None], rows: Tensor, text: str, **options: Any) -> Any:
    function = getattr(_checked(named, rows, text), method)
    arrays = {name: None if x is None else viewed(x, name) for name, x in named.items()}
    with bounded(torch.get_num_threads()):
        return function(**arrays, rows_of_weights=rows.numpy() if rows.is_cpu else rows, **options)


def _results(results: Sequence[Any], like: Tensor) -> tuple[Tensor, ...]:
    """Tensors; one of no size stands for one that is not wanted."""
    return tuple(like.new_empty(0) if result is None else given_back(result).contiguous() for result in results)


def _value(x: Tensor, weights: Tensor, rows: Tensor, text: str) -> Tensor:
    return given_back(_run("__call__", {"x": x, "weights": weights}, rows, text)).contiguous()


def _vjp(dy: Tensor, x: Tensor, weights: Tensor, rows: Tensor, text: str, wanted: list[bool]) -> tuple[Tensor, ...]:
    named = {"dy": dy, "x": x, "weights": weights}
    return _results(_run("vjp", named, rows, text, wrt=list(compress(range(2), wanted))), x)


def _vjp_vjp(
    zx: Tensor | None,
    zw: Tensor | None,
    dy: Tensor,
    x: Tensor,
    weights: Tensor,
    rows: Tensor,
    text: str,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    named = {"zx": zx, "zw": zw, "dy": dy, "x": x, "weights": weights}
    return _results(_run("vjp_vjp", named, rows, text, wrt=list(compress(range(3), wanted))), x)


# Fake kernels.


def _fake_value(x: Tensor, weights: Tensor, rows: Tensor, text: str) -> Tensor:
    polynomial = _checked({"x": x, "weights": weights}, rows, text)
    n_in, n_out = polynomial.shape
    for name, n, needed in (("x", x.shape[1], n_in), ("weights", weights.shape[1], polynomial.num_paths)):
        torch._check_value(
            n == needed,
            lambda: f"{name} has length {n} along axis -2, but the polynomial needs {needed}",  # noqa: B023
        )
    return x.new_empty(x.shape[0], n_out, x.shape[2])


def _fake_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, rows, text, wanted = arguments
    *_, x, weights = tensors
    _checked({"x": x, "weights": weights}, rows, text)
    inputs = tensors[-len(wanted) :]
    return tuple(x.new_empty(t.shape if want else (0,)) for t, want in zip(inputs, wanted, strict=True))


# Derivatives.


def _save_value(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.text = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *others, ctx.wanted = inputs
    _save_value(ctx, tuple(others), output)
    ctx.set_materialize_grads(False)


def _beside(x: Tensor, z: Tensor | None) -> Tensor:
    """X and z as T takes them."""
    return torch.cat((x, torch.zeros_like(x) if z is None else z), 1)


def _value_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, w, rows = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:2])
    return (*only(wanted, call(vjp, dy, x, w, rows, ctx.text, wanted)), None, None)


def _vjp_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    dy, x, w, rows = ctx.saved_tensors
    wanted: list[bool] = list(ctx.needs_input_grad[:3])
    z: Any = only(ctx.wanted, cotangents)
    gradients: Any = (None,) * 3
    if any(each is not None for each in z):
        gradients = only(wanted, call(vjp_vjp, *z, dy, x, w, rows, ctx.text, wanted))
    return (*gradients, None, None, None)


def _vjp_vjp_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    """Of the sums at the top of this file."""
    zx, zw, dy, x, w, rows = ctx.saved_tensors
    a, b, c = only(ctx.wanted, cotangents)
    n, text = x.shape[1], ctx.text
    dzx = dzw = ddy = dx = dw = None
    if zx is not None:
        tangents, both = _tangent(text), _beside(x, zx)
        if a is not None:
            of_both, dw = call(vjp, a, both, w, rows, tangents, [True, True])
            dx, dzx = of_both[:, :n], of_both[:, n:]
        if b is not None or c is not None:
            z = None if b is None else torch.cat((b, torch.zeros_like(b)), 1)
            ddy, of_both, more = call(vjp_vjp, z, c, dy, both, w, rows, tangents, [True] * 3)
            dx, dzx, dw = total(dx, of_both[:, :n]), total(dzx, of_both[:, n:]), total(dw, more)
    if zw is not None:
        if a is not None:
            more, dzw = call(vjp, a, x, zw, rows, text, [True, True])
            dx = total(dx, more)
        if b is not None:
            of_dy, of_x, of_zw = call(vjp_vjp, b, None, dy, x, zw, rows, text, [True] * 3)
            ddy, dx, dzw = total(ddy, of_dy), total(dx, of_x), total(dzw, of_zw)
    return dzx, dzw, ddy, dx, dw, None, None, None


def _value_jvp(ctx: Any, tx: Tensor | None, tw: Tensor | None, *rest: Any) -> Any:
    x, w, rows = ctx.saved_tensors
    along_x = None if tx is None else call(value, _beside(x, tx), w, rows, _tangent(ctx.text))
    return along_x if tw is None else total(along_x, call(value, x, tw, rows, ctx.text))


def _vjp_jvp(ctx: Any, tdy: Tensor | None, tx: Tensor | None, tw: Tensor | None, *rest: Any) -> Any:
    dy, x, w, rows = ctx.saved_tensors
    results: Any = (None,) * 2
    if tdy is not None:
        results = only(ctx.wanted, call(vjp, tdy, x, w, rows, ctx.text, ctx.wanted))
    if tx is not None or tw is not None:
        wanted = [False, *ctx.wanted]
        _, *more = only(wanted, call(vjp_vjp, tx, tw, dy, x, w, rows, ctx.text, wanted))
        results = map(total, results, more)
    return whole(ctx, results, (x, w))


def _vjp_vjp_jvp(
    ctx: Any,
    tzx: Tensor | None,
    tzw: Tensor | None,
    tdy: Tensor | None,
    tx: Tensor | None,
    tw: Tensor | None,
    *rest: Any,
) -> Any:
    zx, zw, dy, x, w, rows = ctx.saved_tensors
    n, wanted = x.shape[1], ctx.wanted
    results: Any = (None,) * 3

    def add(found: Sequence[Any]) -> None:
        nonlocal results
        results = tuple(map(total, results, only(wanted, found)))

    if tzx is not None or tzw is not None:
        add(call(vjp_vjp, tzx, tzw, dy, x, w, rows, ctx.text, wanted))
    if tdy is not None:
        _, *of_operands = call(vjp_vjp, zx, zw, tdy, x, w, rows, ctx.text, [False, *wanted[1:]])
        add((None, *of_operands))
    if zx is not None and (tx is not None or tw is not None):
        z = None if tx is None else torch.cat((tx, torch.zeros_like(tx)), 1)
        ddy, of_both, dw = call(vjp_vjp, z, tw, dy, _beside(x, zx), w, rows, _tangent(ctx.text), [True] * 3)
        add((ddy, of_both[:, :n], dw))
    if zw is not None and tx is not None:
        ddy, dx, _ = call(vjp_vjp, tx, None, dy, x, zw, rows, ctx.text, [True, True, False])
        add((ddy, dx, None))
    return whole(ctx, results, (dy, x, w))


def _vmapped(op: Any) -> Any:
    """Samples go side by side, each with weights of its own."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        n = next(i for i, argument in enumerate(arguments) if isinstance(argument, str))
        samples: list[Any] = [
            None if x is None else x.expand(size, *x.shape) if d is None else x.movedim(d, 0)
            for x, d in zip(arguments[:n], in_dims, strict=False)
        ]
        *tensors, rows = samples
        begin = torch.arange(size, device=rows.device) * tensors[-1].shape[1]
        flat = [None if x is None else x.reshape(-1, *x.shape[2:]) for x in tensors]
        results = call(op, *flat, (rows + begin[:, None]).reshape(-1), *arguments[n:])
        if isinstance(results, Tensor):
            return results.unflatten(0, (size, -1)), 0
        wanted = arguments[-1]
        apart = [r.unflatten(0, (size, -1)) if want else r for r, want in zip(results, wanted, strict=True)]
        return tuple(apart), tuple(0 if want else None for want in wanted)

    return rule


for _op, _compute, _fake, _save, _backward, _jvp in (
    (value, _value, _fake_value, _save_value, _value_backward, _value_jvp),
    (vjp, _vjp, _fake_gradients, _save_gradients, _vjp_backward, _vjp_jvp),
    (vjp_vjp, _vjp_vjp, _fake_gradients, _save_gradients, _vjp_vjp_backward, _vjp_vjp_jvp),
):
    for _device in ("CPU", "CUDA"):
        library.impl(_op, _compute, _device)
    register(_op, _fake, _save, _backward, _jvp, _vmapped(_op))
