"""Message passing in JAX: values, derivatives of any order and mode, vmap, graphs as trees, and padding."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from edges import Edges, random_graph  # noqa: E402
from jax.extend.core import jaxprs_in_params  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402
from sparseacc import Graph, message_passing, message_passing_vjp  # noqa: E402
from sparseacc.graph import COLUMNS  # noqa: E402
from sparseacc.jax import passes  # noqa: E402

pytestmark = pytest.mark.usefixtures("_x64")

RULE = sparseacc.tensor_product("2x0e + 2x1o", "0e + 1o", "0e + 1o + 1e")
CHANNELS = 2
EVERY_COLUMN = [("senders", "receivers"), ("senders",), ("receivers",), COLUMNS]


def operands(rng, rows, dtype="f8", *, y_has_channels=False, w_has_channels=True, weights=True):
    shapes = [
        (rows[0], RULE.shape[0], CHANNELS),
        (rows[1], RULE.shape[1], *[CHANNELS] * y_has_channels),
        (rows[2], RULE.num_paths, *[CHANNELS] * w_has_channels),
    ]
    return [jnp.array(numbers(rng, shape, dtype)) for shape in shapes[: 2 + weights]]


def passed(graph, *arrays):
    return bridge.message_passing(RULE, graph, *arrays)


def composed(graph, x, y, w=None):
    """The same of JAX's own functions, by the dense tensors of the paths."""
    C = np.zeros((RULE.num_paths, *RULE.shape))
    np.add.at(C, (RULE.path, RULE.m1, RULE.m2, RULE.mu), RULE.C)
    columns = [getattr(graph, name) for name in COLUMNS]
    edges = next(len(column) for column in columns if column is not None)
    senders, receivers, rows_of_y, rows_of_weights = (np.arange(edges) if c is None else c for c in columns)
    y = y if y.ndim == 3 else jnp.repeat(y[:, :, None], CHANNELS, 2)
    w = jnp.ones((w_rows(graph, edges), RULE.num_paths, 1)) if w is None else w
    w = w if w.ndim == 3 and w.shape[2] > 1 else jnp.repeat(w.reshape(len(w), -1, 1), CHANNELS, 2)
    edge = jnp.einsum("pijk,eic,ejc,epc->ekc", C, x[senders], y[rows_of_y], w[rows_of_weights])
    return jnp.zeros((graph.num_nodes, *edge.shape[1:]), edge.dtype).at[receivers].add(edge)


def w_rows(graph, edges):
    return edges if graph.rows_of_weights is None else int(graph.rows_of_weights.max()) + 1


def close(a, b, tolerance=1e-10):
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    largest = [max(1, float(abs(q).max(initial=0))) for _, q in pairs]
    return all(np.allclose(p, q, rtol=tolerance, atol=tolerance * n) for (p, q), n in zip(pairs, largest, strict=True))


# Values and derivatives.


def test_one_number_for_all_channels_may_have_an_axis_for_them(rng):
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows, w_has_channels=False)

    def square(x, y, w):
        return jnp.square(passed(graph, x, y, w)).sum()

    expected = jax.grad(square, (0, 1, 2))(x, y, w)
    found = jax.jit(jax.grad(square, (0, 1, 2)))(x, y[:, :, None], w[:, :, None])
    for one, other, like in zip(found, expected, (x, y[:, :, None], w[:, :, None])):
        assert one.shape == like.shape
        assert np.array_equal(one.squeeze(), other.squeeze())
    last = [a.swapaxes(1, 2) for a in (x, y[:, :, None], w[:, :, None])]
    out = bridge.message_passing(RULE, graph, *last, axis=-1)
    assert np.array_equal(out.swapaxes(1, 2), passed(graph, x, y, w))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
def test_messages_are_within_the_bound(columns, dtype, rng):
    graph, rows = random_graph(rng, columns=columns)
    x, y, w = operands(rng, rows, dtype)
    for function in (passed, jax.jit(passed)):
        out = function(graph, x, y, w)
        Edges(RULE, graph, dtype).check_result(np.asarray(out), *map(np.asarray, (x, y, w)))
    last = bridge.message_passing(RULE, graph, x.swapaxes(1, 2), y, w.swapaxes(1, 2), axis=2)
    assert np.array_equal(last.swapaxes(1, 2), out)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
