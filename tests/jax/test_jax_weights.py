"""Weights of paths in JAX: jit, derivatives of any order and mode, vmap."""

import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

from functools import partial  # noqa: E402

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from oracle import Oracle, check  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402
from weighted import RULE  # noqa: E402
from weighted import SHAPES as SOME_SHAPES  # noqa: E402

import sparseacc.jax as bridge  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

SHAPES = [*SOME_SHAPES, ((0, 3), (3,), (2,))]


def product(x1, x2, w):
    return bridge.product(RULE, x1, x2, w)


def arrays(rng, shapes, dtype="f8"):
    return [jnp.array(numbers(rng, shape, dtype)) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_product_is_numpys_bitwise_and_its_gradient_within_the_bound(shapes, dtype, rng):
    given = arrays(rng, shapes, dtype)
    y, pull = jax.vjp(product, *given)
    host = [np.asarray(x) for x in given]
    assert np.array_equal(np.asarray(y), RULE(*host))
    assert np.array_equal(np.asarray(jax.jit(product)(*given)), RULE(*host))
    dy = jnp.array(numbers(rng, y.shape, dtype))
    for gradient, expected in zip(
        pull(dy), Oracle(RULE, *host[:2], -1, dtype, host[2]).vjp(np.asarray(dy)), strict=True
    ):
        check(np.asarray(gradient), expected)


@pytest.mark.parametrize("shapes", SHAPES[:4], ids=str)
def test_derivatives_of_both_modes_are_those_of_finite_differences(shapes, rng):
    check_grads(product, arrays(rng, shapes), order=3, modes=["fwd", "rev"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [(0, None, None), (None, None, 0), (0, 1, 0)], ids=str)
def test_vmap_equals_a_loop(dims, rng):
    given = [
        jnp.array(rng.normal(size=(6, n) if d is None else (4, 6, n) if d == 0 else (6, 4, n)))
        for n, d in zip((3, 3, 2), dims)
    ]

    def chosen(k):
        return [x if d is None else jnp.take(x, k, axis=d) for x, d in zip(given, dims)]

    assert np.array_equal(jax.vmap(product, dims)(*given), jnp.stack([product(*chosen(k)) for k in range(4)]))
    gradient = jax.grad(lambda *x: (product(*x) ** 2).sum(), (0, 1, 2))
    looped = zip(*(gradient(*chosen(k)) for k in range(4)), strict=True)
    for result, expected in zip(jax.jit(jax.vmap(gradient, dims))(*given), looped, strict=True):
        np.testing.assert_allclose(result, jnp.stack(expected), rtol=1e-12, atol=1e-12)


def test_weights_of_one_edge_or_channel_broadcast(rng):
    x1, x2 = arrays(rng, ((5, 3, 8), (5, 3, 1)))
    for shape in ((5, 2, 8), (5, 2, 1), (2, 8), (2, 1)):
        (w,) = arrays(rng, (shape,))
        weighted = partial(bridge.product, RULE, axis=-2)
        assert np.array_equal(weighted(x1, x2, w), RULE(*map(np.asarray, (x1, x2, w)), axis=-2))
        assert jax.grad(lambda w, f=weighted: f(x1, x2, w).sum())(w).shape == shape


def test_dtypes_promote_with_the_weights(rng):
    x1, x2, w = arrays(rng, SHAPES[0], "f4")
    assert product(x1, x2, w).dtype == np.float32
    assert product(x1, x2, w.astype("f8")).dtype == np.float64
    assert product(x1, x2, [1.0, 2.0]).dtype == np.float64
    assert product(x1.astype("i4"), x2.astype("i4"), w).dtype == np.float32


def test_a_function_exported_for_any_number_of_edges_runs(rng):
    disabled = [jax.export.DisabledSafetyCheck.custom_call("sparseacc_product")]
    (edges,) = jax.export.symbolic_shape("edges")
    shapes = [jax.ShapeDtypeStruct((edges, n), np.float32) for n in (3, 3, 2)]
    exported = jax.export.export(jax.jit(product), disabled_checks=disabled)(*shapes)
    for n in (5, 6):
        given = arrays(rng, ((n, 3), (n, 3), (n, 2)), "f4")
        assert np.array_equal(exported.call(*given), product(*given))


SHARDED = """
import jax, numpy as np, sparseacc, sparseacc.jax
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

one = sparseacc.clebsch_gordan(1, 1, 1)
rule = sparseacc.Rule(one.m1, one.m2, one.mu, one.C, one.shape, path=one.mu % 2)
rng = np.random.default_rng(0)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("i",), axis_types=(kind,))
    for shape, spec in (((8, 2), P("i")), ((1, 2), P()), ((2,), P())):
        x1, x2, w = (rng.normal(size=s).astype("f4") for s in ((8, 3), (8, 3), shape))
        sharded = [jax.device_put(x, NamedSharding(mesh, s)) for x, s in ((x1, P("i")), (x2, P("i")), (w, spec))]
        product = lambda *x: sparseacc.jax.product(rule, *x)
        gradients = jax.grad(lambda *x: (product(*x) ** 2).sum(), (0, 1, 2))
        compiled = jax.jit(lambda *x: [product(*x), *gradients(*x)]).lower(*sharded).compile()
        assert "all-gather" not in compiled.as_text(), shape
        y = rule(x1, x2, w)
        for got, expected in zip(compiled(*sharded), (y, *rule.vjp(2 * y, x1, x2, w)), strict=True):
            assert np.allclose(got, expected, atol=1e-4), shape
"""


def test_sharded_arrays_are_multiplied_where_they_are():
    subprocess.run([sys.executable, "-c", SHARDED], check=True, timeout=300)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones((5, 3)), ValueError, "weights has length 3 along axis -1, but the rule needs 2"),
        (np.ones((4, 2)), ValueError, "x1, x2 and weights do not broadcast"),
        (np.ones(()), ValueError, "weights is one number"),
        (np.ones((5, 2), bool), TypeError, "weights has dtype bool"),
    ],
)
def test_refuses(weights, error, message):
    for function in (product, jax.jit(product)):
        with pytest.raises(error, match=message):
            function(np.ones((5, 3)), np.ones((5, 3)), weights)
