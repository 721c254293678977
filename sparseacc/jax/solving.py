"""Message passing as a primitive of JAX.

The sum over edges of the product of dout, x, y and w is linear in each, and its derivatives are that sum, *solved* for
one factor (the derivative by it), with other arrays in the places of factors. `Sums` says which: what the sum is solved
for, several factors in one pass, and whether arrays zx, zy and zw take the place of x, y and w in turn, one in each of
the products that are then added up. One primitive of this kind has all its derivatives and their transposes among sums
of a few of its own: see `_jvp` and `_transpose`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec

from ..rule import Rule
from ..terms import distinct_terms
from . import passes, products

_FACTORS = ("x", "y", "w")
_ORDER = ("zx", "zy", "zw", "out", *_FACTORS)
"""Of arguments, by name: "out" is dout. They are followed by the index arrays."""


class Sums(NamedTuple):
    """What is computed of which arguments.

    Attributes
    ----------
    rule : Rule
    axis : int
        Of the components, -2 or -1.
    num_nodes : int
    wanted : tuple of str
        What the sum is solved for: "out", "x", "y", "w".
    names : tuple of str
        Those of the arguments, in their order.
    columns : tuple of bool
        Which index arrays there are.
    """

    rule: Rule
    axis: int
    num_nodes: int
    wanted: tuple[str, ...]
    names: tuple[str, ...] = ()
    columns: tuple[bool, ...] = ()

    @property
    def along(self) -> tuple[str, ...]:
        """The factors whose places other arrays take in turn."""
        return tuple(name[1] for name in self.names if name[0] == "z")


_messages = Primitive("sparseacc_messages")
_messages.multiple_results = True
_Arrays = Mapping[str, Any]


@partial(jax.jit, static_argnames=("sums",))
def _computed(*arguments: Any, sums: Sums) -> Any:
    # In shard_map, what is the same on all devices is marked as differing: the transpose of that adds up its gradient.
    varying = [set(jax.typeof(x).manual_axis_type.varying) for x in arguments]
    axes = set().union(*varying)
    marked = (products.marked(x, tuple(axes - own)) for x, own in zip(arguments, varying, strict=True))
    return _messages.bind(*marked, sums=sums)


def computed(like: Sums, arrays: _Arrays, columns: Sequence[Any]) -> dict[str, Any]:
    """What is wanted, by name."""
    sums, arguments = _call(like, arrays, columns)
    return dict(zip(sums.wanted, _computed(*arguments, sums=sums), strict=True))


def _call(like: Sums, arrays: _Arrays, columns: Sequence[Any]) -> tuple[Sums, list[Any]]:
    names = tuple(name for name in _ORDER if name in arrays)
    sums = like._replace(names=names, columns=tuple(column is not None for column in columns))
    return sums, [*(arrays[name] for name in names), *(column for column in columns if column is not None)]


def _solved(
    like: Sums, wanted: Iterable[str], factors: _Arrays, columns: Sequence[Any], along: _Arrays | None = None
) -> dict[str, Any]:
    """The sum solved for what is wanted; of what is zero, as no product is left, there is nothing.

    With `along`, the sums over edges with one of its arrays in the place of a factor: these may be empty.
    """
    along = {name: z for name, z in (along or {}).items() if name != "out"} if along is not None else None
    if along is not None:
        wanted = [slot for slot in wanted if set(along) - {slot}]
    wanted = tuple(slot for slot in wanted if slot == "out" or slot in factors)
    if not wanted:
        return {}
    arrays = {**factors, **({f"z{name}": z for name, z in along.items()} if along else {})}
    if wanted == ("out",):
        arrays.pop("out", None)
    sums, arguments = _call(like._replace(wanted=wanted), arrays, columns)
    return dict(zip(wanted, _messages.bind(*arguments, sums=sums), strict=True))


def _named(sums: Sums, arguments: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """The factors, the arrays that take their places, and the index arrays."""
    arrays = dict(zip(sums.names, arguments, strict=False))
    given = iter(arguments[len(sums.names) :])
    columns = [next(given) if there else None for there in sums.columns]
    along = {name: arrays.pop(f"z{name}") for name in sums.along}
    return arrays, along, columns


def _impl(*arguments: Any, sums: Sums) -> Any:
    with jax.disable_jit(False):  # where jit is disabled, _computed comes here
        return _computed(*arguments, sums=sums)


_messages.def_impl(_impl)


def _results(*arguments: Any, sums: Sums) -> list[Any]:
    arrays, _, _ = _named(sums, arguments)
    shape = [sums.num_nodes, *arrays["x"].shape[1:]]
    shape[sums.axis] = sums.rule.shape[2]
    shapes = {"out": tuple(shape), **{name: arrays[name].shape for name in _FACTORS if name in arrays}}
    whole = {name: PartitionSpec(*[None] * len(shape)) for name, shape in shapes.items()}
    x = arrays["x"]
    return [x.update(shape=shapes[name], sharding=x.sharding.update(spec=whole[name])) for name in sums.wanted]


_messages.def_abstract_eval(_results)


def _added(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        total[name] = value if name not in total else total[name] + value


def _jvp(arguments: Sequence[Any], tangents: Sequence[Any], *, sums: Sums) -> tuple[Any, Any]:
    """The sums are linear in the arrays along together, in dout, and in each factor."""
    results = _messages.bind(*arguments, sums=sums)
    factors, along, columns = _named(sums, arguments)
    moved = {name: t for name, t in zip(sums.names, tangents, strict=False) if not isinstance(t, ad.Zero)}
    of_along = {name[1]: t for name, t in moved.items() if name[0] == "z"}
    of_factors = {name: t for name, t in moved.items() if name in _FACTORS}
    total: dict[str, Any] = {}
    if along and of_along:
        _added(total, _solved(sums, sums.wanted, factors, columns, of_along))
    if "out" in moved:
        others = [slot for slot in sums.wanted if slot != "out"]
        there = {**factors, "out": moved["out"]}
        _added(total, _solved(sums, others, there, columns, along or None))
    if of_factors:
        for more in _along(sums, sums.wanted, factors, columns, along, of_factors):
            _added(total, more)
    zeros = [ad.Zero(jax.typeof(result).to_tangent_aval()) for result in results]
    return results, [total.get(name, zero) for name, zero in zip(sums.wanted, zeros, strict=True)]


def _along(
    sums: Sums, wanted: Iterable[str], factors: _Arrays, columns: Sequence[Any], along: _Arrays, others: _Arrays
) -> Iterable[dict[str, Any]]:
    """The sums with arrays of `others` in the places of factors, and in another place one of those along, if any."""
    if not along:
        yield _solved(sums, wanted, factors, columns, others)
    for name, z in along.items():
        rest = {other: array for other, array in others.items() if other != name}
        yield _solved(sums, [slot for slot in wanted if slot != name], {**factors, name: z}, columns, rest)


ad.primitive_jvps[_messages] = _jvp


def _transpose(cotangents: Sequence[Any], *arguments: Any, sums: Sums) -> list[Any]:
    """Of <cotangents, results>, which is symmetric in cotangents and arrays along: solved for what is linear.

    That is the arrays along together, or one factor.
    """
    linear = [name for name, x in zip(sums.names, arguments, strict=False) if ad.is_undefined_primal(x)]
    given = [
        jnp.zeros(x.aval.shape, x.aval.dtype) if ad.is_undefined_primal(x) and name in _FACTORS else x
        for name, x in zip((*sums.names, *[""] * sum(sums.columns)), arguments, strict=True)
    ]
    factors, along, columns = _named(sums, given)
    by = {name: c for name, c in zip(sums.wanted, cotangents, strict=True) if not isinstance(c, ad.Zero)}
    total: dict[str, Any] = {}
    if linear[0][0] == "z":
        wanted = [name[1] for name in linear]
        _added(total, _solved(sums, wanted, factors, columns, by))
        if "out" in by:
            _added(total, _solved(sums, wanted, {**factors, "out": by["out"]}, columns))
        total = {f"z{name}": value for name, value in total.items()}
    else:
        (slot,) = linear
        for more in _along(sums, [slot], factors, columns, along, by):
            _added(total, more)
        if "out" in by and slot != "out":
            _added(total, _solved(sums, [slot], {**factors, "out": by["out"]}, columns, along or None))
    found: list[Any] = []
    for name, x in zip(sums.names, arguments, strict=False):
        zero = ad.Zero(x.aval) if ad.is_undefined_primal(x) else None
        found.append(total.get(name, zero))
    return [*found, *[None] * sum(sums.columns)]


ad.primitive_transposes[_messages] = _transpose


def _batched(arguments: Sequence[Any], dims: Sequence[Any], *, sums: Sums) -> tuple[Any, Any]:
    """Samples go side by side: their graphs are one, of as many rows as they have together."""
    size = next(x.shape[d] for x, d in zip(arguments, dims, strict=True) if d is not None)
    samples = [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(arguments, dims, strict=True)
    ]
    factors, along, columns = _named(sums, samples)
    rows = {name: array.shape[1] for name, array in factors.items()}
    for i, name in enumerate(("x", "receivers", "y", "w")):
        if columns[i] is not None:
            columns[i] = _side_by_side(columns[i], rows.get(name), sums.num_nodes)
    arrays = {**factors, **{f"z{name}": array for name, array in along.items()}}
    flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}
    whole, flat_arguments = _call(sums._replace(num_nodes=size * sums.num_nodes), flat, columns)
    results = _messages.bind(*flat_arguments, sums=whole)
    apart = [
        x.reshape(size, sums.num_nodes if name == "out" else rows[name], *x.shape[1:])
        for name, x in zip(sums.wanted, results, strict=True)
    ]
    return apart, [0] * len(apart)


def _side_by_side(index: Any, rows: int | None, num_nodes: int) -> Any:
    """The indices of each sample beyond those of the samples before; of receivers (rows is None), padding remains."""
    size, step = len(index), num_nodes if rows is None else rows
    if size * step > np.iinfo(index.dtype).max:
        raise ValueError(
            f"vmap makes one graph of {size} with {step} rows each, whose indices do not fit {index.dtype}: use int64 "
            "(jax.config.update('jax_enable_x64', True)), or jax.lax.map"
        )
    moved = index + step * jnp.arange(size, dtype=index.dtype)[:, None]
    if rows is None:
        moved = jnp.where(index == num_nodes, size * num_nodes, moved)
    return moved.reshape(-1)


batching.primitive_batchers[_messages] = _batched


def _lowered(ctx: Any, *arguments: Any, sums: Sums) -> Any:
    distinct_terms(sums.rule, ctx.avals_in[0].dtype.name)  # which refuses coefficients
    return jax.ffi.ffi_lowering(passes.TARGET)(ctx, *arguments, sums=passes.attribute(sums))


mlir.register_lowering(_messages, _lowered, platform="cpu")
