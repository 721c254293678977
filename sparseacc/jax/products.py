"""The product as a primitive of JAX.

It is bilinear, and its transpose with respect to either input is a product by the rule with its indices exchanged, of
the cotangent and the other input, summed where the input was broadcast. A product that may sum is therefore closed
under differentiation: one primitive, whose derivatives of any order and mode JAX makes from these two facts.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..calls.arrays import as_axis, is_foreign
from ..calls.dtypes import STORED
from ..calls.layout import check_length, no_broadcast, without
from ..rule import Rule, transposed
from ..terms import distinct_terms
from . import sharding, xla


def product(rule: Rule, x1: Any, x2: Any, axis: int = -1) -> jax.Array:
    """The product by a rule: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]``, on the CPU.

    Works in jit, grad, jvp, vmap, to any order; of sharded arrays each device computes its rows. The rule is a constant
    of the traced function. Complex arrays are not conjugated in gradients, as JAX does it.

    Parameters
    ----------
    rule : sparseacc.Rule
        Of shape ``(n1, n2, n_out)``.
    x1, x2 : array_like
        Of length n1 and n2 along `axis`; the other axes broadcast without a copy. float32, float64, complex64,
        complex128, or float16 and bfloat16 (summed in float32). Dtypes and weak types promote as in ``x1 * x2``,
        integers to JAX's default float.
    axis : int
        The active axis of x1, x2 and the result.

    Returns
    -------
    jax.Array
        The broadcast batch with n_out at `axis`.

    Raises
    ------
    TypeError
        If rule is not one, a dtype is not one of those above, or JAX would shorten the numbers of a NumPy array.
    ValueError
        If a length is not the rule's, or the batches do not broadcast.
    IndexError
        If the axis is out of range.

    Examples
    --------
    >>> import jax
    >>> import sparseacc.jax
    >>> rule = sparseacc.clebsch_gordan(1, 1, 0, convention="e3nn")
    >>> dot = lambda x: 3**0.5 * sparseacc.jax.product(rule, x, x)[0]
    >>> jax.jit(jax.grad(dot))(jax.numpy.array([1.0, 2.0, 2.0])).round(5)
    Array([2., 4., 4.], dtype=float32)
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
    axis = as_axis(axis)
    x1, x2 = as_array(x1, "x1"), as_array(x2, "x2")
    for name, x, needed in (("x1", x1, rule.shape[0]), ("x2", x2, rule.shape[1])):
        check_length(x.shape, axis, name, needed, rule.shape)
    try:
        batch = jnp.broadcast_shapes(*(without(x.shape, axis) for x in (x1, x2)))
    except ValueError:
        raise no_broadcast((x1.shape, x2.shape), axis) from None
    if x1.dtype != x2.dtype or x1.weak_type != x2.weak_type or x1.dtype.kind in "iu":
        x1, x2 = _promoted(x1, x2)
    ndim = max(x1.ndim, x2.ndim)
    if x1.ndim != x2.ndim:
        x1, x2 = (_with_dimensions(x, ndim, axis) for x in (x1, x2))
    axis = axis if axis < 0 else axis - ndim
    result: jax.Array = _computed(x1, x2, rule=rule, axis=axis, batch=batch)
    return result


def as_array(value: Any, name: str) -> Any:
    """An argument as an array of JAX."""
    if value is None:
        raise TypeError(f"{name} is None, but must be an array")
    if not isinstance(value, jax.Array):
        if is_foreign(value):
            raise TypeError(f"{name} is a {type(value).__name__}: convert it with jax.numpy.from_dlpack({name})")
        array = jnp.asarray(value)
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc" and array.dtype != value.dtype:
            raise TypeError(
                f"{name} is {value.dtype}, which JAX turns into {array.dtype}: convert it with {name}.astype(...), "
                "or let JAX keep it: jax.config.update('jax_enable_x64', True)"
            )
        value = array
    if value.dtype.name not in STORED and value.dtype.kind not in "iu":
        raise TypeError(
            f"{name} has dtype {value.dtype}, which cannot be computed with: convert it with {name}.astype(...)"
        )
    return value


