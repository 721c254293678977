"""The functions of the original package, sparse_accumulation, under their names and with their arguments."""

from __future__ import annotations

import re
from typing import Any

import torch

from ..accumulation import cached_rule
from ..angular import clebsch_gordan
from ..calls.arrays import as_index
from ..calls.plans import Cache
from ..cpu._kernel import ffi
from ..terms import as_text
from . import direct
from .calling import call
from .operators import product as product_op
from .products import aligned, made_before, product
from .tensors import check_storage

Tensor = torch.Tensor
buffer, cast = ffi.buffer, ffi.cast


def accumulate(
    X1: Tensor, X2: Tensor, idx_output: Tensor, output_size: int, idx_1: Tensor, idx_2: Tensor, multipliers: Tensor
) -> Tensor:
    """Sparse accumulation along the last axis, from bare index tensors.

    ``output[..., idx_output[k]] += multipliers[k] * X1[..., idx_1[k]] * X2[..., idx_2[k]]`` for all k, in any order.
    As `product`, but for the rule, which is looked up by the contents of its tensors in every call.

    Parameters
    ----------
    X1, X2 : torch.Tensor
        As in `product`.
    idx_output, idx_1, idx_2 : torch.Tensor of integers, shape (nnz,)
        Indices into the output, X1 and X2.
    output_size : int
        The length of the output's active axis.
    multipliers : torch.Tensor, shape (nnz,)
        Real. Gradients with respect to them are not computed: `sparseacc.Rule.coefficient_vjp` does that.

    Returns
    -------
    torch.Tensor
        The broadcast batch with `output_size` at the active axis.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `product` and `sparseacc.Rule` do; ValueError if multipliers requires gradients.

    Examples
    --------
    >>> import torch
    >>> from sparseacc.torch import accumulate
    >>> index = torch.tensor([0, 1])
    >>> X = torch.tensor([[1.0, 2.0]])
    >>> accumulate(X, X, torch.tensor([0, 0]), 1, index, index, torch.tensor([1.0, 1.0]))
    tensor([[5.]])
    """
    return _accumulate(X1, X2, idx_output, output_size, idx_1, idx_2, multipliers, -1)


def accumulate_active_dim_middle(
    X1: Tensor, X2: Tensor, idx_output: Tensor, output_size: int, idx_1: Tensor, idx_2: Tensor, multipliers: Tensor
) -> Tensor:
    """`accumulate` along axis 1, the middle one of three.

    Examples
    --------
    >>> import torch
    >>> from sparseacc.torch import accumulate_active_dim_middle, get_cg_transformation_rule
    >>> m1, m2, mu, C = get_cg_transformation_rule(1, 1, 2)
    >>> accumulate_active_dim_middle(torch.ones(4, 3, 16), torch.ones(4, 3, 16), mu, 5, m1, m2, C).shape
    torch.Size([4, 5, 16])
    """
    return _accumulate(X1, X2, idx_output, output_size, idx_1, idx_2, multipliers, 1)


def accumulate_active_dim_first(
    X1: Tensor, X2: Tensor, idx_output: Tensor, output_size: int, idx_1: Tensor, idx_2: Tensor, multipliers: Tensor
) -> Tensor:
    """`accumulate` along axis 0.

    Examples
    --------
    >>> import torch
    >>> from sparseacc.torch import accumulate_active_dim_first, get_cg_transformation_rule
    >>> m1, m2, mu, C = get_cg_transformation_rule(1, 1, 2)
    >>> accumulate_active_dim_first(torch.ones(3, 4, 16), torch.ones(3, 4, 16), mu, 5, m1, m2, C).shape
    torch.Size([5, 4, 16])
    """
    return _accumulate(X1, X2, idx_output, output_size, idx_1, idx_2, multipliers, 0)


def _accumulate(
    X1: Tensor, X2: Tensor, mu: Tensor, output_size: int, m1: Tensor, m2: Tensor, C: Tensor, axis: int
) -> Tensor:
    columns = m1, m2, mu, C
    known = where = None
    if not torch.compiler.is_compiling() and type(output_size) is int:
        where = _where(X1, X2, axis, output_size, columns)
        text = None if where is None else _known_text(where, columns)
        known = None if text is None else made_before(text, output_size, X1, X2, axis)
    if known is not None:
        return known
    (x1, x2), axis = aligned((X1, X2), axis, names=("X1", "X2"))
    named = {"idx_1": m1, "idx_2": m2, "idx_output": mu, "multipliers": C}
    for name, tensor in named.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
        if tensor.ndim != 1:
            raise ValueError(f"{name} must be 1-D, one entry for each term, but its shape is {tuple(tensor.shape)}")
    if C.is_complex():
        raise TypeError(f"multipliers must hold real numbers, but its dtype is {C.dtype}")
    if C.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "multipliers requires gradients, which are not computed: pass multipliers.detach(), "
            "or compute them with sparseacc.Rule.coefficient_vjp"
        )
    result: Tensor
    if torch.compiler.is_compiling() or any(type(t) not in _PLAIN for t in columns):
        terms = _packed(m1, m2, mu, C)  # their numbers are not known yet
        result = call(product_op, x1, x2, "", terms, axis, output_size)
        return result
    for name, tensor in named.items():
        check_storage(tensor, name)
    size = as_index(output_size, "output_size")
    arrays = [*(t.detach().cpu().numpy() for t in (m1, m2, mu)), C.detach().cpu().double().numpy()]
    try:
        text = as_text(cached_rule((x1.shape[axis], x2.shape[axis], size), *arrays))
        _remember(where, text, columns)
        result = call(product_op, x1, x2, text, None, axis, size)
    except (TypeError, ValueError) as error:
        raise type(error)(_NAMES.sub(lambda name: _RENAMED[name[0]], str(error))) from None
    return result


