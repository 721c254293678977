"""The JAX bridge under JAX's transformations: derivatives of any order and mode, vmap, jit, shards, export."""

import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from broadcast import BATCHES, RULE  # noqa: E402
from jax_products import arrays, product  # noqa: E402
from oracle import Oracle, check  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


def close(a, b):
    return all(
        np.allclose(x, y, rtol=1e-12, atol=1e-12) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize(("batch1", "batch2"), BATCHES)
def test_derivatives_of_any_order_and_mode(batch1, batch2, dtype, rng):
    from jax.test_util import check_grads

    check_grads(product, arrays(rng, batch1, batch2, dtype), order=3, modes=("fwd", "rev"))


def test_mixtures_of_modes_agree(rng):
    x1, x2 = arrays(rng, (4,), (1,))

    def energy(b):
        return (product(x1, b) ** 3).sum()

    first, second = jax.jacfwd, jax.jacrev
    thirds = [f(g(h(energy)))(x2) for f in (first, second) for g in (first, second) for h in (first, second)]
    assert all(close(third, thirds[0]) for third in thirds)
    assert np.max(abs(thirds[0])) > 0.1


def test_the_linear_transpose_is_the_gradient(rng):
    x1, x2 = arrays(rng)
    dy = jnp.array(rng.normal(size=(4, 5)))
    for i, function in ((0, lambda a: product(a, x2)), (1, lambda b: product(x1, b))):
        (transposed,) = jax.linear_transpose(function, (x1, x2)[i])(dy)
        assert np.array_equal(transposed, jax.vjp(product, x1, x2)[1](dy)[i])


def test_force_matching_agrees_with_finite_differences(rng):
    """Energy of positions and parameters, forces, a loss on forces, its gradient with respect to the parameters."""
    positions, target, weights = (jnp.array(rng.normal(size=shape)) for shape in ((6, 3), (6, 3), (3, 5)))

    def energy(positions, weights):
        return (product(positions, jnp.sin(positions @ weights)) ** 2).sum()

    @jax.jit
    def loss(weights):
        forces = -jax.grad(energy)(positions, weights)
        return ((forces - target) ** 2).mean()

    gradient = jax.grad(loss)(weights)
    for _ in range(5):
        direction, h = rng.normal(size=(3, 5)), 1e-5
        slope = (loss(weights + h * direction) - loss(weights - h * direction)) / (2 * h)
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0), (0, 2)])
def test_vmap_is_a_loop(in_dims, rng):
    x1, x2 = arrays(rng, (3, 4), (3, 1))
    mapped = [x[0] if d is None else jnp.moveaxis(x, 0, d) for x, d in zip((x1, x2), in_dims)]
    pairs = [(x1[0] if in_dims[0] is None else x1[i], x2[0] if in_dims[1] is None else x2[i]) for i in range(3)]
    for function in (product, jax.grad(lambda a, b: (product(a, b) ** 2).sum(), (0, 1))):
        expected = [function(a, b) for a, b in pairs]
        assert close(jax.vmap(function, in_dims)(*mapped), jax.tree.map(lambda *x: jnp.stack(x), *expected))


def test_control_flow_and_rematerialisation(rng):
    x1, x2 = arrays(rng)

    def step(carry, a):
        y = jax.checkpoint(product)(a, carry)
        return carry + y, y.sum()

    def looped(x1, x2):
        for a in x1:
            x2 = x2 + product(a, x2)
        return x2.sum()

    def scanned(x1, x2):
        return jax.lax.scan(step, x2, x1)[0].sum()

    assert close(jax.jit(jax.grad(scanned, (0, 1)))(x1, x2), jax.grad(looped, (0, 1))(x1, x2))


def test_the_shape_is_known_without_computing(monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(sparseacc.cpu, "execute", never)
    large = jax.ShapeDtypeStruct((10**9, 1, 3), jnp.bfloat16), jax.ShapeDtypeStruct((7, 5), jnp.bfloat16)
    shape = jax.eval_shape(product, *large)
    assert (shape.shape, shape.dtype) == ((10**9, 7, 5), jnp.bfloat16)


def test_a_compiled_function_knows_one_rule_from_another(rng):
    x1, x2 = arrays(rng)
    double = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C, RULE.shape)
    compiled = jax.jit(bridge.product, static_argnums=0)
    for rule in (RULE, double, sparseacc.clebsch_gordan(1, 2, 3), RULE):
        check(np.asarray(compiled(rule, x1, x2)), Oracle(rule, np.asarray(x1), np.asarray(x2)).product())


WITHOUT_JIT = """
import jax, jax.numpy as jnp, sparseacc, sparseacc.jax

rule = sparseacc.clebsch_gordan(1, 1, 1)
product = lambda a, b: sparseacc.jax.product(rule, a, b)
square = lambda a, b: (product(a, b) ** 2).sum()
x = jnp.arange(12.0).reshape(4, 3)
y = x[:1] - 1

def everything():
    return [
        product(x, y),
        jax.jit(product)(x, y),
        jax.grad(square, (0, 1))(x, y),
        jax.vmap(product, (0, None))(x, y[0]),
        jax.vmap(jax.grad(square), (0, None))(x, y[0]),
        jax.jvp(product, (x, y), (y, x)[::-1]),
        jax.grad(jax.checkpoint(square))(x, y),
        jax.lax.scan(lambda c, a: (c + product(a, c), c), y[0], x),
    ]

got = everything()
with jax.disable_jit():
    sparseacc.jax.product(rule, x, y)
with jax.disable_jit(False):
    expected = everything()
assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b)), got, expected))
"""


