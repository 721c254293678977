"""Polynomials of tensors: checks and normalises what the operators then take."""

from __future__ import annotations

import torch
from torch import Tensor

from ..calls.edges import component_axis
from ..monomials import as_text
from ..polynomials import Polynomial
from .calling import call
from .polynomial_operators import value
from .tensors import INTEGERS, check_devices, check_tensor, common_dtype


def polynomial(
    polynomial: Polynomial,
    x: torch.Tensor,
    weights: torch.Tensor,
    *,
    axis: int = -2,
    rows_of_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The values of a polynomial, with autograd.

    Differentiable to any order by reverse mode, the gradient and the double backward each in one pass. Works in
    torch.compile without graph breaks, in torch.func.grad and torch.vmap.

    Parameters
    ----------
    polynomial : sparseacc.Polynomial
        Such as `sparseacc.symmetric_contraction` makes it. A constant of a compiled graph.
    x : torch.Tensor, shape (..., n_in, channels)
        float32, float64, or float16 and bfloat16 (computed in float32). Different dtypes promote as torch promotes
        them, integers alone to float64. Any strides. All tensors are on one device.
    weights : torch.Tensor, shape (num_paths, channels), (..., num_paths, channels) or (rows, num_paths, channels)
        The same for all of the batch; or for each of it, as torch broadcasts; or, with `rows_of_weights`, rows of
        which each atom has one. Where the channels share weights, their axis has length 1.
    axis : int
        The axis of the components and of the paths, -2 or -1; in that case the channels are before it, in both tensors.
    rows_of_weights : torch.Tensor of int, shape (atoms,), optional
        The row of the weights that each atom has, such as the number of its species; x is of shape
        (atoms, n_in, channels) then.

    Returns
    -------
    torch.Tensor, shape (..., n_out, channels)

    Raises
    ------
    TypeError
        If an argument is not a dense tensor or a polynomial, a dtype cannot be computed with, or rows_of_weights are no
        integers.
    ValueError
        If shapes do not fit the polynomial or each other, a row of weights is not there, or there are two devices.

    Examples
    --------
    >>> import torch
    >>> import sparseacc.torch
    >>> squares = sparseacc.symmetric_contraction("8x0e + 8x1o", "8x0e", 2)
    >>> x = torch.ones(10, 4, 8, requires_grad=True)
    >>> weights, species = torch.ones(2, squares.num_paths, 8), torch.tensor([0, 1] * 5)
    >>> out = sparseacc.torch.polynomial(squares, x, weights, rows_of_weights=species)
    >>> torch.autograd.grad(out.sum(), x)[0].shape
    torch.Size([10, 4, 8])
    """
    if not isinstance(polynomial, Polynomial):
        raise TypeError(f"polynomial must be a sparseacc.Polynomial, not {type(polynomial).__name__}")
    named = {"x": x, "weights": weights}
    for name, tensor in named.items():
        check_tensor(tensor, name)
        if tensor.ndim < 2:
            raise ValueError(f"{name} must have at least 2 dimensions, but its shape is {tuple(tensor.shape)}")
    at = component_axis(axis, x.ndim)
    if rows_of_weights is not None:
        check_tensor(rows_of_weights, "rows_of_weights")
        if rows_of_weights.dtype not in INTEGERS:
            raise TypeError(f"rows_of_weights must hold integers, but its dtype is {rows_of_weights.dtype}")
    check_devices(named if rows_of_weights is None else {**named, "rows_of_weights": rows_of_weights})
    dtype = common_dtype(named)
    if dtype.is_complex:
        raise TypeError(f"polynomials are not computed of complex numbers, but the dtype is {dtype}")
    x, weights = (tensor.to(dtype) if at == -2 else tensor.to(dtype).transpose(-1, -2) for tensor in (x, weights))
    if weights.shape[-1] not in (1, x.shape[-1]):
        raise ValueError(
            f"weights has {weights.shape[-1]} channels and x {x.shape[-1]}: weights.shape is {tuple(weights.shape)}"
        )
    batch, of_weights = x.shape[:-2], weights.shape[:-2]
    if rows_of_weights is None:
        rows = torch.arange(of_weights.numel(), device=x.device).reshape(of_weights).expand(batch).reshape(-1)
    else:
        rows = rows_of_weights.to(torch.int64)
        if not x.ndim == weights.ndim == 3 or rows.shape != batch:
            raise ValueError(
                "with rows_of_weights of shape (atoms,), x must be (atoms, n_in, channels) and weights (rows, "
                f"num_paths, channels), but their shapes are {tuple(rows.shape)}, {tuple(x.shape)} and "
                f"{tuple(weights.shape)}"
            )
    x, weights = (tensor.reshape(-1, *tensor.shape[-2:]) for tensor in (x, weights))
    out: Tensor = call(value, x, weights, rows, text_of(polynomial))
    out = out.reshape(*batch, *out.shape[-2:])
    return out if at == -2 else out.transpose(-1, -2)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def text_of(polynomial: Polynomial) -> str:
    """The polynomial as a constant of a graph: torch.compile calls this where it meets one, and does not trace it."""
    return as_text(polynomial)
