"""The product as a primitive of JAX, and that with weights as another.

It is linear in each input, and its transpose with respect to one is a product by the rule with its indices exchanged,
of the cotangent and the other inputs, summed where the input was broadcast. A product that may sum is therefore closed
under differentiation: one primitive, whose derivatives of any order and mode JAX makes from these two facts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial, reduce
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..calls.arrays import as_axis, is_foreign
from ..calls.dtypes import STORED
from ..calls.layout import FACTORS, check_length, no_broadcast, without
from ..rule import Rule, paths_exchanged, transposed
from ..terms import distinct_terms
from . import sharding, xla


def product(rule: Rule, x1: Any, x2: Any, weights: Any = None, *, axis: int = -1) -> jax.Array:
    """The product by a rule: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]``, on the CPU.

    With weights it is ``out[..., mu[k]] += C[k] * weights[..., path[k]] * x1[..., m1[k]] * x2[..., m2[k]]``.
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
    weights : array_like, optional
        Of length num_paths along `axis`; the other axes broadcast. None is all ones.
    axis : int
        The active axis of x1, x2, weights and the result.

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
    given = (x1, x2) if weights is None else (x1, x2, weights)
    factors = [as_array(x, name) for x, name in zip(given, FACTORS, strict=False)]
    for x, name, needed in zip(factors, FACTORS, (*rule.shape[:2], rule.num_paths), strict=False):
        check_length(x.shape, axis, name, needed, rule.shape)
    try:
        batch = jnp.broadcast_shapes(*(without(x.shape, axis) for x in factors))
    except ValueError:
        raise no_broadcast([x.shape for x in factors], axis) from None
    like = factors[0]
    if like.dtype.kind in "iu" or any(x.dtype != like.dtype or x.weak_type != like.weak_type for x in factors):
        factors = _promoted(factors)
    ndim = max(x.ndim for x in factors)
    if any(x.ndim != ndim for x in factors):
        factors = [_with_dimensions(x, ndim, axis) for x in factors]
    axis = axis if axis < 0 else axis - ndim
    result: jax.Array = _computed(*factors, rule=rule, axis=axis, batch=batch)
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


def _promoted(factors: list[Any]) -> list[Any]:
    """All in the dtype that their ``*`` has, weak if that is; integers in JAX's default float."""
    kinds, settings = tuple((x.dtype, x.weak_type) for x in factors), cast(Any, jax.config)
    like = _of_product(kinds, (settings.jax_enable_x64, settings.jax_numpy_dtype_promotion))
    dtype = jnp.result_type(float) if like.dtype.kind in "iu" else like.dtype
    if like.weak_type:
        weak_zero = 0j if dtype.kind == "c" else 0.0
        factors = [jnp.where(True, x, weak_zero) for x in factors]
        if all(x.dtype == dtype for x in factors):
            return factors
    return [x.astype(dtype) for x in factors]


@lru_cache
def _of_product(kinds: tuple[tuple[Any, bool], ...], settings: Any) -> Any:
    """What JAX makes of a product of numbers, by its settings."""
    numbers = (jax.ShapeDtypeStruct((), dtype, weak_type=weak) for dtype, weak in kinds)
    return jax.eval_shape(lambda *factors: reduce(jnp.multiply, factors), *numbers)


def _with_dimensions(x: Any, ndim: int, axis: int) -> Any:
    """Dimensions of length 1 go ahead of the batch, and leave the active axis where it counts to."""
    x = jnp.moveaxis(x, axis, -1)
    return jnp.moveaxis(x.reshape((1,) * (ndim - x.ndim) + x.shape), -1, axis)


_product, _weighted = Primitive("sparseacc_product"), Primitive("sparseacc_weighted")


