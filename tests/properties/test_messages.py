"""Message passing is the sum over edges of weighted products, and so are its derivatives, however rows are named."""

import itertools

import numpy as np
import pytest
from edges import Edges, operands, random_graph, random_rule
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import at
from strategies import dtypes, numbers

import sparseacc
from sparseacc import Graph, Rule, cpu, message_passing, message_passing_vjp, message_passing_vjp_vjp
from sparseacc.cpu._kernel import lib
from sparseacc.cpu.matrix import matrix

COLUMNS = ("senders", "receivers", "rows_of_y", "rows_of_weights")


@pytest.fixture(params=range(lib.sa_best_instruction_set() + 1), ids=lambda n: f"isa{n}")
def _instruction_set(request):
    before = lib.sa_get_instruction_set()
    lib.sa_set_instruction_set(request.param)
    yield
    lib.sa_set_instruction_set(before)


def check(rule, graph, arrays, rng, dtype):
    x, y, w = arrays
    reference = Edges(rule, graph, dtype)
    out = message_passing(rule, graph, x, y, w)
    reference.check_result(out, x, y, w)
    dout = numbers(rng, out.shape, dtype)
    reference.check_gradients(message_passing_vjp(rule, graph, dout, x, y, w), dout, x, y, w)
    z = {name: numbers(rng, array.shape, dtype) for name, array in zip("xyw", arrays)}
    results = message_passing_vjp_vjp(rule, graph, *z.values(), dout, x, y, w)
    reference.check_second(results, z, dout, x, y, w)


@settings(max_examples=40)
@given(st.integers(0, 2**32), dtypes, st.sampled_from([0, 1, 3, 16, 32, 50, 64, 70]), st.data())
def test_message_passing_and_its_derivatives_are_the_sums_over_edges(seed, dtype, channels, data):
    rng = np.random.default_rng(seed)
    columns = data.draw(st.sets(st.sampled_from(COLUMNS), min_size=1))
    graph, rows = random_graph(rng, data.draw(st.sampled_from([0, 1, 15, 40])), columns=columns)
    rule = random_rule(rng)
    arrays = operands(rng, rule, rows, channels, dtype, data.draw(st.booleans()), data.draw(st.booleans()))
    check(rule, graph, arrays, rng, dtype)


@pytest.mark.usefixtures("_instruction_set")
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("channels", [16, 64, 160, 5])
def test_every_instruction_set_computes_them(dtype, channels):
    rng = np.random.default_rng(channels)
    ragged = sparseacc.tensor_product("3x0e + 2x1o + 1x2e", "0e + 1o", "0e + 1o")  # whose paths have copies
    for y_has_channels in (False, True):
        for rule in (random_rule(rng, 9, 120), ragged):
            graph, rows = random_graph(rng)
            check(rule, graph, operands(rng, rule, rows, channels, dtype, y_has_channels), rng, np.dtype(dtype))


@pytest.mark.parametrize(
    "differs",
    [{}, {"m1": [2, 2, 4, 5, 5]}, {"m2": [1, 3, 0, 1, 3]}, {"mu": [1] * 5}, {"C": [1.5, -0.5, 2, 0.25, 4]}],
    ids=str,
)
def test_paths_that_are_alike_are_told_apart(differs):
    """Copies of a path share what is computed of y: those with the same terms but for a shift of their rows."""
    rng = np.random.default_rng(5)
    path = {"m1": [0, 0, 2, 2, 3], "m2": [1, 3, 0, 1, 2], "mu": [0, 0, 0, 1, 1], "C": [1.5, -0.5, 2, 0.25, 3]}
    other = path | {"m1": [2, 2, 4, 4, 5], "mu": [1, 1, 1, 2, 2]} | differs
    m1, m2, mu, C = (path[name] + other[name] for name in path)
    rule = Rule(m1, m2, mu, C, (7, 5, 4), path=[0] * 5 + [1] * 5, num_paths=2)
    graph, rows = random_graph(rng)
    check(rule, graph, operands(rng, rule, rows, 32, "f8"), rng, np.dtype("f8"))


def test_copies_share_what_is_computed_of_y():
    ragged, even = (sparseacc.tensor_product(irreps, "0e + 1o") for irreps in ("8x0e + 4x1o", "4x0e + 4x1o"))
    of_ragged, of_even = (matrix(rule, np.dtype("f4")).pointer.entries for rule in (ragged, even))
    assert ragged.nnz > even.nnz
    assert of_ragged == of_even