_RENAMED = {
    "m1": "idx_1",
    "m2": "idx_2",
    "mu": "idx_output",
    "C": "multipliers",
    "shape: n_out": "output_size",
    "shape[0]": "the length of X1",
    "shape[1]": "the length of X2",
    "shape[2]": "output_size",
}
"""What errors of a `Rule` call the arguments, and what they are called here."""
_NAMES = re.compile(r"\b(?:m1|m2|mu|C|shape: n_out)\b|shape\[[012]\]")

_texts: Cache[tuple[str, list[bytes]]] = Cache("terms of torch", 256, 2**24, lambda kept: sum(map(len, kept[1])))
"""Of rules, by where their terms are, and with what was there: a call then need not read them as numbers."""


def _where(x1: Any, x2: Any, axis: int, output_size: int, columns: tuple[Any, ...]) -> Any:
    """Where the terms are, and all else that the rule depends on; None if anything is unusual."""
    if not direct.usual((x1, x2, *columns)) or columns[3].requires_grad:
        return None
    found = [x1.shape[axis:][:1], x2.shape[axis:][:1], output_size]  # lengths, or nothing, which is an error later
    for x in columns:
        found += (x.data_ptr(), x.shape, x.dtype)
    return tuple(found)


def _content(x: Tensor, size: int) -> Any:
    """What is there, of any dtype: NumPy has not all of them."""
    return buffer(cast("char *", x.data_ptr()), size)


def _known_text(where: Any, columns: tuple[Tensor, ...]) -> str | None:
    text, contents = _texts.get(where, (None, ()))
    for x, content in zip(columns, contents, strict=False):
        size = len(content)
        if (
            x.untyped_storage().nbytes() < x.storage_offset() * x.itemsize + size
            or not x.is_contiguous()
            or _content(x, size) != content
        ):
            return None
    return text


def _remember(where: Any, text: str, columns: tuple[Tensor, ...]) -> None:
    """Keeps what was read, so that the next call compares it."""
    if where is not None and all(x.is_contiguous() and x.numel() for x in columns):
        _texts.add(where, (text, [bytes(_content(x, x.nbytes)) for x in columns]))


_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def _packed(m1: Tensor, m2: Tensor, mu: Tensor, C: Tensor) -> Tensor:
    for name, index in (("idx_1", m1), ("idx_2", m2), ("idx_output", mu)):
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"{name} must hold integers, but its dtype is {index.dtype}")
    bits = C.detach().to(torch.float64).view(torch.int64)
    return torch.stack([m1.to(torch.int64), m2.to(torch.int64), mu.to(torch.int64), bits])


def get_cg_transformation_rule(
    l1: int, l2: int, l_output: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The Clebsch-Gordan coefficients of real spherical harmonics, as tensors for `accumulate`.

    Parameters
    ----------
    l1, l2, l_output : int
        Degrees, ``|l1 - l2| <= l_output <= l1 + l2``.
    dtype : torch.dtype
        Of the coefficients.
    device : torch.device or str
        Where the tensors are made.

    Returns
    -------
    m1, m2, mu : torch.Tensor of int64, shape (nnz,)
        Indices m + l into X1, X2 and the output, sorted by mu.
    C : torch.Tensor, shape (nnz,)
        Those of `sparseacc.clebsch_gordan`, with librascal's sign.

    Raises
    ------
    TypeError, ValueError
        As `sparseacc.clebsch_gordan` does.

    Examples
    --------
    >>> from sparseacc.torch import get_cg_transformation_rule
    >>> m1, m2, mu, C = get_cg_transformation_rule(1, 1, 0)
    >>> m1, C
    (tensor([0, 1, 2]), tensor([-0.5774, -0.5774, -0.5774]))
    """
    rule = clebsch_gordan(l1, l2, l_output)
    m1, m2, mu = (torch.tensor(column, dtype=torch.int64, device=device) for column in (rule.m1, rule.m2, rule.mu))
    return m1, m2, mu, torch.tensor(rule.C, dtype=dtype, device=device)


class CGCalculatorSingle(torch.nn.Module):
    """The Clebsch-Gordan product of degrees l1 and l2 to l_output, as a module.

    Parameters
    ----------
    l1, l2, l_output : int
        Degrees, ``|l1 - l2| <= l_output <= l1 + l2``.
    dtype : torch.dtype
        Of the buffer `C`. It and the indices `m1`, `m2` and `mu` are in the state_dict, as in the original's. What is
        computed with is the exact rule, whatever the buffers have been converted to.

    Examples
    --------
    >>> import torch
    >>> from sparseacc.torch import CGCalculatorSingle
    >>> calculator = CGCalculatorSingle(1, 2, 3)
    >>> calculator(torch.ones(10, 3), torch.ones(10, 5)).shape
    torch.Size([10, 7])
    """

    def __init__(self, l1: int, l2: int, l_output: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.l1, self.l2, self.l_output = l1, l2, l_output
        self._rule = clebsch_gordan(l1, l2, l_output)
        m1, m2, mu, C = get_cg_transformation_rule(l1, l2, l_output, dtype)
        self.register_buffer("m1", m1)
        self.register_buffer("m2", m2)
        self.register_buffer("mu", mu)
        self.register_buffer("C", C)

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """The product along the last axis: (..., 2 l1 + 1) and (..., 2 l2 + 1) to (..., 2 l_output + 1)."""
        return product(self._rule, X1, X2)
