"""Message passing in JAX under vmap, export, shards and threads, without jit, and while a process ends."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from edges import CHANNELS, EVERY_COLUMN, RULE, random_graph  # noqa: E402
from jax_messages import close, operands, passed  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("in_dims", [(0, 0, 0), (0, None, 1), (None, 0, None), (2, 1, 0)])
@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
def test_vmap_is_a_loop(columns, in_dims, rng):
    graph, rows = random_graph(rng, 12, columns=columns)
    samples = [operands(rng, rows) for _ in range(3)]
    mapped = [
        samples[0][i] if d is None else jnp.stack([sample[i] for sample in samples], d) for i, d in enumerate(in_dims)
    ]
    each = [[samples[0 if d is None else k][i] for i, d in enumerate(in_dims)] for k in range(3)]
    gradients = jax.grad(lambda *arrays: (passed(graph, *arrays) ** 3).sum(), (0, 1, 2))
    for function in (partial(passed, graph), gradients):
        expected = [function(*arrays) for arrays in each]
        assert close(jax.vmap(function, in_dims)(*mapped), jax.tree.map(lambda *a: jnp.stack(a), *expected))


@pytest.mark.parametrize("out_axes", [0, 1])
def test_vmap_over_padded_graphs(out_axes, rng):
    index = rng.integers(0, 10, (3, 2, 60))
    index[:, 0] %= 9
    x, y, w = operands(rng, (9, 60, 60))

    def function(pair):
        return passed((*pair, 9), x, y, w)

    found = jax.vmap(function, out_axes=out_axes)(index)
    assert close(found, jnp.stack([function(pair) for pair in index], out_axes))


def test_vmap_refuses_what_indices_cannot_count(rng):
    with jax.enable_x64(False):
        large = jax.ShapeDtypeStruct((2**20, 2**12, RULE.shape[0], 1), "f4")
        y = jax.ShapeDtypeStruct((60, RULE.shape[1]), "f4")
        index = jnp.zeros(60, "i4")
        with pytest.raises(ValueError, match="do not fit int32"):
            jax.eval_shape(jax.vmap(lambda x, y: passed((index, index, 9), x, y), (0, None)), large, y)


def test_exported_functions_take_any_number_of_edges(rng):
    n, e = jax.export.symbolic_shape("n, e")
    spec = [(e,), (e,), (n, RULE.shape[0], CHANNELS), (e, RULE.shape[1]), (e, RULE.num_paths, CHANNELS)]
    shapes = [jax.ShapeDtypeStruct(shape, d) for shape, d in zip(spec, ("i4", "i4", "f8", "f8", "f8"), strict=True)]

    def function(senders, receivers, *arrays):
        return passed((senders, receivers, 9), *arrays)

    disabled = [jax.export.DisabledSafetyCheck.custom_call("sparseacc_messages")]
    exported = jax.export.export(jax.jit(function), disabled_checks=disabled)(*shapes)
    for edges in (7, 30):
        index = rng.integers(0, 9, (2, edges)).astype("i4")
        arrays = operands(rng, (9, edges, edges))
        assert np.array_equal(exported.call(*index, *arrays), function(*index, *arrays))


ENDING = """
import jax, jax.numpy as jnp, numpy as np, sparseacc, sparseacc.jax

rule = sparseacc.tensor_product("8x0e + 8x1o", "0e + 1o")
rng = np.random.default_rng(0)
graph = sparseacc.Graph(*rng.integers(0, 500, (2, 20_000)), 500)
x, y = jnp.ones((500, rule.shape[0], 8)), jnp.ones((20_000, rule.shape[1]))
loss = lambda x: jnp.square(sparseacc.jax.message_passing(rule, graph, x, y)).sum()
step = jax.jit(lambda x: x - 1e-9 * jax.grad(loss)(x))
for _ in range(30):
    x = step(x)
"""


def test_a_process_ends_while_messages_are_computed():
    """XLA waits for its threads when the interpreter has ended: they must not wait for the interpreter then."""
    found = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr


def test_disabled_jit_gives_the_same(rng):
    graph, rows = random_graph(rng)
    arrays = operands(rng, rows)
    gradients = jax.grad(lambda *a: (passed(graph, *a) ** 2).sum(), (0, 1, 2))
    expected = passed(graph, *arrays), gradients(*arrays)
    with jax.disable_jit():
        assert close((passed(graph, *arrays), gradients(*arrays)), expected)


def test_many_threads_call_compiled_functions(rng):
    from concurrent.futures import ThreadPoolExecutor

    graph, rows = random_graph(rng, 2000, 50, 50)
    arrays = operands(rng, rows, "f4")
    compiled = jax.jit(jax.value_and_grad(lambda *a: passed(graph, *a).sum()))
    expected = compiled(*arrays)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: compiled(*arrays), range(20)):
            assert jax.tree.all(jax.tree.map(np.array_equal, result, expected))


SHARDED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np, sparseacc, sparseacc.jax
from jax.sharding import AxisType, PartitionSpec as P

rule = sparseacc.tensor_product("2x0e + 2x1o", "0e + 1o")
rng = np.random.default_rng(0)
index = rng.integers(0, 8, (2, 16)).astype("i4")
x, y, w = (rng.normal(size=s).astype("f4") for s in ((8, 4, 2), (16, 4), (16, rule.num_paths, 2)))
graph = sparseacc.Graph(*index, 8)
out = sparseacc.message_passing(rule, graph, x, y, w)
expected = sparseacc.message_passing_vjp(rule, graph, 2 * out, x, y, w)

def part(senders, receivers, *arrays):
    return jax.lax.psum(sparseacc.jax.message_passing(rule, (senders, receivers, 8), *arrays), "i")

mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
spec = dict(mesh=mesh, in_specs=(P("i"), P("i"), P(), P("i"), P("i")), out_specs=P())
mapped = jax.jit(jax.shard_map(part, **spec))
assert np.allclose(mapped(*index, x, y, w), out, atol=1e-5)
gradients = jax.grad(lambda *arrays: (mapped(*index, *arrays) ** 2).sum(), (0, 1, 2))(x, y, w)
assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(gradients, expected))
"""


def test_shards_of_edges_are_summed_where_they_are():
    """In a process of its own, with four devices; the gradient of what all have in common is added up."""
    found = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
