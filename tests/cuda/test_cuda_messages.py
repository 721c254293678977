"""Message passing on CuPy arrays, on a device."""

import itertools

import numpy as np
import pytest
from edges import Edges, operands, random_graph, random_rule
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DTYPES, numbers

import sparseacc
from sparseacc import Graph, Rule, message_passing, message_passing_vjp, message_passing_vjp_vjp

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
from device import DEVICES, MARKS  # noqa: E402 - where there is CuPy

if DEVICES:
    from sparseacc.cuda import messages, sorted_edges

pytestmark = MARKS

COLUMNS = ("senders", "receivers", "rows_of_y", "rows_of_weights")


def to_device(value):
    """An array or a graph on the device."""
    if isinstance(value, Graph):
        senders, receivers, *others = (to_device(getattr(value, name)) for name in COLUMNS)
        return Graph(senders, receivers, value.num_nodes, **dict(zip(COLUMNS[2:], others)))
    return None if value is None else cupy.asarray(value)


def everything(rule, graph, z, dout, x, y, w, axis=-2):
    return (
        message_passing(rule, graph, x, y, w, axis=axis),
        *message_passing_vjp(rule, graph, dout, x, y, w, axis=axis),
        *message_passing_vjp_vjp(rule, graph, *z, dout, x, y, w, axis=axis),
    )


def check(rule, graph, arrays, rng, dtype):
    x, y, w = arrays
    dout = numbers(rng, (graph.num_nodes, rule.shape[2], x.shape[2]), dtype)
    z = [numbers(rng, array.shape, dtype) for array in arrays]
    found = everything(rule, to_device(graph), *map_all(to_device, (z, dout, x, y, w)))
    assert all(isinstance(result, cupy.ndarray) for result in found)
    out, *others = (result.get() for result in found)
    reference = Edges(rule, graph, dtype)
    reference.check_result(out, x, y, w)
    reference.check_gradients(others[:3], dout, x, y, w)
    reference.check_second(others[3:], dict(zip("xyw", z)), dout, x, y, w)


def map_all(function, values):
    return [[function(v) for v in value] if isinstance(value, list) else function(value) for value in values]


def some(rng, channels=32, dtype="f4", columns=COLUMNS[:2], **keywords):
    """A rule, a graph, and z, dout, x, y and w."""
    graph, rows = random_graph(rng, columns=columns)
    rule = random_rule(rng)
    arrays = operands(rng, rule, rows, channels, dtype, **keywords)
    dout = numbers(rng, (graph.num_nodes, rule.shape[2], channels), dtype)
    return rule, graph, [numbers(rng, a.shape, dtype) for a in arrays], dout, *arrays


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 5, 32, 70]), st.data())
def test_message_passing_and_its_derivatives_are_the_sums_over_edges(seed, channels, data):
    rng = np.random.default_rng(seed)
    columns = data.draw(st.sets(st.sampled_from(COLUMNS), min_size=1))
    graph, rows = random_graph(rng, data.draw(st.sampled_from([0, 1, 15, 40])), columns=columns)
    rule = random_rule(rng)
    arrays = operands(rng, rule, rows, channels, "f4", data.draw(st.booleans()), data.draw(st.booleans()))
    check(rule, graph, arrays, rng, np.dtype("f4"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("y_has_channels", [False, True])
def test_every_dtype_is_within_the_bound(dtype, y_has_channels):
    rng = np.random.default_rng(0)
    rule = random_rule(rng, terms=20)
    graph, rows = random_graph(rng, 20)
    check(rule, graph, operands(rng, rule, rows, 16, dtype, y_has_channels), rng, dtype)


@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS], ids=len)
@pytest.mark.parametrize("w_has_channels", [False, True])
def test_channels_beyond_a_block_are_shared_out(columns, w_has_channels):
    rng = np.random.default_rng(1)
    rule = random_rule(rng)
    graph, rows = random_graph(rng, 20, columns=columns)
    for dtype in ("f4", "f2"):
        arrays = operands(rng, rule, rows, 300, dtype, w_has_channels=w_has_channels)
        check(rule, graph, arrays, rng, np.dtype(dtype))


