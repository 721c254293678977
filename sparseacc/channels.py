"""Arrays of e3nn's flat layouts as rows and channels, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, overload

import numpy as np

from .calls.arrays import Array, Foreign, Host, as_index, converted
from .checks import check_choice
from .irreps import Irreps, Segment, as_segments, common_channels, rows

_LAYOUTS = ("mul_ir", "ir_mul")


@overload
def to_channels(
    x: Host, irreps: Irreps, *, channels: SupportsIndex | None = ..., layout: Literal["mul_ir", "ir_mul"] = ...
) -> Array: ...
@overload
def to_channels(
    x: Foreign, irreps: Irreps, *, channels: SupportsIndex | None = ..., layout: Literal["mul_ir", "ir_mul"] = ...
) -> Foreign: ...
def to_channels(
    x: Any, irreps: Irreps, *, channels: SupportsIndex | None = None, layout: Literal["mul_ir", "ir_mul"] = "mul_ir"
) -> Any:
    """Features of irreps in a flat layout, as rows and channels.

    Parameters
    ----------
    x : array of any library, shape (..., dim)
        One segment after the other. Lists become NumPy arrays.
    irreps : str or iterable of (mul, ir)
        What x holds: see `tensor_product`.
    channels : int, optional
        How many: a divisor of all multiplicities, by default the greatest. Pass ``rule.channels`` where x goes into a
        rule.
    layout : {"mul_ir", "ir_mul"}
        Of a segment in x. "mul_ir", e3nn's: copy after copy, each with its 2 l + 1 components. "ir_mul",
        cuequivariance's: component after component, each with its copies.

    Returns
    -------
    array, shape (..., rows, channels)
        Of the same library. For "ir_mul", and where both layouts are the same, this is x reshaped: a view, if x is
        contiguous.

    Raises
    ------
    TypeError
        If x is no array, or irreps or channels are of a wrong type.
    ValueError
        If x has another length than irreps, channels does not divide a multiplicity, or the layout or the text of
        irreps is unknown.

    Examples
    --------
    Four scalars and two vectors, of which two channels make two rows and three rows:

    >>> x = np.array([1, 2, 3, 4, 10, 20, 30, 11, 21, 31])
    >>> sparseacc.to_channels(x, "4x0e + 2x1o")
    array([[ 1,  2],
           [ 3,  4],
           [10, 11],
           [20, 21],
           [30, 31]])
    """
    check_choice(layout, "layout", _LAYOUTS)
    segments = as_segments(irreps, "irreps")
    n = common_channels(segments) if channels is None else as_index(channels, "channels")
    _check_channels(n, segments)
    x = _as_array(x)
    dim = _dim(segments)
    if x.ndim < 1 or x.shape[-1] != dim:
        raise ValueError(f"x must be (..., {dim}), the dimension of irreps, but its shape is {tuple(x.shape)}")
    batch = x.shape[:-1]
    if layout == "ir_mul" or _layouts_agree(segments):
        return x.reshape(*batch, sum(rows(segment, n) for segment in segments), n)
    parts, begin = [], 0
    for segment in segments:
        mul, d = segment.mul, segment.dim
        part = x[..., begin : begin + mul * d].reshape(*batch, mul, d)
        parts.append(part.swapaxes(-1, -2).reshape(*batch, rows(segment, n), n))
        begin += mul * d
    return _joined(parts, -2)


@overload
def from_channels(
    x: Host, irreps: Irreps, *, channels: SupportsIndex | None = ..., layout: Literal["mul_ir", "ir_mul"] = ...
) -> Array: ...
@overload
def from_channels(
    x: Foreign, irreps: Irreps, *, channels: SupportsIndex | None = ..., layout: Literal["mul_ir", "ir_mul"] = ...
) -> Foreign: ...
def from_channels(
    x: Any, irreps: Irreps, *, channels: SupportsIndex | None = None, layout: Literal["mul_ir", "ir_mul"] = "mul_ir"
) -> Any:
    """Rows and channels as features of irreps in a flat layout: what `to_channels` does, undone.

    Parameters
    ----------
    x : array of any library, shape (..., rows, channels)
        Such as the result of a rule.
    irreps : str or iterable of (mul, ir)
        What x holds, such as ``rule.irreps_out``.
    channels : int, optional
        How many x must have.
    layout : {"mul_ir", "ir_mul"}
        Of the result, as in `to_channels`.

    Returns
    -------
    array, shape (..., dim)
        Of the same library; a view where `to_channels` gives one.

    Raises
    ------
    TypeError, ValueError
        As `to_channels` does; ValueError if x has other numbers of rows or channels.

    Examples
    --------
    >>> x = np.arange(10.0)
    >>> rows = sparseacc.to_channels(x, "4x0e + 2x1o")
    >>> np.array_equal(sparseacc.from_channels(rows, "4x0e + 2x1o"), x)
    True
    """
    check_choice(layout, "layout", _LAYOUTS)
    segments = as_segments(irreps, "irreps")
    x = _as_array(x)
    if x.ndim < 2:
        raise ValueError(f"x must be (..., rows, channels), but its shape is {tuple(x.shape)}")
    n = int(x.shape[-1])
    if channels is not None and as_index(channels, "channels") != n:
        raise ValueError(f"x must have {channels} channels, but its shape is {tuple(x.shape)}")
    if 0 < n == _dim(segments) and any(segment.mul % n for segment in segments):
        raise ValueError(f"x must be (..., rows, channels), but its shape is {tuple(x.shape)}: is it flat already?")
    _check_channels(n, segments)
    number = sum(rows(segment, n) for segment in segments)
    if x.shape[-2] != number:
        raise ValueError(
            f"x must have {number} rows, those of irreps at {n} channels, but its shape is {tuple(x.shape)}"
        )
    batch = x.shape[:-2]
    if layout == "ir_mul" or _layouts_agree(segments):
        return x.reshape(*batch, number * n)
    parts, begin = [], 0
    for segment in segments:
        mul, d = segment.mul, segment.dim
        part = x[..., begin : begin + rows(segment, n), :].reshape(*batch, d, mul)
        parts.append(part.swapaxes(-1, -2).reshape(*batch, mul * d))
        begin += rows(segment, n)
    return _joined(parts, -1)


def _dim(segments: Sequence[Segment]) -> int:
    """The length of flat features."""
    return sum(segment.mul * segment.dim for segment in segments)


def _as_array(x: Any) -> Any:
    return x if hasattr(x, "swapaxes") else converted(x, "x")


def _check_channels(channels: int, segments: Sequence[Segment]) -> None:
    for segment in segments:
        if channels < 1 or segment.mul % channels:
            raise ValueError(f"channels is {channels}, but must divide the multiplicity {segment.mul} of {segment}")


def _layouts_agree(segments: Sequence[Segment]) -> bool:
    """Whether the copies and the components of each segment come in one order: there is one copy, or one component."""
    return all(min(segment.mul, segment.dim) <= 1 for segment in segments)


def _joined(parts: list[Any], axis: int) -> Any:
    """The parts one after the other, by their own library."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(parts[0], torch.Tensor):
        return torch.concat(parts, axis)
    if hasattr(parts[0], "__array_namespace__"):
        return parts[0].__array_namespace__().concat(parts, axis=axis)
    return np.concatenate(parts, axis=axis)  # NumPy's before 2.0, and what follows its protocol