def test_gradients_are_those_of_the_fused_call(columns, dtype, rng):
    """To the last bit, and not conjugated."""
    graph, rows = random_graph(rng, columns=columns)
    arrays = operands(rng, rows, dtype)
    out, pull = jax.vjp(partial(passed, graph), *arrays)
    dout = jnp.array(numbers(rng, out.shape, dtype))
    expected = message_passing_vjp(RULE, graph, *map(np.asarray, (dout, *arrays)))
    for gradient, value in zip(pull(dout), expected, strict=True):
        assert np.array_equal(gradient, value)


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        *((columns, {}) for columns in EVERY_COLUMN),
        (("senders", "receivers"), {"weights": False}),
        (COLUMNS, {"y_has_channels": True, "w_has_channels": False}),
    ],
    ids=lambda value: str(len(value)),
)
def test_derivatives_to_the_third_are_those_of_the_composition(columns, options, rng):
    graph, rows = random_graph(rng, 12, 4, 3, columns=columns)
    inputs = operands(rng, rows, **options)
    which = tuple(range(len(inputs)))

    def derivatives(function):
        def value(*arrays):
            return (function(graph, *arrays) ** 3).sum()

        def squares(derivative, *arrays):
            return sum((g**2).sum() for g in derivative(*arrays))

        first = jax.grad(value, which)
        second = jax.grad(partial(squares, first), which)
        third = jax.grad(partial(squares, second), which)
        return jax.jit(lambda *arrays: [f(*arrays) for f in (value, first, second, third)])(*inputs)

    assert close(derivatives(passed), derivatives(composed))


@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize("columns", [("senders", "receivers"), COLUMNS], ids=len)
def test_derivatives_of_any_order_and_mode(columns, dtype, rng):
    from jax.test_util import check_grads

    graph, rows = random_graph(rng, 6, 3, 3, columns=columns)
    check_grads(partial(passed, graph), operands(rng, rows, dtype), order=3, modes=("fwd", "rev"))


def test_mixtures_of_modes_agree(rng):
    graph, rows = random_graph(rng, 6, 3, 3)
    x, y, w = operands(rng, rows)

    def energy(y):
        return (passed(graph, x, y, w) ** 3).sum()

    first, second = jax.jacfwd, jax.jacrev
    thirds = [f(g(h(energy)))(y) for f in (first, second) for g in (first, second) for h in (first, second)]
    assert all(close(third, thirds[0]) for third in thirds)
    assert np.max(abs(thirds[0])) > 0.1


@pytest.mark.parametrize("operand", range(3))
def test_the_linear_transpose_is_the_gradient(operand, rng):
    """In each operand, of the messages and of what is linear in it and derived by another one."""
    graph, rows = random_graph(rng)
    arrays = operands(rng, rows)
    other = (operand + 1) % 3
    along = jnp.array(rng.normal(size=arrays[other].shape))

    def function(a, b=arrays[other]):
        return passed(graph, *[{operand: a, other: b}.get(i, c) for i, c in enumerate(arrays)])

    def tangent(a):
        return jax.jvp(partial(function, a), (arrays[other],), (along,))[1]

    def gradient(a):
        return jax.vjp(partial(function, a), arrays[other])[1](dout)[0]

    dout = jnp.array(rng.normal(size=function(arrays[operand]).shape))
    for linear in (function, tangent, gradient):
        out = linear(arrays[operand])
        c = jnp.array(rng.normal(size=out.shape))
        (transposed,) = jax.linear_transpose(linear, arrays[operand])(c)
        assert close((transposed * arrays[operand]).sum(), (c * out).sum())
        assert close(transposed, jax.grad(lambda a, linear=linear, c=c: (linear(a) * c).sum())(arrays[operand]))