def _promoted(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Both in the dtype that their ``*`` has, weak if that is; integers in JAX's default float."""
    kinds, settings = [(x.dtype, x.weak_type) for x in (x1, x2)], cast(Any, jax.config)
    like = _of_product(*kinds, (settings.jax_enable_x64, settings.jax_numpy_dtype_promotion))
    dtype = jnp.result_type(float) if like.dtype.kind in "iu" else like.dtype
    if like.weak_type:
        weak_zero = 0j if dtype.kind == "c" else 0.0
        x1, x2 = (jnp.where(True, x, weak_zero) for x in (x1, x2))
        if x1.dtype == x2.dtype == dtype:
            return x1, x2
    return x1.astype(dtype), x2.astype(dtype)


@lru_cache
def _of_product(kind1: tuple[Any, bool], kind2: tuple[Any, bool], settings: Any) -> Any:
    """What JAX makes of a product of two numbers, by its settings."""
    numbers = (jax.ShapeDtypeStruct((), dtype, weak_type=weak) for dtype, weak in (kind1, kind2))
    return jax.eval_shape(jnp.multiply, *numbers)


def _with_dimensions(x: Any, ndim: int, axis: int) -> Any:
    """Dimensions of length 1 go ahead of the batch, and leave the active axis where it counts to."""
    x = jnp.moveaxis(x, axis, -1)
    return jnp.moveaxis(x.reshape((1,) * (ndim - x.ndim) + x.shape), -1, axis)


_product = Primitive("sparseacc_product")


@partial(jax.jit, static_argnames=("rule", "axis", "batch"))
def _computed(x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    # In shard_map, what is the same on all devices is marked as differing: the transpose of that adds up its gradient.
    axes1, axes2 = (jax.typeof(x).manual_axis_type.varying for x in (x1, x2))
    x1, x2 = (_varying(x, tuple(axes)) for x, axes in ((x1, axes2 - axes1), (x2, axes1 - axes2)))
    return _product.bind(x1, x2, rule=rule, axis=axis, batch=batch)


def _varying(x: Any, axes: tuple[Any, ...]) -> Any:
    return jax.lax.pcast(x, axes, to="varying") if axes else x


def _impl(x1: Any, x2: Any, **parameters: Any) -> Any:
    with jax.disable_jit(False):  # where jit is disabled, _computed comes here
        return _computed(x1, x2, **parameters)


_product.def_impl(_impl)


def _result(x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    at = len(batch) + 1 + axis
    shape = (*batch[:at], rule.shape[2], *batch[at:])
    axes = sharding.spread(axis, (x1.shape, x2.shape), (x1.sharding.spec, x2.sharding.spec))
    spec = sharding.placed(axes, shape)
    return x1.update(shape=shape, sharding=x1.sharding.update(spec=spec))


_product.def_abstract_eval(_result)


def _transpose_first(dy: Any, x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    shape = without(x1.aval.shape, axis)
    return _product.bind(dy, x2, rule=transposed(rule, (2, 1, 0)), axis=axis, batch=shape)


def _transpose_second(dy: Any, x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    shape = without(x2.aval.shape, axis)
    return _product.bind(x1, dy, rule=transposed(rule, (0, 2, 1)), axis=axis, batch=shape)


ad.defbilinear(_product, _transpose_first, _transpose_second)


def _batched(arrays: Any, dims: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> tuple[Any, int]:
    size = next(x.shape[d] for x, d in zip(arrays, dims, strict=True) if d is not None)
    x1, x2 = (x[None] if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(arrays, dims, strict=True))
    return _product.bind(x1, x2, rule=rule, axis=axis, batch=(size, *batch)), 0


batching.primitive_batchers[_product] = _batched


def _lowered(ctx: Any, x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    distinct_terms(rule, ctx.avals_in[0].dtype.name)  # which refuses coefficients
    context = ctx.module_context.axis_context
    devices, mesh = (getattr(context, name, None) for name in ("device_assignment", "abstract_mesh"))
    if devices and len(devices) > 1 and mesh is not None and not mesh.empty:
        return _lowered_in_parts(ctx, x1, x2, rule, axis)
    shapes = [aval.shape for aval in (*ctx.avals_in, *ctx.avals_out)]
    if all(isinstance(n, int) for shape in shapes for n in shape):  # what is symbolic is known when it is called
        xla.prepare(rule, axis, ctx.avals_in[0].dtype, shapes)
    return jax.ffi.ffi_lowering(xla.TARGET)(ctx, x1, x2, rule=xla.attribute(rule, axis))


def _lowered_in_parts(ctx: Any, x1: Any, x2: Any, rule: Rule, axis: int) -> Any:
    """Of each device, which has some of the rows, the lowering comes back to `_lowered`."""

    def product(x1: Any, x2: Any, shape: tuple[int, ...]) -> Any:
        return _product.bind(x1, x2, rule=rule, axis=axis, batch=without(shape, axis))

    function = sharding.partitioned(product, axis, ctx.avals_out[0].shape)
    return mlir.lower_fun(function, multiple_results=False)(ctx, x1, x2)


mlir.register_lowering(_product, _lowered, platform="cpu")
jax.ffi.register_ffi_target(xla.TARGET, jax.ffi.pycapsule(ctypes.c_void_p(xla.address)), platform="cpu")
with suppress(ImportError):  # JAX has no public name for it. Without it, arrays are gathered where they are sharded.
    from jax._src.dispatch import prim_requires_devices_during_lowering

    prim_requires_devices_during_lowering.add(_product)