@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS], ids=len)
def test_long_rows_are_sums_of_pieces(columns, monkeypatch):
    monkeypatch.setattr(sorted_edges, "LONG", 3)
    rng = np.random.default_rng(2)
    rule = random_rule(rng)
    graph, rows = random_graph(rng, columns=columns)
    for dtype, channels, w_has_channels in (("f4", 32, True), ("f2", 300, False)):
        arrays = operands(rng, rule, rows, channels, dtype, w_has_channels=w_has_channels)
        check(rule, graph, arrays, rng, np.dtype(dtype))


def test_one_node_may_have_all_edges():
    rng = np.random.default_rng(3)
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    graph = Graph(rng.integers(0, 5, 2500), np.full(2500, 2), 4)
    x, y, w = operands(rng, rule, (5, 2500, 2500), 32, "f4")
    out = message_passing(rule, to_device(graph), *map(to_device, (x, y, w)))
    Edges(rule, graph, np.dtype("f4")).check_result(out.get(), x, y, w)


@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS, COLUMNS[1:2]], ids=str)
def test_large_rules_are_read_from_a_table(columns, monkeypatch):
    sparseacc.cache_clear()
    monkeypatch.setattr(sparseacc.cuda.rows, "MOST_OPERATIONS", 10)
    rng = np.random.default_rng(4)
    rule = random_rule(rng)
    graph, rows = random_graph(rng, 20, columns=columns)
    for dtype, channels, apart in (("f4", 32, True), ("f8", 300, False)):
        check(rule, graph, operands(rng, rule, rows, channels, dtype, apart, apart), rng, np.dtype(dtype))


def test_a_result_of_many_rows_is_shared_out_among_blocks():
    rng = np.random.default_rng(5)
    terms = 150
    columns = [rng.integers(0, n, terms) for n in (6, 5, 130)]
    rule = Rule(*columns, rng.normal(size=terms), (6, 5, 131), path=rng.integers(0, 9, terms))
    graph, rows = random_graph(rng, 20)
    check(rule, graph, operands(rng, rule, rows, 33, "f4"), rng, np.dtype("f4"))


@pytest.mark.parametrize("axis", [-2, -1])
def test_one_number_for_all_channels_may_have_an_axis_for_them(axis):
    rng = np.random.default_rng(3)
    graph, rows = random_graph(rng)
    rule, graph = random_rule(rng), to_device(graph)
    x, y, w = map_all(to_device, operands(rng, rule, rows, 5, "f4", False, False))
    x = x if axis == -2 else x.swapaxes(1, 2)
    dout = message_passing(rule, graph, x, y, w, axis=axis)
    y1, w1 = (cupy.expand_dims(array, -3 - axis) for array in (y, w))
    expected = everything(rule, graph, (x, y, w), dout, x, y, w, axis)
    found = everything(rule, graph, (x, y1, w1), dout, x, y1, w1, axis)
    for result, other, like in zip(found, expected, (dout, x, y1, w1, dout, x, y1, w1)):
        assert result.shape == like.shape
        assert cupy.array_equal(result.ravel(), other.ravel())


def test_without_weights_they_are_one():
    rule, graph, z, dout, x, y, _ = some(np.random.default_rng(6), dtype="f8")
    graph, dout, x, y = map(to_device, (graph, dout, x, y))
    ones = cupy.ones((graph.num_edges, rule.num_paths))
    z = [*map(to_device, z[:2]), None]
    found, expected = everything(rule, graph, z, dout, x, y, None), everything(rule, graph, z, dout, x, y, ones)
    for i, (a, b) in enumerate(zip(found, expected)):
        if i in (3, 7):
            assert a is None
        else:
            np.testing.assert_allclose(a.get(), b.get(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("present", [p for n in range(3) for p in itertools.combinations(range(3), n)])
def test_a_cotangent_that_is_none_is_zero(present):
    rule, graph, z, *arrays = some(np.random.default_rng(7), dtype="f8")
    given = [a if i in present else None for i, a in enumerate(z)]
    expected = message_passing_vjp_vjp(rule, graph, *given, *arrays)
    found = message_passing_vjp_vjp(rule, to_device(graph), *map(to_device, given), *map(to_device, arrays))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.get(), b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrt", [w for n in range(3) for w in itertools.combinations(range(3), n)])
@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS[1:2], COLUMNS], ids=len)
def test_gradients_come_alone_as_together(wrt, columns):
    rule, graph, _, *arrays = some(np.random.default_rng(8), columns=columns)
    graph, *arrays = map(to_device, (graph, *arrays))
    together = message_passing_vjp(rule, graph, *arrays)
    alone = message_passing_vjp(rule, graph, *arrays, wrt=wrt)
    for i in range(3):
        assert (alone[i] is None) == (i not in wrt)
        assert alone[i] is None or cupy.array_equal(alone[i], together[i])


