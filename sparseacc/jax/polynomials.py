"""Polynomials in JAX.

Three functions have each other as derivatives, as in PyTorch's half: the value, its gradients, and theirs along
cotangents. A derivative of the last is made of all three of the polynomial's tangent, a polynomial of x and z.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..calls.edges import component_axis
from ..polynomials import Polynomial, checked_shapes, tangent
from .graphs import as_index
from .passes import TARGET, polynomial_attribute
from .products import as_array

_tangent = lru_cache(2**8)(tangent)


def polynomial(
    polynomial: Polynomial, x: Any, weights: Any, *, axis: int = -2, rows_of_weights: Any = None
) -> jax.Array:
    """The values of a polynomial, on the CPU.

    Works in jit, vmap and grad, to any order by reverse mode: a gradient is one pass, and so is a double backward. The
    polynomial is a constant of the traced function.

    Parameters
    ----------
    polynomial : sparseacc.Polynomial
        Such as `sparseacc.symmetric_contraction` makes it.
    x : array_like, shape (..., n_in, channels)
        float32, float64, or float16 and bfloat16 (computed in float32). Dtypes promote as JAX promotes them, integers
        to its default float.
    weights : array_like, shape (num_paths, channels), (..., num_paths, channels) or (rows, num_paths, channels)
        The same for all of the batch; or for each of it, as JAX broadcasts; or, with `rows_of_weights`, rows of which
        each atom has one. Where the channels share weights, their axis has length 1.
    axis : int
        The axis of the components and of the paths, -2 or -1; in that case the channels are before it, in both arrays.
    rows_of_weights : array_like of int, shape (atoms,), optional
        The row of the weights that each atom has, such as the number of its species; x is of shape
        (atoms, n_in, channels) then.

    Returns
    -------
    jax.Array, shape (..., n_out, channels)

    Raises
    ------
    TypeError
        If polynomial is none, a dtype cannot be computed with, or rows_of_weights are no integers.
    ValueError
        If shapes do not fit the polynomial or each other.
    jax.errors.JaxRuntimeError
        If a row of weights is not there, which is seen when the function runs.

    Examples
    --------
    >>> import jax
    >>> import sparseacc.jax
    >>> squares = sparseacc.symmetric_contraction("8x0e + 8x1o", "8x0e", 2)
    >>> x, weights = jax.numpy.ones((10, 4, 8)), jax.numpy.ones((2, squares.num_paths, 8))
    >>> species = jax.numpy.array([0, 1] * 5)
    >>> energy = lambda x: sparseacc.jax.polynomial(squares, x, weights, rows_of_weights=species).sum()
    >>> jax.jit(jax.grad(energy))(x).shape
    (10, 4, 8)
    """
    if not isinstance(polynomial, Polynomial):
        raise TypeError(f"polynomial must be a sparseacc.Polynomial, not {type(polynomial).__name__}")
    x, weights = as_array(x, "x"), as_array(weights, "weights")
    dtype = jnp.result_type(x, weights)
    dtype = jnp.result_type(float) if dtype.kind in "iu" else dtype
    if dtype.kind == "c":
        raise TypeError(f"polynomials are not computed of complex numbers, but the dtype is {dtype}")
    at = component_axis(axis, x.ndim)
    checked_shapes(polynomial, {"x": x.shape, "weights": weights.shape}, at, rows_of_weights is not None)
    x, weights = (a.astype(dtype) if at == -2 else a.astype(dtype).swapaxes(-1, -2) for a in (x, weights))
    batch, of_weights = x.shape[:-2], weights.shape[:-2]
    if rows_of_weights is None:
        rows = jnp.arange(np.prod(of_weights, dtype=int)).reshape(of_weights)
        rows = jnp.broadcast_to(rows, batch).reshape(-1)
    else:
        rows = as_index(rows_of_weights, "rows_of_weights")
        if rows.shape != batch:
            raise ValueError(f"rows_of_weights has the shape {rows.shape}, but x has {batch[0]} atoms")
    x, weights = (a.reshape(-1, *a.shape[-2:]) for a in (x, weights))
    out: jax.Array = _value(polynomial, x, weights, rows)
    out = out.reshape(*batch, *out.shape[-2:])
    return out if at == -2 else out.swapaxes(-1, -2)


def _called(polynomial: Polynomial, arrays: dict[str, Any], rows: Any, wanted: dict[str, tuple[int, ...]]) -> Any:
    """The results in the shapes that are wanted, by name."""
    dtype = arrays["x"].dtype
    kinds = [jax.ShapeDtypeStruct(shape, dtype) for shape in wanted.values()]
    call = jax.ffi.ffi_call(TARGET, kinds, vmap_method="sequential")
    return call(*arrays.values(), rows, call=polynomial_attribute(polynomial, list(arrays), list(wanted)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _value(polynomial: Polynomial, x: Any, w: Any, rows: Any) -> Any:
    shape = (x.shape[0], polynomial.shape[1], x.shape[2])
    return _called(polynomial, {"x": x, "w": w}, rows, {"out": shape})[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _vjp(polynomial: Polynomial, dy: Any, x: Any, w: Any, rows: Any) -> Any:
    return tuple(_called(polynomial, {"x": x, "w": w, "dout": dy}, rows, {"x": x.shape, "w": w.shape}))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _vjp_vjp(polynomial: Polynomial, zx: Any, zw: Any, dy: Any, x: Any, w: Any, rows: Any) -> Any:
    arrays = {"x": x, "w": w, "dout": dy, "zx": zx, "zw": zw}
    return tuple(_called(polynomial, arrays, rows, {"out": dy.shape, "x": x.shape, "w": w.shape}))


def _as_derivatives(polynomial: Polynomial, arrays: Any, rows: Any) -> Any:
    """The same, of functions whose derivatives are known."""
    zx, zw, dy, x, w = arrays
    both, along = jnp.concatenate((x, zx), axis=1), _tangent(polynomial)
    of_both, dw = _vjp(along, dy, both, w, rows)
    of_x, _ = _vjp(polynomial, dy, x, zw, rows)
    ddy = _value(along, both, w, rows) + _value(polynomial, x, zw, rows)
    return ddy, of_both[:, : x.shape[1]] + of_x, dw


def _forward(function: Any, polynomial: Polynomial, *operands: Any) -> Any:
    return function(polynomial, *operands), operands


def _value_backward(polynomial: Polynomial, operands: Any, dy: Any) -> Any:
    return (*_vjp(polynomial, dy, *operands), None)


def _vjp_backward(polynomial: Polynomial, operands: Any, z: Any) -> Any:
    return (*_vjp_vjp(polynomial, *z, *operands), None)


def _vjp_vjp_backward(polynomial: Polynomial, operands: Any, cotangents: Any) -> Any:
    *arrays, rows = operands

    def derivatives(*arrays: Any) -> Any:
        return _as_derivatives(polynomial, arrays, rows)

    return (*jax.vjp(derivatives, *arrays)[1](cotangents), None)


_value.defvjp(partial(_forward, _value), _value_backward)
_vjp.defvjp(partial(_forward, _vjp), _vjp_backward)
_vjp_vjp.defvjp(partial(_forward, _vjp_vjp), _vjp_vjp_backward)