def calls(jaxpr):
    """What message passing a function does: what is solved for, of which arguments."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "sparseacc_messages":
            yield equation.params["sums"].wanted, equation.params["sums"].names
        for inner in jaxprs_in_params(equation.params):
            yield from calls(inner)


def test_a_gradient_is_one_pass_and_force_training_three(rng):
    """Energy from messages, forces by the gradient, a loss on forces, its gradient."""
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows)
    gradient = jax.make_jaxpr(jax.grad(lambda *arrays: (passed(graph, *arrays)).sum(), (0, 1, 2)))(x, y, w)
    done = list(calls(gradient.jaxpr))
    assert done[-1] == (("x", "y", "w"), ("out", "x", "y", "w"))
    assert len(done) == 2

    def loss(x, w):
        forces = jax.grad(lambda y: passed(graph, x, y, w).sum())(y)
        return (forces**2).sum()

    expected = jax.grad(lambda x, w: (jax.grad(lambda y: composed(graph, x, y, w).sum())(y) ** 2).sum(), (0, 1))(x, w)
    assert close(jax.jit(jax.grad(loss, (0, 1)))(x, w), expected)


def test_memory_is_that_of_arguments_and_results(rng):
    """As XLA plans it: no intermediate of edges times rows times channels."""
    graph, rows = random_graph(rng, 3000, 20, 20)
    inputs = operands(rng, rows, w_has_channels=False)

    def gradients(*arrays):
        return jax.grad(lambda *a: (passed(graph, *a) ** 2).sum(), (0, 1, 2))(*arrays)

    planned = jax.jit(gradients).lower(*inputs).compile().memory_analysis()
    edge = graph.num_edges * RULE.shape[2] * CHANNELS * 8
    assert planned.temp_size_in_bytes < edge / 4


def flags_at(address):
    """What the system notes of the memory there."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds, *rest = line.split()
        if "-" in bounds:
            begin, end = (int(bound, 16) for bound in bounds.split("-"))
            inside = begin <= address < end
        elif inside and bounds == "VmFlags:":
            return rest
    raise AssertionError(f"nothing is mapped at {address}")


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no huge pages")
def test_large_results_ask_for_huge_pages(rng):
    """A result that fills some is else cleared page by page, which takes longer than to compute it."""
    x1, x2 = (jnp.asarray(rng.normal(size=(2**20, 2, CHANNELS)), jnp.float32) for _ in range(2))
    rule = sparseacc.Rule([0, 1], [1, 0], [0, 1], [1, 1], (2, 2, 2))
    index = jnp.arange(len(x1))
    out = jax.jit(lambda x, y: sparseacc.jax.message_passing(rule, (index, index, len(x)), x, y))(x1, x2)
    product = jax.jit(lambda x, y: sparseacc.jax.product(rule, x, y, axis=-2))(x1, x2)
    for result in (out, product):
        assert "hg" in flags_at(result.unsafe_buffer_pointer() + result.nbytes // 2)


def test_memory_is_not_copied(rng, monkeypatch):
    """The passes read where the arrays lie and write where the results lie."""
    seen = []

    def read(buffer):
        array = original(buffer)
        seen.append(array.ctypes.data)
        return array

    original = passes._array
    monkeypatch.setattr(passes, "_array", read)
    graph, rows = random_graph(rng)
    arrays = operands(rng, rows)
    out = jax.jit(passed)(graph, *arrays).block_until_ready()
    assert {a.unsafe_buffer_pointer() for a in (*arrays, out)} <= set(seen)


def test_dtypes_promote_as_jax_promotes_them(rng):
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows, "f4")
    for others, dtype in (
        ((x, y, w), "f4"),
        ((x, y.astype("f8"), w), "f8"),
        ((x.astype("bfloat16"), y.astype("bfloat16"), w.astype("bfloat16")), jnp.bfloat16),
        ((x, y.astype(int), w), "f4"),
        ((x.astype(int), y.astype(int), w.astype("i4")), "f8"),
    ):
        assert passed(graph, *others).dtype == dtype


# vmap.


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


# Graphs.


def test_a_graph_is_a_tree(rng):
    """An argument, a result, a constant, a carried value; its number of nodes is static."""
    graph, rows = random_graph(rng)
    arrays = operands(rng, rows)
    expected = message_passing(RULE, graph, *map(np.asarray, arrays))
    assert [leaf.dtype for leaf in jax.tree.leaves(graph)] == [np.int32] * 2
    jitted = jax.jit(passed)
    assert np.array_equal(jitted(graph, *arrays), expected)
    assert np.array_equal(jax.jit(partial(passed, graph))(*arrays), expected)
    again = jax.jit(lambda g: g)(graph)
    assert (again.num_nodes, again.num_edges) == (graph.num_nodes, graph.num_edges)
    for other in (again, jax.tree.map(jnp.asarray, graph), Graph(*map(jnp.array, (graph.senders, graph.receivers)), 7)):
        assert np.array_equal(jitted(other, *arrays), expected)
    carried, _ = jax.lax.scan(lambda g, _: (g, None), graph, length=2)
    assert np.array_equal(jitted(carried, *arrays), expected)
    made_inside = jax.jit(lambda s, r, *a: passed(Graph(s, r, 7), *a))(graph.senders, graph.receivers, *arrays)
    assert np.array_equal(made_inside, expected)
    gradient = jax.grad(lambda x, g: passed(g, x, *arrays[1:]).sum())(arrays[0], graph)
    assert gradient.shape == arrays[0].shape
    with pytest.raises(TypeError, match="leaves of a tree of JAX: use"):
        message_passing(RULE, again, *map(np.asarray, arrays))


def test_a_graph_with_all_columns_is_a_tree(rng):
    graph, rows = random_graph(rng, columns=COLUMNS)
    arrays = operands(rng, rows)
    expected = message_passing(RULE, graph, *map(np.asarray, arrays))
    assert np.array_equal(jax.jit(passed)(graph, *arrays), expected)