def test_without_weights_they_are_one():
    rng = np.random.default_rng(0)
    graph, rows = random_graph(rng)
    rule = random_rule(rng)
    x, y, _ = operands(rng, rule, rows, 16, "f8")
    ones = np.ones((graph.num_edges, rule.num_paths))
    out = message_passing(rule, graph, x, y)
    assert np.array_equal(out, message_passing(rule, graph, x, y, ones))
    dx, dy, dw = message_passing_vjp(rule, graph, out, x, y)
    expected = message_passing_vjp(rule, graph, out, x, y, ones)
    assert dw is None
    assert np.array_equal(dx, expected[0])
    assert np.array_equal(dy, expected[1])
    ddout, ddx, ddy, ddw = message_passing_vjp_vjp(rule, graph, x, None, None, out, x, y)
    expected = message_passing_vjp_vjp(rule, graph, x, None, None, out, x, y, ones)
    assert ddw is None
    for a, b in zip((ddout, ddx, ddy), expected):
        assert np.array_equal(a, b)


def test_channels_may_come_before_components():
    rng = np.random.default_rng(1)
    graph, rows = random_graph(rng)
    rule = random_rule(rng)
    arrays = operands(rng, rule, rows, 16, "f4", y_has_channels=True)
    swapped = [a.swapaxes(1, 2) for a in arrays]
    copies = [np.ascontiguousarray(a) for a in swapped]
    out = message_passing(rule, graph, *arrays)
    gradients = message_passing_vjp(rule, graph, out, *arrays)
    for others in (swapped, copies):
        other = message_passing(rule, graph, *others, axis=-1)
        assert np.array_equal(other.swapaxes(1, 2), out)
        for a, b in zip(message_passing_vjp(rule, graph, other, *others, axis=2), gradients):
            assert np.array_equal(a.swapaxes(1, 2), b)


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_one_number_for_all_channels_may_have_an_axis_for_them(axis, dtype, rng):
    graph, rows = random_graph(rng, columns=("senders", "receivers", "rows_of_weights"))
    rule, at = random_rule(rng), -3 - axis
    x, y, w = operands(rng, rule, rows, 5, dtype, False, False)
    x = x if axis == -2 else x.swapaxes(1, 2)
    y1, w1 = np.expand_dims(y, at), np.expand_dims(w, at)
    out = message_passing(rule, graph, x, y, w, axis=axis)
    assert np.array_equal(message_passing(rule, graph, x, y1, w1, axis=axis), out)
    found = message_passing_vjp(rule, graph, out, x, y1, w1, axis=axis)
    second = message_passing_vjp_vjp(rule, graph, x, y1, w1, out, x, y1, w1, axis=axis)
    expected = message_passing_vjp(rule, graph, out, x, y, w, axis=axis)
    of_second = message_passing_vjp_vjp(rule, graph, x, y, w, out, x, y, w, axis=axis)
    for results, others, likes in ((found, expected, (x, y1, w1)), (second, of_second, (out, x, y1, w1))):
        for result, other, like in zip(results, others, likes):
            assert result.shape == like.shape
            assert np.array_equal(result.squeeze(), other.squeeze())


def test_calls_of_one_shape_along_different_axes_differ(rng):
    """With as many channels as components: a plan of the one call must not be found by the other."""
    rule, (graph, rows) = Rule(*np.indices((3, 3, 3)).reshape(3, -1), rng.normal(size=27), (3, 3, 3)), random_graph(rng)
    x, y, _ = operands(rng, rule, rows, 3, "f4", y_has_channels=True)
    for axis in (-2, -1, -2, -1):
        arrays = (x, y) if axis == -2 else (x.swapaxes(1, 2), y.swapaxes(1, 2))
        expected = message_passing(rule, Graph(graph.senders, graph.receivers, graph.num_nodes), *arrays)
        out = message_passing(rule, graph, x, y, axis=axis)
        assert np.array_equal(out if axis == -2 else out.swapaxes(1, 2), expected)


@pytest.mark.parametrize("wrt", [w for n in range(4) for w in itertools.combinations(range(3), n)])
@pytest.mark.parametrize("columns", [("senders", "receivers"), ("receivers",), COLUMNS], ids=len)
def test_gradients_come_alone_as_together(wrt, columns):
    rng = np.random.default_rng(2)
    graph, rows = random_graph(rng, columns=columns)
    rule = random_rule(rng)
    arrays = operands(rng, rule, rows, 64, "f4")
    out = message_passing(rule, graph, *arrays)
    together = message_passing_vjp(rule, graph, out, *arrays)
    alone = message_passing_vjp(rule, graph, out, *arrays, wrt=wrt)
    for i in range(3):
        assert (alone[i] is None) == (i not in wrt)
        assert alone[i] is None or np.array_equal(alone[i], together[i])


