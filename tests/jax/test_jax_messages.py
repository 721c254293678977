"""Message passing in JAX: values, derivatives of any order and mode, dtypes, and memory."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from edges import CHANNELS, EVERY_COLUMN, RULE, Edges, random_graph  # noqa: E402
from jax.extend.core import jaxprs_in_params  # noqa: E402
from jax_messages import close, operands, passed  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402
from sparseacc import message_passing_vjp  # noqa: E402
from sparseacc.graph import COLUMNS  # noqa: E402
from sparseacc.jax import passes  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


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
