"""The product of tensors by a rule: checks and normalises what the operators then take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..calls.arrays import as_axis
from ..calls.layout import FACTORS, check_length, common_batch
from ..rule import Rule
from ..terms import as_text
from . import direct, weighted
from .calling import call, repeated
from .operators import COMPUTED
from .operators import product as product_op
from .tensors import check_devices, check_tensor, common_dtype, text_of


def product(
    rule: Rule, x1: torch.Tensor, x2: torch.Tensor, weights: torch.Tensor | None = None, *, axis: int = -1
) -> torch.Tensor:
    """The product by a rule, with autograd: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]``.

    With weights it is ``out[..., mu[k]] += C[k] * weights[..., path[k]] * x1[..., m1[k]] * x2[..., m2[k]]``.
    Differentiable to any order by reverse mode; for complex tensors with torch's conjugates. Works in torch.compile
    without graph breaks, in torch.export, torch.func.grad and torch.vmap. The rule is a constant of the graph.

    Parameters
    ----------
    rule : sparseacc.Rule
        Of shape ``(n1, n2, n_out)``.
    x1, x2 : torch.Tensor
        Of length n1 and n2 along `axis`; the other axes broadcast without a copy. float32, float64, complex64,
        complex128, or float16 and bfloat16 (summed in float32). Different dtypes promote as torch promotes them,
        in and outside of autocast; two integer tensors to float64. Any strides. On one device.
    weights : torch.Tensor, optional
        Of length num_paths along `axis`; the other axes broadcast. None is all ones.
    axis : int
        The active axis of x1, x2, weights and the result.

    Returns
    -------
    torch.Tensor
        The broadcast batch with n_out at `axis`.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor or rule, the axis no integer, or a dtype is not one of those above.
    ValueError
        If a length is not the rule's, the batches do not broadcast, or there are two devices.
    IndexError
        If the axis is out of range.

    Examples
    --------
    >>> import torch
    >>> import sparseacc.torch
    >>> rule = sparseacc.clebsch_gordan(1, 1, 0, convention="e3nn")
    >>> x = torch.tensor([[1.0, 2.0, 2.0]], requires_grad=True)
    >>> dot = sparseacc.torch.product(rule, x, x) * 3**0.5
    >>> dot.backward()
    >>> bool(torch.allclose(x.grad, 2 * x))
    True
    """
    if weights is None and type(rule) is Rule and not torch.compiler.is_compiling() and direct.usual((x1, x2)):
        known = made_before(as_text(rule), rule.shape[2], x1, x2, axis)
        if known is not None:
            return known
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
    given, axis = aligned([x1, x2] if weights is None else [x1, x2, weights], axis, rule)
    if weights is not None:
        return weighted.product(given, text_of(rule), axis, rule.shape[2])
    result: Tensor = call(product_op, *given, text_of(rule), None, axis, rule.shape[2])
    return result


def made_before(text: str, n_out: int, x1: torch.Tensor, x2: torch.Tensor, axis: Any) -> torch.Tensor | None:
    """The result of a call of usual tensors that has been made before, which need not be checked again; else None."""
    if type(axis) is not int:
        return None
    axis = axis - x1.ndim if 0 <= axis < x1.ndim else axis
    key = direct.key(product_op, (x1, x2), text, axis, n_out)
    return repeated(key, product_op, (x1, x2), text, axis, n_out)  # type: ignore[no-any-return]


def aligned(
    tensors: Sequence[torch.Tensor], axis: int, rule: Rule | None = None, names: Sequence[str] = FACTORS
) -> tuple[list[torch.Tensor], int]:
    """The tensors with one dtype and one number of dimensions, and the axis counted from the end.

    Their lengths are checked against the rule, if there is one, and each other. While a graph is made they may be
    unknown numbers, and it is left to the operator's fake kernel to compare them.
    """
    at = as_axis(axis)
    named = dict(zip(names, tensors, strict=False))
    for name, x in named.items():
        check_tensor(x, name)
        if not -x.ndim <= at < x.ndim:
            raise IndexError(f"{name}: axis {at} is out of bounds for a tensor of {x.ndim} dimensions")
    check_devices(named)
    if not torch.compiler.is_compiling():
        if rule is not None:
            for (name, x), needed in zip(named.items(), (*rule.shape[:2], rule.num_paths), strict=False):
                check_length(x.shape, at, name, needed, rule.shape)
        common_batch([x.shape for x in tensors], at, names)
    if any(x.dtype != tensors[0].dtype or x.dtype not in COMPUTED for x in tensors):
        dtype = common_dtype(named)
        tensors = [x.to(dtype) for x in tensors]
    ndim = max(x.ndim for x in tensors)
    return [_with_dimensions(x, ndim, at) if x.ndim < ndim else x for x in tensors], at if at < 0 else at - ndim


def _with_dimensions(x: torch.Tensor, ndim: int, axis: int) -> torch.Tensor:
    """A view with dimensions of length 1 ahead of the batch, which leave the active axis where it counts to."""
    x = x.movedim(axis, -1)
    return x.reshape((1,) * (ndim - x.ndim) + tuple(x.shape)).movedim(-1, axis)