@pytest.mark.parametrize("present", [p for n in range(4) for p in itertools.combinations("xyw", n)])
def test_a_cotangent_that_is_none_is_zero(present):
    rng = np.random.default_rng(3)
    graph, rows = random_graph(rng)
    rule = random_rule(rng)
    arrays = operands(rng, rule, rows, 32, "f8")
    dout = rng.normal(size=(graph.num_nodes, rule.shape[2], 32))
    z = {name: numbers(rng, a.shape, "f8") for name, a in zip("xyw", arrays) if name in present}
    zeros = [z.get(name, np.zeros_like(a)) for name, a in zip("xyw", arrays)]
    results = message_passing_vjp_vjp(rule, graph, *map(z.get, "xyw"), dout, *arrays)
    for a, b in zip(results, message_passing_vjp_vjp(rule, graph, *zeros, dout, *arrays)):
        assert np.allclose(a, b, rtol=1e-13, atol=1e-13)


def powers_of_two(rng, shape, dtype="f4"):
    return (rng.choice([-1.0, 1.0], shape) * 2.0 ** rng.integers(-2, 3, shape)).astype(dtype)


def test_powers_of_two_are_exact_in_any_order_of_edges():
    rng = np.random.default_rng(4)
    graph, rows = random_graph(rng, 200)
    rule = random_rule(rng)
    rule = Rule(
        rule.m1, rule.m2, rule.mu, powers_of_two(rng, rule.nnz), rule.shape, path=rule.path, num_paths=rule.num_paths
    )
    x, y, w = (powers_of_two(rng, a.shape) for a in operands(rng, rule, rows, 48, "f4"))
    out = message_passing(rule, graph, x, y, w)
    wide = message_passing(rule, graph, *(a.astype("f8") for a in (x, y, w)))
    assert np.array_equal(out, wide)
    order = rng.permutation(200)
    again = Graph(graph.senders[order], graph.receivers[order], graph.num_nodes)
    assert np.array_equal(message_passing(rule, again, x, y[order], w[order]), out)


def test_results_are_the_same_for_any_number_of_threads_and_neighbours():
    rng = np.random.default_rng(5)
    before = sparseacc.get_num_threads()
    graph, rows = random_graph(rng, 4000, 300, 200)
    rule = random_rule(rng, 9, 200)
    arrays = operands(rng, rule, rows, 64, "f4")
    try:
        found = []
        for threads in (1, 2, 3):
            sparseacc.set_num_threads(threads)
            out = message_passing(rule, graph, *arrays)
            z = [a * np.float32(0.5) for a in arrays]
            found.append(
                [
                    out,
                    *message_passing_vjp(rule, graph, out, *arrays),
                    *message_passing_vjp_vjp(rule, graph, *z, out, *arrays),
                ]
            )
    finally:
        sparseacc.set_num_threads(before)
    for results in found[1:]:
        for a, b in zip(results, found[0]):
            assert np.array_equal(a, b)
    some = np.flatnonzero(graph.receivers < 50)
    alone = Graph(graph.senders[some], graph.receivers[some], 50)
    assert np.array_equal(message_passing(rule, alone, arrays[0], *(a[some] for a in arrays[1:])), found[0][0][:50])


@pytest.mark.usefixtures("_instruction_set")
@pytest.mark.parametrize("channels", [5, 64])
@pytest.mark.parametrize("y_has_channels", [False, True])
def test_a_row_is_the_sum_over_its_own_edges_whatever_others_there_are(channels, y_has_channels, rng):
    """Bitwise, where paths add to the same rows, in any order of edges."""
    graph, rows = random_graph(rng, 600, 40, 50)
    rule = random_rule(rng, 9, 200)
    assert rule.num_paths > 1
    x, y, w = operands(rng, rule, rows, channels, "f4", y_has_channels)
    dout = numbers(rng, (graph.num_nodes, rule.shape[2], channels), "f4")
    out = message_passing(rule, graph, x, y, w)
    dx = message_passing_vjp(rule, graph, dout, x, y, w)[0]
    for column in ("senders", "receivers"):
        some = np.flatnonzero(getattr(graph, column) % 3 == 1)
        few = Graph(graph.senders[some], graph.receivers[some], graph.num_nodes)
        if column == "receivers":
            assert np.array_equal(message_passing(rule, few, x, y[some], w[some])[1::3], out[1::3])
        else:
            assert np.array_equal(message_passing_vjp(rule, few, dout, x, y[some], w[some])[0][1::3], dx[1::3])
    graph = Graph(np.zeros_like(graph.senders), graph.receivers, graph.num_nodes)  # and for any number of rows
    dx = [message_passing_vjp(rule, graph, dout, x[:n], y, w)[0] for n in (1, 2)]
    assert np.array_equal(dx[0][0], dx[1][0])