def test_any_layout_gives_the_bits_of_a_contiguous_one():
    rule, graph, z, *arrays = some(np.random.default_rng(9), y_has_channels=True)
    graph, z, *arrays = map_all(to_device, (graph, z, *arrays))
    expected = everything(rule, graph, z, *arrays)
    backward, unaligned = lambda a: cupy.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1], shifted
    for layout in (backward, unaligned):
        for a, b in zip(everything(rule, graph, *map_all(layout, (z, *arrays))), expected):
            assert cupy.array_equal(a, b)
    swapped = everything(rule, graph, *map_all(lambda a: a.swapaxes(1, 2), (z, *arrays)), axis=-1)
    for a, b in zip(swapped, expected):
        assert cupy.array_equal(a.swapaxes(1, 2), b)


def shifted(array):
    memory = cupy.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = cupy.ascontiguousarray(array).view(np.uint8).ravel()
    return cupy.ndarray(array.shape, array.dtype, memory.data + 1)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_the_result_may_be_written_to_an_array(dtype):
    rule, graph, _, _, *arrays = some(np.random.default_rng(10), dtype=dtype)
    graph, *arrays = map(to_device, (graph, *arrays))
    expected = message_passing(rule, graph, *arrays)
    frame = cupy.full((2, *expected.shape), 7, dtype)
    for out in (frame[0], frame[:, :, ::-1][1], shifted(frame[0])):
        assert message_passing(rule, graph, *arrays, out=out) is out
        assert cupy.array_equal(messages.in_bytes(out), messages.in_bytes(expected))
    x, y, w = arrays
    with pytest.raises(ValueError, match="out overlaps x"):
        message_passing(rule, graph, x, y, w, out=cupy.ndarray(expected.shape, dtype, x.data))


def test_runs_repeat_bitwise_and_a_part_of_a_graph_gives_its_rows():
    rng = np.random.default_rng(11)
    graph, rows = random_graph(rng, 800, 30, 20)
    rule = random_rule(rng)
    x, y, w = operands(rng, rule, rows, 64, "f4")
    dout = numbers(rng, (20, rule.shape[2], 64), "f4")
    z, dout, *arrays = map_all(to_device, ([x, y, w], dout, x, y, w))
    on_device = to_device(graph)
    first, second = (everything(rule, g, z, dout, *arrays) for g in (on_device, to_device(graph)))
    assert all(cupy.array_equal(a, b) for a, b in zip(first, second))
    some_edges = np.flatnonzero(graph.receivers < 7)
    alone = to_device(Graph(graph.senders[some_edges], graph.receivers[some_edges], 7))
    part = message_passing(rule, alone, arrays[0], *(cupy.asarray(a[some_edges]) for a in (y, w)))
    assert cupy.array_equal(part, first[0][:7])


def test_power_of_two_data_give_the_bits_of_numpy():
    rng = np.random.default_rng(12)
    rule, graph, *arrays = some(rng)
    two = lambda shape: (rng.choice([-1.0, 1.0], shape) * 2.0 ** rng.integers(-1, 2, shape)).astype("f4")  # noqa: E731
    rule = Rule(rule.m1, rule.m2, rule.mu, two(rule.nnz), rule.shape, path=rule.path, num_paths=rule.num_paths)
    arrays = map_all(lambda a: two(a.shape), arrays)
    found = everything(rule, to_device(graph), *map_all(to_device, arrays))
    for a, b in zip(found, everything(rule, graph, *arrays)):
        assert np.array_equal(a.get(), b)


@pytest.mark.parametrize("edges", [0, 3])
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0), (2, 3, 4)])
@pytest.mark.parametrize("channels", [0, 4])
def test_empty_dimensions_and_no_terms_are_valid(edges, shape, channels):
    rule = Rule([], [], [], [], shape)
    graph = to_device(Graph(np.zeros(edges, int), np.zeros(edges, int), 2))
    x, y, w = cupy.ones((3, shape[0], channels)), cupy.ones((edges, shape[1])), cupy.ones((edges, 1, channels))
    out = message_passing(rule, graph, x, y, w)
    assert out.shape == (2, shape[2], channels)
    for result, like in zip(everything(rule, graph, (x, y, w), out, x, y, w), (out, x, y, w, out, x, y, w)):
        assert result.shape == like.shape
        assert not result.any()


