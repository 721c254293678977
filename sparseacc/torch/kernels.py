"""What operators compute, and what shapes their results have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import dispatch
from ..accumulation import cached_rule
from ..algebra import FORWARD, VJP, VJP_VJP, Operation
from ..cpu.execution import planned
from ..cpu.threads import bounded
from ..rule import Rule, rule_of_text
from . import inductor, stable
from .operators import COMPUTED, plain
from .tensors import given_back, taken

Tensor = torch.Tensor


def from_text(text: str) -> Rule:
    """The rule that a text stands for."""
    try:
        return rule_of_text(text)
    except ValueError as error:
        raise ValueError(f"rule must be the text of a sparseacc.Rule, but {text!r:.40} is not: {error}") from error


def check_form(operation: Operation, tensors: Sequence[Tensor | None], axis: int) -> None:
    """Refuses tensors that have not the form of an operator's. Lengths are left to what comes after."""
    named = {name: x for x, (name, _) in zip(tensors, operation.inputs, strict=True) if x is not None}
    of = "x1" if "x1" in named else next(iter(named))
    like = named[of]
    for name, x in named.items():
        if x.dtype != like.dtype or x.device != like.device or x.ndim != like.ndim:
            raise ValueError(
                f"operators take tensors of one dtype, on one device, of one number of dimensions, but {of} is "
                f"{like.dtype} on {like.device} with {like.ndim}, and {name} {x.dtype} on {x.device} with {x.ndim}: "
                "sparseacc.torch.product converts them"
            )
    if like.dtype not in COMPUTED:
        raise TypeError(f"operators do not take {like.dtype}: sparseacc.torch.product converts it")
    if not -like.ndim <= axis < 0:
        raise ValueError(f"axis counts from the end in operators, from {-like.ndim} to -1 here, but is {axis}")


def _check_terms(text: str, terms: Tensor | None) -> None:
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
    check_form(operation, tensors, axis)
    _check_terms(text, terms)
    if terms is None:
        return from_text(text)
    *lengths, n1, n2 = (x.shape[axis] for x in tensors if x is not None)
    m1, m2, mu, bits = terms.cpu().numpy()
    return cached_rule((n1, n2, lengths[-1] if n_out is None else n_out), m1, m2, mu, bits.view(np.float64))


def run(rule: Rule, operation: Operation, tensors: Sequence[Tensor | None], axis: int, wanted: Any) -> list[Tensor]:
    """The outputs; one of no size stands for one that is not wanted."""
    given = taken(operation, tensors)
    with bounded(torch.get_num_threads()):
        results = dispatch.execute(rule, operation, given, axis, tuple(wanted))
    like = next(tensor for tensor in tensors if tensor is not None)
    return [like.new_empty(0) if result is None else given_back(result) for result in results]


def product(x1: Tensor, x2: Tensor, rule: str, terms: Tensor | None, axis: int, n_out: int) -> Tensor:
    """P(x1, x2)."""
    known = _rule(FORWARD, (x1, x2), rule, terms, axis, n_out)
    if n_out != known.shape[2]:
        raise ValueError(f"n_out is {n_out}, but the rule's output has length {known.shape[2]}")
    return run(known, FORWARD, (x1, x2), axis, (True,))[0]


def vjp(
    dy: Tensor, x1: Tensor, x2: Tensor, rule: str, terms: Tensor | None, axis: int, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """G1(dy, x2) and G2(dy, x1)."""
    known = _rule(VJP, (dy, x1, x2), rule, terms, axis)
    return tuple(run(known, VJP, (dy, x1, x2), axis, wanted))


def first(op: Any, operation: Operation) -> Any:
    """What C leaves to Python (stable.py): an operator's first call of a kind, which C may repeat."""

    def first(*arguments: Any) -> Any:
        *tensors, terms, axis, last = arguments
        rule = stable.current_rule()
        results = op(*tensors, rule, terms, axis, last)
        wanted = (True,) if operation is FORWARD else tuple(last)
        if terms is None and all(wanted):
            plan, _ = planned(from_text(rule), operation, taken(operation, tensors), axis, wanted)
            stable.repeat(plan, tensors, rule, axis)
        return results

    return first


def vjp_vjp(
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
    """The gradients of <z1, G1(dy, x2)> + <z2, G2(dy, x1)>."""
    tensors = z1, z2, dy, x1, x2
    known = _rule(VJP_VJP, tensors, rule, terms, axis)
    return tuple(run(known, VJP_VJP, tensors, axis, wanted))


# Fake kernels. Lengths may be unknown numbers there, which are compared by torch._check_value alone: what it cannot
# decide is checked when the graph runs.


def fake_product(x1: Tensor, x2: Tensor, rule: str, terms: Tensor | None, axis: int, n_out: int) -> Tensor:
    """What shape a product has."""
    inductor.prepare(plain)
    check_form(FORWARD, (x1, x2), axis)
    _check_terms(rule, terms)
    if terms is None:
        lengths = from_text(rule).shape
        for name, n, needed in zip(
            ("x1", "x2", "n_out"), (x1.shape[axis], x2.shape[axis], n_out), lengths, strict=True
        ):
            check_length(name, n, needed)
    one1, one2 = list(x1.shape), list(x2.shape)
    one1[axis] = one2[axis] = 1
    shape = list(torch.broadcast_shapes(one1, one2))
    shape[axis] = n_out
    return x1.new_empty(shape)


def check_length(name: str, n: Any, needed: int) -> None:
    """Refuses another length than a rule needs."""
    torch._check_value(n == needed, lambda: f"{name} has length {n} along the active axis, but the rule needs {needed}")


def fake_gradients(operation: Operation) -> Any:
    """Gradients have the shapes of the last inputs."""

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        inductor.prepare(plain)
        *tensors, rule, terms, axis, wanted = arguments
        check_form(operation, tensors, axis)
        _check_terms(rule, terms)
        inputs = tensors[-len(wanted) :]
        return tuple(x.new_empty(x.shape if want else (0,)) for x, want in zip(inputs, wanted, strict=True))

    return fake
