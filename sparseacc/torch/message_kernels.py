"""What the operators of message passing compute, and what shapes their results have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Any

import torch

from ..cpu.threads import bounded
from ..messages import message_passing, message_passing_vjp, message_passing_vjp_vjp
from .graphs import graph_of_tensors
from .kernels import from_text
from .operators import COMPUTED
from .tensors import given_back, viewed

Tensor = torch.Tensor


def _run(
    function: Callable[..., Any],
    named: Mapping[str, Tensor | None],
    index: Sequence[Tensor | None],
    num_nodes: int,
    rule: str,
    axis: int,
    wanted: Sequence[bool] | None = None,
) -> tuple[Tensor, ...]:
    """The results; one of no size stands for one that is not wanted."""
    _check_form(named, axis)
    known, graph = from_text(rule), graph_of_tensors(index, num_nodes)
    arrays = {name: None if x is None else viewed(x, name) for name, x in named.items()}
    options = {} if wanted is None else {"wrt": list(compress(range(len(wanted)), wanted))}
    with bounded(torch.get_num_threads()):
        results = function(known, graph, **arrays, axis=axis, **options)
    like = next(x for x in named.values() if x is not None)
    made = (results,) if wanted is None else results
    return tuple(like.new_empty(0) if result is None else given_back(result).contiguous() for result in made)


def _check_form(named: Mapping[str, Tensor | None], axis: int) -> None:
    """Refuses arguments that have not the form of an operator's. Lengths are left to what comes after."""
    given = {name: x for name, x in named.items() if x is not None}
    like = given["x"]
    for name, x in given.items():
        if x.dtype != like.dtype or x.device != like.device:
            raise ValueError(
                f"operators take tensors of one dtype on one device, but x is {like.dtype} on {like.device}, and "
                f"{name} {x.dtype} on {x.device}: sparseacc.torch.message_passing converts them"
            )
    if like.dtype not in COMPUTED:
        raise TypeError(f"operators do not take {like.dtype}: sparseacc.torch.message_passing converts it")
    if axis not in (-2, -1):
        raise ValueError(f"axis must be -2 or -1 in operators, but is {axis}")


def messages(x: Tensor, y: Tensor, weights: Tensor | None, *rest: Any) -> Tensor:
    """The gradient of F for dout."""
    *index, num_nodes, rule, axis = rest
    return _run(message_passing, {"x": x, "y": y, "weights": weights}, index, num_nodes, rule, axis)[0]


def messages_vjp(dout: Tensor, x: Tensor, y: Tensor, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    """The gradients of F for x, y and weights."""
    *index, num_nodes, rule, axis, wanted = rest
    named = {"dout": dout, "x": x, "y": y, "weights": weights}
    return _run(message_passing_vjp, named, index, num_nodes, rule, axis, wanted)


def messages_vjp_vjp(
    zx: Tensor | None,
    zy: Tensor | None,
    zw: Tensor | None,
    dout: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, ...]:
    """The gradients of F(dout, zx, y, w) + F(dout, x, zy, w) + F(dout, x, y, zw) for dout, x, y and weights."""
    *index, num_nodes, rule, axis, wanted = rest
    named = {"zx": zx, "zy": zy, "zw": zw, "dout": dout, "x": x, "y": y, "weights": weights}
    return _run(message_passing_vjp_vjp, named, index, num_nodes, rule, axis, wanted)


# Fake kernels. Lengths may be unknown numbers there: what torch._check_value cannot decide is checked when the graph
# runs.


def fake_messages(x: Tensor, y: Tensor, weights: Tensor | None, *rest: Any) -> Tensor:
    """What shape the result has."""
    *_, num_nodes, rule, axis = rest
    _check_form({"x": x, "y": y, "weights": weights}, axis)
    known = from_text(rule)
    lengths = ("x", x, known.shape[0]), ("y", y, known.shape[1]), ("weights", weights, known.num_paths)
    for name, operand, needed in lengths:
        if operand is not None:
            _check_length(name, operand, axis, needed)
    shape = [num_nodes, x.shape[-3 - axis], x.shape[-3 - axis]]
    shape[axis] = known.shape[2]
    return x.new_empty(shape)


def _check_length(name: str, x: Tensor, axis: int, needed: int) -> None:
    if x.ndim not in (2, 3) or (name == "x" and x.ndim == 2):
        may = "3 dimensions" if name == "x" else "2 dimensions, or 3 with channels"
        raise ValueError(f"{name} must have {may}, but its shape is {tuple(x.shape)}")
    n = x.shape[axis if x.ndim == 3 else -1]
    torch._check_value(n == needed, lambda: f"{name} has length {n} along the axis, but the rule needs {needed}")


def fake_messages_vjp(*arguments: Any) -> tuple[Tensor, ...]:
    """Gradients have the shapes of x, y and weights."""
    dout, x, y, weights, *_, axis, wanted = arguments
    _check_form({"dout": dout, "x": x, "y": y, "weights": weights}, axis)
    return _gradients((x, y, weights), wanted)


def fake_messages_vjp_vjp(*arguments: Any) -> tuple[Tensor, ...]:
    """Gradients have the shapes of dout, x, y and weights."""
    zx, zy, zw, dout, x, y, weights, *_, axis, wanted = arguments
    _check_form({"zx": zx, "zy": zy, "zw": zw, "dout": dout, "x": x, "y": y, "weights": weights}, axis)
    return _gradients((dout, x, y, weights), wanted)


def _gradients(inputs: Sequence[Tensor | None], wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    like = next(x for x in inputs if x is not None)
    return tuple(
        like.new_empty(x.shape if want and x is not None else (0,)) for x, want in zip(inputs, wanted, strict=True)
    )