def test_no_edges_and_a_node_without_edges_give_zeros():
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    x = cupy.ones((3, 3, 8))
    out = message_passing(rule, Graph([], [], 2), x, cupy.ones((0, 3)))
    assert out.shape == (2, 3, 8)
    assert not out.any()
    graph = to_device(Graph(np.array([0]), np.array([2]), 4))
    out = message_passing(rule, graph, x, cupy.arange(3.0)[None])
    assert not out[[0, 1, 3]].any()
    dx, _, _ = message_passing_vjp(rule, graph, out, x, cupy.arange(3.0)[None])
    assert dx[0].any()
    assert not dx[1:].any()


def test_kernels_run_on_the_current_stream():
    """What a stream has been given before and after is seen in that order, and a graph is there for every stream."""
    rule, graph, z, *arrays = some(np.random.default_rng(13))
    expected = everything(rule, graph, z, *arrays)
    graph = to_device(graph)
    streams, results = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)], []
    for stream in streams:
        with stream:
            there = map_all(lambda a: cupy.zeros(a.shape, a.dtype), (z, *arrays))
            for a, b in zip((*there[0], *there[1:]), (*z, *arrays)):
                a += cupy.asarray(b)
            results.append(everything(rule, graph, *there))
            for a in (*there[0], *there[1:]):
                a[...] = 0
    for stream, found in zip(reversed(streams), reversed(results)):
        stream.synchronize()
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a.get(), b, rtol=2e-4, atol=2e-4)


class OnDevice:
    """An array as numba has them."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__


def test_arrays_that_have_only_cudas_interface_are_taken_as_cupy_takes_them():
    rule, graph, z, *arrays = some(np.random.default_rng(16))
    z, *arrays = map_all(to_device, (z, *arrays))
    senders, receivers = (OnDevice(cupy.asarray(index)) for index in (graph.senders, graph.receivers))
    wrapped = everything(rule, Graph(senders, receivers, 7), *map_all(OnDevice, (z, *arrays)))
    for a, b in zip(wrapped, everything(rule, to_device(graph), z, *arrays)):
        assert isinstance(a, cupy.ndarray)
        assert cupy.array_equal(a, b)


def test_arrays_and_indices_of_two_places_are_refused():
    rule, graph, _, dout, x, y, w = some(np.random.default_rng(14))
    there = to_device(graph)
    a, b, c = map(to_device, (x, y, w))
    for mixed in ((x, b, c), (a, y, c), (a, b, w)):
        with pytest.raises(ValueError, match=r"not on the device: .*cupy\.asarray"):
            message_passing(rule, there, *mixed)
    with pytest.raises(ValueError, match="out is not on the device"):
        message_passing(rule, there, a, b, c, out=dout)
    with pytest.raises(ValueError, match="indices are on the host, but the arrays on GPU 0"):
        message_passing(rule, graph, a, b, c)
    with pytest.raises(ValueError, match="indices are on GPU 0, but the arrays on the host"):
        message_passing(rule, there, x, y, w)


@pytest.mark.parametrize(
    "call",
    [
        lambda rule, graph, x, y, w: message_passing(rule, graph, x[:1], y, w),
        lambda rule, graph, x, y, w: message_passing(rule, graph, x, y[:1], w),
        lambda rule, graph, x, y, w: message_passing(rule, graph, x, y, w[:, :, :3]),
        lambda rule, graph, x, y, w: message_passing(rule, graph, x > 0, y, w),
        lambda rule, graph, x, y, w: message_passing(rule, graph, x, y, w, out=w),
        lambda rule, graph, x, y, w: message_passing_vjp(rule, graph, x[:1], x, y, w),
        lambda rule, graph, x, y, w: message_passing_vjp_vjp(rule, graph, y, None, None, w, x, y, w),
    ],
)
def test_bad_input_gives_the_errors_of_numpy(call):
    rule, graph, _, _, *arrays = some(np.random.default_rng(15))
    with pytest.raises((TypeError, ValueError)) as host:
        call(rule, graph, *arrays)
    with pytest.raises((TypeError, ValueError)) as device:
        call(rule, to_device(graph), *map(to_device, arrays))
    assert (device.type, str(device.value)) == (host.type, str(host.value))
