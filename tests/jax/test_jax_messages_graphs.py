"""Graphs of message passing in JAX: trees, padding, no edges; and what is refused of them and of arrays."""

import pickle
from functools import partial

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from edges import CHANNELS, GRAPH, RULE, random_graph  # noqa: E402
from jax_messages import operands, passed  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402
from sparseacc import Graph, message_passing  # noqa: E402
from sparseacc.graph import COLUMNS  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


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


# Bad input.

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