def test_without_senders_and_receivers_there_is_an_edge_for_each_row(rng):
    x, y, w = operands(rng, (9, 9, 9))
    expected = message_passing(RULE, Graph(None, np.arange(9)), *map(np.asarray, (x, y, w)))
    assert np.array_equal(passed((None, None, 9), x, y, w), expected)


@pytest.mark.parametrize("where", ["end", "between", "all", "sorted"])
@pytest.mark.parametrize("columns", [("senders", "receivers"), ("receivers",), COLUMNS], ids=len)
def test_padding_counts_for_nothing(where, columns, rng):
    """Whatever its senders, rows and numbers are; its gradients are zero."""
    graph, rows = random_graph(rng, columns=columns)
    edges, nodes = graph.num_edges, graph.num_nodes
    real = np.arange(edges)
    if where == "sorted":
        order = np.argsort(graph.receivers, kind="stable")
        graph = Graph(
            None if graph.senders is None else graph.senders[order],
            graph.receivers[order],
            nodes,
            rows_of_y=graph.rows_of_y,
            rows_of_weights=graph.rows_of_weights,
        )
    total = edges + 13
    places = {"end": real, "sorted": real, "between": np.sort(rng.permutation(total)[:edges]), "all": real[:0]}[where]
    if where == "all":
        graph = Graph(
            *(None if getattr(graph, name) is None else [] for name in COLUMNS[:2]),
            nodes,
            **{name: None if getattr(graph, name) is None else [] for name in COLUMNS[2:]},
        )

    def padded(column, value):
        if column is None:
            return None
        index = np.full(total, value)
        index[places] = column
        return jnp.array(index)

    columns = [padded(getattr(graph, n), v) for n, v in zip(COLUMNS, (2**30, nodes, -5, 10**9), strict=True)]
    arrays, wide = operands(rng, [r if r < edges else len(places) for r in rows]), []
    for array, name in zip(arrays, ("senders", "rows_of_y", "rows_of_weights"), strict=True):
        if getattr(graph, name) is None:
            array = jnp.full((total, *array.shape[1:]), jnp.nan).at[places].set(array)
        wide.append(array)
    padded_graph = Graph(columns[0], columns[1], nodes, rows_of_y=columns[2], rows_of_weights=columns[3])
    for given in (padded_graph, pickle.loads(pickle.dumps(padded_graph))):
        out, pull = jax.vjp(partial(passed, given), *wide)
        expected, expected_pull = jax.vjp(partial(passed, graph), *arrays)
        assert np.array_equal(out, expected)
        dout = jnp.array(rng.normal(size=out.shape))
        for gradient, value, name in zip(
            pull(dout), expected_pull(dout), ("senders", "rows_of_y", "rows_of_weights"), strict=True
        ):
            if getattr(graph, name) is None:
                rest = np.delete(np.arange(total), places)
                assert not np.any(gradient[rest])
                gradient = gradient[places]
            assert np.allclose(gradient, value, rtol=1e-13, atol=1e-13)
    assert np.array_equal(jax.jit(passed)(padded_graph, *wide), expected)


def test_no_edges_and_no_samples_are_fine(rng):
    none = jnp.zeros(0, "i4")
    inputs = operands(rng, (9, 0, 0))
    function = partial(passed, (none, none, 5))
    out, pull = jax.vjp(function, *inputs)
    assert out.shape == (5, RULE.shape[2], CHANNELS)
    assert not out.any()
    assert all(g.shape == x.shape and not g.any() for g, x in zip(pull(out), inputs, strict=True))
    for samples in (0, 2):
        several = [jnp.zeros((samples, *x.shape)) for x in inputs]
        assert jax.vmap(function)(*several).shape == (samples, *out.shape)


def test_padding_is_of_jaxs_arrays_alone():
    with pytest.raises(ValueError, match=r"receivers\[1\] is 2, but must be between 0 and 1"):
        Graph([0, 1], [0, 2], 2)
    assert Graph(jnp.array([0, 1]), jnp.array([0, 2]), 2).padded
    with pytest.raises(ValueError, match=r"receivers\[1\] is 3"):
        Graph(jnp.array([0, 1]), jnp.array([0, 3]), 2)


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


# Training.