def test_disabled_jit_gives_the_same():
    """By the context, and by the variable."""
    environment = {**os.environ, "JAX_DISABLE_JIT": "1"}
    found = subprocess.run([sys.executable, "-c", WITHOUT_JIT], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr


SHARDED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np, sparseacc, sparseacc.jax
from jax.sharding import NamedSharding, PartitionSpec as P

rule = sparseacc.clebsch_gordan(1, 2, 2)
rng = np.random.default_rng(0)
x1, x2, one = (rng.normal(size=s).astype("f4") for s in ((8, 3), (8, 5), (1, 5)))
product = lambda a, b: sparseacc.jax.product(rule, a, b)
mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))

seen = []
xla = sparseacc.jax.xla
planned = xla.planned
xla.planned = lambda rule, operation, values, *rest: (
    seen.append(values[0].shape[0]), planned(rule, operation, values, *rest))[1]
for b, spec in ((x2, P("i")), (one, P())):
    mapped = jax.jit(jax.shard_map(product, mesh=mesh, in_specs=(P("i"), spec), out_specs=P("i")))
    del seen[:]
    result = mapped(x1, b)
    assert len(result.sharding.device_set) == 4
    assert np.allclose(result, rule(x1, b), atol=1e-6)
    assert set(seen) == {2}, seen  # the first; those after it stay in C
    gradients = jax.grad(lambda a, b: (mapped(a, b) ** 2).sum(), (0, 1))(x1, b)
    expected = rule.vjp(2 * rule(x1, b), x1, b)
    assert all(np.allclose(g, e, atol=1e-5) for g, e in zip(gradients, expected))
"""
GATHERED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np, sparseacc, sparseacc.jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

rule = sparseacc.clebsch_gordan(1, 2, 2)
rng = np.random.default_rng(0)

def check(mesh, axis, shape1, shape2, spec1, spec2):
    x1, x2 = (rng.normal(size=shape).astype("f4") for shape in (shape1, shape2))
    sharded = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in ((x1, spec1), (x2, spec2))]
    product = lambda a, b: sparseacc.jax.product(rule, a, b, axis=axis)
    gradients = jax.grad(lambda a, b: (product(a, b) ** 2).sum(), (0, 1))
    y = rule(x1, x2, axis=axis)
    expected = [y, *rule.vjp(2 * y, x1, x2, axis=axis)]
    compiled = jax.jit(lambda a, b: [product(a, b), *gradients(a, b)]).lower(*sharded).compile()
    assert "all-gather" not in compiled.as_text(), (spec1, spec2)
    got = compiled(*sharded)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(got, expected)), (spec1, spec2)
    like = jax.jit(lambda a, b: a * b)(*(jax.lax.slice_in_dim(x, 0, 1, axis=axis % x.ndim) for x in sharded))
    assert got[0].sharding.is_equivalent_to(like.sharding, y.ndim), (got[0].sharding, like.sharding)

for kind in (AxisType.Auto, AxisType.Explicit):
    line = jax.make_mesh((4,), ("i",), axis_types=(kind,))
    square = jax.make_mesh((2, 2), ("i", "j"), axis_types=(kind, kind))
    with jax.set_mesh(line):
        check(line, -1, (8, 3), (8, 5), P("i"), P("i"))
        check(line, -1, (8, 3), (1, 5), P("i"), P())
        check(line, -1, (8, 3), (5,), P("i"), P())
        check(line, 0, (3, 8), (5, 8), P(None, "i"), P(None, "i"))
        check(line, -2, (2, 3, 8), (1, 5, 1), P(None, None, "i"), P())
    with jax.set_mesh(square):
        check(square, -1, (4, 6, 3), (4, 6, 5), P("i", "j"), P("i", "j"))
        check(square, -1, (4, 1, 3), (6, 5), P("i"), P("j"))
        check(square, -1, (8, 3), (8, 5), P(("i", "j")), P(("i", "j")))
"""


def test_shards_are_computed_where_they_are():
    """In a process of its own, with four devices: each computes two of the eight rows, and gradients of what all
    have in common are added up."""
    found = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_sharded_arrays_are_not_gathered():
    """Outside of shard_map as well, gradients included; the result is where that of ``x1 * x2`` would be."""
    found = subprocess.run([sys.executable, "-c", GATHERED], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("shape2", [("n", 5), (1, 5), (5,)], ids=str)
def test_exported_functions_take_any_number_of_rows(shape2, rng):
    """Where the check that the documentation names is disabled; rows are known when the function is called."""
    (n,) = jax.export.symbolic_shape("n")
    shapes = [jax.ShapeDtypeStruct(tuple(n if k == "n" else k for k in shape), "f8") for shape in (("n", 3), shape2)]
    disabled = [jax.export.DisabledSafetyCheck.custom_call("sparseacc_product")]
    for function in (product, jax.grad(lambda a, b: (product(a, b) ** 2).sum(), (0, 1))):
        with pytest.raises(ValueError, match="custom call"):
            jax.export.export(jax.jit(function))(*shapes)
        exported = jax.export.export(jax.jit(function), disabled_checks=disabled)(*shapes)
        for rows in (1, 4, 7):
            x1, x2 = (jnp.array(rng.normal(size=(rows, 3))), jnp.array(rng.normal(size=(rows, 5))))
            x2 = x2 if shape2[0] == "n" else x2[0].reshape(shape2)
            assert jax.tree.all(jax.tree.map(np.array_equal, exported.call(x1, x2), function(x1, x2)))