@partial(jax.jit, static_argnames=("rule", "axis", "batch"))
def _computed(*factors: Any, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    # In shard_map, what is the same on all devices is marked as differing: the transpose of that adds up its gradient.
    varying = [jax.typeof(x).manual_axis_type.varying for x in factors]
    every = frozenset().union(*varying)
    return _bind([marked(x, tuple(every - axes)) for x, axes in zip(factors, varying, strict=True)], rule, axis, batch)


def _bind(factors: Sequence[Any], rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    primitive = _product if len(factors) == 2 else _weighted
    return primitive.bind(*factors, rule=rule, axis=axis, batch=batch)


def marked(x: Any, axes: tuple[Any, ...]) -> Any:
    """The same array, marked as differing along some axes of a mesh."""
    return jax.lax.pcast(x, axes, to="varying") if axes else x


def _impl(*factors: Any, **parameters: Any) -> Any:
    with jax.disable_jit(False):  # where jit is disabled, _computed comes here
        return _computed(*factors, **parameters)


def _result(*factors: Any, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    at = len(batch) + 1 + axis
    shape = (*batch[:at], rule.shape[2], *batch[at:])
    axes = sharding.spread(axis, [x.shape for x in factors], [x.sharding.spec for x in factors])
    spec = sharding.placed(axes, shape)
    return factors[0].update(shape=shape, sharding=factors[0].sharding.update(spec=spec))


def _transpose_first(dy: Any, x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    shape = without(x1.aval.shape, axis)
    return _product.bind(dy, x2, rule=transposed(rule, (2, 1, 0)), axis=axis, batch=shape)


def _transpose_second(dy: Any, x1: Any, x2: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    shape = without(x2.aval.shape, axis)
    return _product.bind(x1, dy, rule=transposed(rule, (0, 2, 1)), axis=axis, batch=shape)


ad.defbilinear(_product, _transpose_first, _transpose_second)


def _along(n: int, primitive: Primitive) -> Any:
    """The derivative of a primitive along one input."""

    def jvp(tangent: Any, *factors: Any, **parameters: Any) -> Any:
        return primitive.bind(*factors[:n], tangent, *factors[n + 1 :], **parameters)

    return jvp


def _transpose(dy: Any, *factors: Any, rule: Rule, axis: int, batch: tuple[int, ...]) -> list[Any]:
    n = next(k for k, x in enumerate(factors) if ad.is_undefined_primal(x))
    aval = factors[n].aval
    found: list[Any] = [None] * len(factors)
    if type(dy) is ad.Zero:
        found[n] = ad.Zero(aval.to_ct_aval())
    else:
        exchanged = paths_exchanged(rule) if n == 2 else transposed(rule, ((2, 1, 0), (0, 2, 1))[n])
        found[n] = _bind((*factors[:n], dy, *factors[n + 1 :]), exchanged, axis, without(aval.shape, axis))
    return found


ad.defjvp(_weighted, *(_along(n, _weighted) for n in range(3)))
ad.primitive_transposes[_weighted] = _transpose


def _batched(arrays: Any, dims: Any, *, rule: Rule, axis: int, batch: tuple[int, ...]) -> tuple[Any, int]:
    size = next(x.shape[d] for x, d in zip(arrays, dims, strict=True) if d is not None)
    factors = [x[None] if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(arrays, dims, strict=True)]
    return _bind(factors, rule, axis, (size, *batch)), 0


def _lowered(ctx: Any, *factors: Any, rule: Rule, axis: int, batch: tuple[int, ...]) -> Any:
    distinct_terms(rule, ctx.avals_in[0].dtype.name, len(factors) == 3)  # which refuses coefficients
    context = ctx.module_context.axis_context
    devices, mesh = (getattr(context, name, None) for name in ("device_assignment", "abstract_mesh"))
    if devices and len(devices) > 1 and mesh is not None and not mesh.empty:
        return _lowered_in_parts(ctx, factors, rule, axis)
    shapes = [aval.shape for aval in (*ctx.avals_in, *ctx.avals_out)]
    if all(isinstance(n, int) for shape in shapes for n in shape):  # what is symbolic is known when it is called
        xla.prepare(rule, axis, ctx.avals_in[0].dtype, shapes)
    return jax.ffi.ffi_lowering(xla.TARGET)(ctx, *factors, rule=xla.attribute(rule, axis))


def _lowered_in_parts(ctx: Any, factors: Sequence[Any], rule: Rule, axis: int) -> Any:
    """Of each device, which has some of the rows, the lowering comes back to `_lowered`."""

    def product(factors: Sequence[Any], shape: tuple[int, ...]) -> Any:
        return _bind(factors, rule, axis, without(shape, axis))

    function = sharding.partitioned(product, axis, ctx.avals_out[0].shape)
    return mlir.lower_fun(function, multiple_results=False)(ctx, *factors)


for _primitive in (_product, _weighted):
    _primitive.def_impl(_impl)
    _primitive.def_abstract_eval(_result)
    batching.primitive_batchers[_primitive] = _batched
    mlir.register_lowering(_primitive, _lowered, platform="cpu")
jax.ffi.register_ffi_target(xla.TARGET, jax.ffi.pycapsule(ctypes.c_void_p(xla.address)), platform="cpu")
with suppress(ImportError):  # JAX has no public name for it. Without it, arrays are gathered where they are sharded.
    from jax._src.dispatch import prim_requires_devices_during_lowering

    prim_requires_devices_during_lowering.update((_product, _weighted))