def test_force_matching_agrees_with_finite_differences(rng):
    """Energy of positions and parameters, forces, a loss on forces, its gradient with respect to the parameters."""
    index = jnp.array([(i, j) for i in range(5) for j in range(5) if i != j]).T
    positions, target = (jnp.array(rng.normal(size=(5, 3))) for _ in range(2))
    x = jnp.array(rng.normal(size=(5, RULE.shape[0], CHANNELS)))
    start = jnp.array(rng.normal(size=(RULE.num_paths * CHANNELS)))

    def energy(positions, parameters):
        vectors = positions[index[1]] - positions[index[0]]
        lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
        y = jnp.concatenate([jnp.ones_like(lengths), vectors / lengths], 1)
        w = jnp.tanh(lengths * parameters).reshape(-1, RULE.num_paths, CHANNELS)
        return (passed((*index, 5), x, y, w) ** 2).sum()

    @jax.jit
    def loss(parameters):
        return ((-jax.grad(energy)(positions, parameters) - target) ** 2).mean()

    gradient = jax.grad(loss)(start)
    for _ in range(3):
        direction, h = rng.normal(size=start.shape), 1e-5
        slope = (loss(start + h * direction) - loss(start - h * direction)) / (2 * h)
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


# Bad input.

GRAPH = Graph([0, 2, 1], [1, 0, 1], 2)
X, Y, W = np.ones((3, RULE.shape[0], 4)), np.ones((3, RULE.shape[1])), np.ones((3, RULE.num_paths, 4))
LONG = np.array([0, 2, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, GRAPH, X, Y, W), TypeError, "rule must be a sparseacc.Rule, not int"),
        ((RULE, 3, X, Y, W), TypeError, r"graph must be a sparseacc.Graph or a tuple \(senders, .* not int"),
        ((RULE, (LONG, LONG), X, Y, W), TypeError, "not a tuple of 2"),
        ((RULE, (LONG, LONG * 1.0, 3), X, Y, W), TypeError, "receivers must hold integers, but its dtype is float64"),
        ((RULE, (LONG[None], LONG, 3), X, Y, W), ValueError, r"senders must be 1-D"),
        ((RULE, (LONG, LONG[:2], 3), X, Y, W), ValueError, "senders 3 and receivers 2"),
        ((RULE, (LONG, LONG, 2.5), X, Y, W), TypeError, "num_nodes must be an integer"),
        ((RULE, GRAPH, X, Y[:2], W), ValueError, "y has 2 rows, but the graph has 3 edges"),
        ((RULE, GRAPH, X[:, 1:], Y, W), ValueError, "x has length 3 along axis -2, but the rule needs 4"),
        ((RULE, GRAPH, X, Y[:, 1:], W), ValueError, "y has length 3 along axis -1, but the rule needs 4"),
        ((RULE, GRAPH, X, Y, W[:, :, :3]), ValueError, "weights has 3 channels and x 4"),
        ((RULE, GRAPH, X[0], Y, W), ValueError, "x must have 3 dimensions"),
        ((RULE, GRAPH, X, Y[0], W), ValueError, "y must have 2 dimensions, or 3 with channels"),
        ((RULE, GRAPH, X, None, W), TypeError, "y is None, but must be an array"),
        ((RULE, GRAPH, X > 0, Y, W), TypeError, "x has dtype bool"),
    ],
)
def test_message_passing_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        bridge.message_passing(*arguments)


def test_an_axis_is_the_last_or_the_one_before():
    with pytest.raises(ValueError, match="axis is 0"):
        bridge.message_passing(RULE, GRAPH, X, Y, W, axis=0)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ((LONG, LONG, 1), r"receivers\[1\] is 2"),
        ((LONG, -LONG, 3), r"receivers\[1\] is -2"),
        ((LONG + 1, LONG, 3), r"senders\[1\] is 3, but x has 3 rows"),
    ],
)
def test_indices_out_of_range_are_jaxs_error(graph, message):
    with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match=f"INTERNAL: sparseacc: ValueError: {message}"):
        bridge.message_passing(RULE, graph, X, Y, W).block_until_ready()


@pytest.mark.parametrize("index", [2**32, -(2**32)])
def test_indices_are_not_shortened(index):
    with jax.enable_x64(False), pytest.raises(TypeError, match=f"senders holds {index}, which JAX would shorten"):
        bridge.message_passing(RULE, (np.array([0, index]), np.array([0, 1]), 2), X.astype("f4"), Y[:2].astype("f4"))


def test_a_coefficient_that_the_computation_cannot_hold_is_refused():
    rule = sparseacc.Rule([0], [0], [0], [1e39], (1, 1, 1))
    with pytest.raises(ValueError, match=r"C\[0\] is 1e\+39, but float32"):
        bridge.message_passing(rule, ([0], [0], 1), np.ones((1, 1, 1), "f4"), np.ones((1, 1), "f4"))