@pytest.mark.usefixtures("_instruction_set")
@pytest.mark.parametrize("channels", [20, 33, 64])
def test_gradients_of_weights_that_go_past_the_caches_are_those_of_few_edges(channels, rng):
    """More than 16 MB, whose rows begin at whole lines or anywhere."""
    edges, rule = 2**24 // (4 * 4 * channels) + 1000, random_rule(rng, 4, 12)
    rule = Rule(rule.m1, rule.m2, rule.mu, rule.C, rule.shape, path=np.arange(rule.nnz) % 4, num_paths=4)
    graph = Graph(rng.integers(0, 50, edges), np.sort(rng.integers(0, 50, edges)), 50)
    x, y = numbers(rng, (50, rule.shape[0], channels), "f4"), numbers(rng, (edges, rule.shape[1]), "f4")
    w, dout = np.broadcast_to(np.float32(2), (edges, 4, channels)), numbers(rng, (50, rule.shape[2], channels), "f4")
    *_, dw = message_passing_vjp(rule, graph, dout, x, y, w, wrt=2)
    assert dw.nbytes > 2**24
    for some in (np.arange(100), np.arange(edges - 100, edges)):
        few = Graph(graph.senders[some], graph.receivers[some], 50)
        *_, of_few = message_passing_vjp(rule, few, dout, x, y[some], w[some], wrt=2)
        assert np.array_equal(dw[some], of_few)


@pytest.mark.usefixtures("_instruction_set")
@pytest.mark.parametrize("edges", [500, 20_000])
def test_gradients_of_weights_are_written_to_memory_that_begins_anywhere(edges, rng):
    """The larger one goes past the caches, where it begins at a line."""
    rule = Rule([0, 1, 1], [0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0], (2, 2, 2), path=[0, 1, 2])
    graph = Graph(rng.integers(0, 50, edges), rng.integers(0, 50, edges), 50)
    arrays = dict(zip("xyw", operands(rng, rule, (50, edges, edges), 96, "f4"), strict=True))
    arrays["dout"] = numbers(rng, (50, 2, 96), "f4")
    *_, expected = message_passing_vjp(rule, graph, arrays["dout"], arrays["x"], arrays["y"], arrays["w"])
    for offset in (0, 1, 8):
        dw = at(np.full((edges, 3, 96), np.nan, "f4"), offset)
        cpu.messages.Edges(rule, graph, arrays, -2).solved(("x", "y", "w"), {"w": dw})
        assert np.array_equal(dw, expected)


@pytest.mark.parametrize("channels", [7, 64])
def test_the_gradient_of_the_weight_of_a_path_without_terms_is_zero(channels, rng):
    """It is not what was in memory."""
    rule = Rule([0, 1], [0, 0], [0, 1], [1.0, 2.0], (2, 1, 2), path=[0, 2], num_paths=4)
    graph, rows = random_graph(rng)
    arrays = dict(zip("xyw", operands(rng, rule, rows, channels, "f4"), strict=True))
    arrays["dout"] = numbers(rng, (graph.num_nodes, 2, channels), "f4")
    along = {f"z{name}": numbers(rng, arrays[name].shape, "f4") for name in "xyw"}
    for operands_of in (arrays, arrays | along, arrays | {"zx": along["zx"]}):
        dw = np.full((rows[2], 4, channels), np.nan, "f4")
        cpu.messages.Edges(rule, graph, operands_of, -2).solved(("x", "y", "w"), {"w": dw})
        assert not dw[:, [1, 3]].any()
        assert dw[:, [0, 2]].all()


@pytest.mark.parametrize("channels", [7, 64])
@pytest.mark.parametrize("y_has_channels", [False, True])
def test_a_derivative_along_one_operand_is_zero_for_that_one(channels, y_has_channels, rng):
    """The result is linear in each: no product of an edge gives anything."""
    rule = sparseacc.tensor_product("1x0e + 1x1o", "0e + 1o")
    graph, rows = random_graph(rng)
    arrays = operands(rng, rule, rows, channels, "f4", y_has_channels)
    dout = np.ones((graph.num_nodes, rule.shape[2], channels), "f4")
    for i, array in enumerate(arrays):
        z = [np.ones_like(array) if k == i else None for k in range(3)]
        gradient = message_passing_vjp_vjp(rule, graph, *z, dout, *arrays, wrt=1 + i)[1 + i]
        assert gradient.shape == array.shape
        assert not gradient.any()


@pytest.mark.usefixtures("_instruction_set")
def test_the_edges_of_a_row_add_up_in_their_order(rng):
    rule, graph = Rule([0], [0], [0], [1.0], (1, 1, 1)), Graph(None, rng.integers(0, 5, 200), 5)
    x = numbers(rng, (200, 1, 16), "f4")
    expected = np.zeros((5, 1, 16), "f4")
    for row, receiver in zip(x, graph.receivers):
        expected[receiver] += row
    assert np.array_equal(message_passing(rule, graph, x, np.ones((200, 1), "f4")), expected)


def test_complex_numbers_beyond_the_range_become_infinite_without_a_warning():
    """Each part by itself: where the imaginary one is infinite, the real one is no NaN. Warnings are errors here."""
    rule, graph = Rule([0], [0], [0], [1.0], (1, 1, 1)), Graph([0, 0], [0, 0])
    x, two = np.full((1, 1, 4), 1j * np.finfo("f4").max, "c8"), np.full((2, 1), 2, "c8")
    out = message_passing(rule, graph, x, two)
    assert np.all(out.imag == np.inf)
    assert np.all(out.real == 0)
    message_passing_vjp(rule, graph, -x, x, two)
    message_passing_vjp_vjp(rule, graph, x, two, None, x, x, two)


def test_one_node_may_receive_all_edges():
    rng = np.random.default_rng(6)
    rule = random_rule(rng)
    graph = Graph(rng.integers(0, 5, 10_000), np.full(10_000, 2), 4)
    arrays = operands(rng, rule, (5, 10_000, 10_000), 16, "f4")
    reference = Edges(rule, graph, np.dtype("f4"))
    out = message_passing(rule, graph, *arrays)
    reference.check_result(out, *arrays)
    assert not out[[0, 1, 3]].any()
    reference.check_gradients(message_passing_vjp(rule, graph, out, *arrays), out, *arrays)


def test_the_result_may_be_written_to_an_array():
    rng = np.random.default_rng(7)
    graph, rows = random_graph(rng)
    rule = random_rule(rng)
    for dtype in ("f4", "c8"):
        arrays = operands(rng, rule, rows, 16, dtype)
        expected = message_passing(rule, graph, *arrays)
        out = np.full((2, *expected.shape), np.nan, dtype)[:, :, ::-1][1]
        assert message_passing(rule, graph, *arrays, out=out) is out
        assert np.array_equal(out, expected)
    with pytest.raises(ValueError, match="out overlaps x"):
        message_passing(
            rule,
            Graph(np.arange(9), np.arange(9), 9),
            arrays[0],
            arrays[1][:9],
            arrays[2][:9],
            out=arrays[0][:, : rule.shape[2]],
        )


def test_rows_that_are_not_linked_do_not_meet():
    rule = Rule([0, 1], [0, 1], [0, 1], [1.0, 1.0], (2, 2, 2), path=[0, 1])
    x = np.array([[[np.inf] * 16, [1.0] * 16]])
    out = message_passing(rule, Graph([0], [0], 1), x, np.ones((1, 2)), np.ones((1, 2)))
    assert np.all(out[0, 1] == 1)
    assert np.all(out[0, 0] == np.inf)


def test_gradients_of_rows_that_edges_share_are_summed_in_float32():
    """Of 16-bit arrays: an edge's own gradient may be beyond their range, above or below."""
    edges = 1000
    rule, graph = Rule([0], [0], [0], [1.0], (1, 1, 1)), Graph(*[np.arange(edges)] * 2, rows_of_y=np.zeros(edges, int))
    for scale, sign, expected in ((300, np.tile([1, -1], edges // 2), 0), (2**-13, 1, edges * 2**-26)):
        x = np.full((edges, 1, 1), scale, "f2")
        dout = x * np.reshape(sign, (-1, 1, 1)).astype("f2")
        _, dy, _ = message_passing_vjp(rule, graph, dout, x, np.ones((1, 1), "f2"))
        assert dy[0, 0] == np.float16(expected)
