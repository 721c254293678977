"""The CUDA sources of message passing, compiled for the host: the same text and the same plans as on a device."""

import os
import subprocess

import cuda_host
import cuda_host_messages as host
import numpy as np
import pytest
from edges import Edges, random_graph
from strategies import DTYPES, numbers

import sparseacc
from sparseacc import Rule
from sparseacc.cuda import sorted_edges

pytestmark = pytest.mark.skipif(cuda_host.COMPILER is None, reason="no C++ compiler")

REAL = [dtype for dtype in DTYPES if dtype.kind != "c"]
COLUMNS = ("senders", "receivers", "rows_of_y", "rows_of_weights")
GRAPHS = [COLUMNS[:2], COLUMNS, COLUMNS[:1], COLUMNS[1:2], COLUMNS[2:]]


def some(rng, columns, channels, dtype, y_has_channels=False, w_has_channels=True, edges=25):
    """A rule, a graph, and the arrays of a double backward by their names."""
    graph, rows = random_graph(rng, edges, columns=columns)
    n1, n2, n_out, paths = rng.integers(1, 6, 4)
    indices = [rng.integers(0, n, 30) for n in (n1, n2, n_out)]
    rule = Rule(*indices, rng.normal(size=30), (n1, n2, n_out), path=rng.integers(0, paths, 30), num_paths=paths)
    shapes = {
        "x": (rows[0], n1, channels),
        "y": (rows[1], n2, *[channels] * y_has_channels),
        "w": (rows[2], paths, *[channels] * w_has_channels),
    }
    arrays = {f"{z}{name}": numbers(rng, shape, dtype) for name, shape in shapes.items() for z in ("", "z")}
    return rule, graph, arrays | {"dout": numbers(rng, (graph.num_nodes, n_out, channels), dtype)}


def check(rule, graph, arrays, dtype):
    z = {name: arrays[f"z{name}"] for name in "xyw"}
    operands = [arrays[name] for name in ("dout", "x", "y", "w")]
    reference = Edges(rule, graph, dtype)
    reference.check_result(host.run(rule, graph, ["out"], arrays)["out"], *operands[1:])
    gradients = host.run(rule, graph, ["x", "y", "w"], arrays)
    reference.check_gradients([gradients[name] for name in "xyw"], *operands)
    second = host.run(rule, graph, ["out"], arrays, tuple(z)) | host.run(rule, graph, list(z), arrays, tuple(z))
    reference.check_second([second[name] for name in ("out", "x", "y", "w")], z, *operands)


@pytest.mark.parametrize("columns", GRAPHS, ids=str)
@pytest.mark.parametrize("y_has_channels", [False, True])
@pytest.mark.parametrize("w_has_channels", [False, True])
def test_kernels_are_the_sums_over_edges_however_rows_are_named(columns, y_has_channels, w_has_channels, rng):
    check(*some(rng, columns, 33, "f4", y_has_channels, w_has_channels), np.dtype("f4"))


@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_every_dtype_is_within_the_bound(dtype, rng):
    check(*some(rng, COLUMNS[:2], 32, dtype), dtype)


def test_channels_are_shared_out_and_long_rows_cut(rng, monkeypatch):
    monkeypatch.setattr(sorted_edges, "LONG", 3)
    for columns in (COLUMNS[:2], COLUMNS):
        check(*some(rng, columns, 270, "f2", w_has_channels=False), np.dtype("f2"))


@pytest.mark.parametrize("columns", GRAPHS, ids=str)
def test_a_rule_too_large_for_straight_line_code_is_read_from_a_table(columns, rng, monkeypatch):
    monkeypatch.setattr(sparseacc.cuda.rows, "MOST_OPERATIONS", 10)
    for dtype, apart in (("f4", True), ("f8", False)):
        rule, graph, arrays = some(rng, columns, 33, dtype, apart, apart)
        assert all(source.tables for source, *_ in host.calls(rule, graph, ["x", "y", "w"], arrays))
        check(rule, graph, arrays, np.dtype(dtype))


def test_results_of_many_rows_are_shared_out_among_blocks(rng):
    indices = [rng.integers(0, n, 150) for n in (6, 5, 130)]
    rule = Rule(*indices, rng.normal(size=150), (6, 5, 131), path=rng.integers(0, 9, 150), num_paths=10)
    _, graph, arrays = some(rng, COLUMNS[:2], 32, "f4")
    arrays = {
        name: numbers(rng, shape, "f4") for name, shape in (("x", (9, 6, 32)), ("y", (25, 5)), ("w", (25, 10, 32)))
    }
    ((source, *_),) = host.calls(rule, graph, ["out"], arrays)
    assert source.chunks == 3
    Edges(rule, graph, np.dtype("f4")).check_result(host.run(rule, graph, ["out"], arrays)["out"], *arrays.values())


def test_rows_beyond_2_to_31_numbers_are_where_they_should_be(rng):
    """One edge from row 2**26 of x, with a pointer so far ahead of real memory, to segment 2**26 of the result."""
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    x, y, w, out = (rng.normal(size=(1, *shape)).astype("f4") for shape in ((3, 64), (3,), (1, 64), (3, 64)))
    far = 2**26
    begins, order, x_rows = np.array([0, 1]), np.array([far]), np.array([far])
    arrays = (x, y, w, out)
    ahead = [a.ctypes.data - far * a.nbytes for a in arrays]
    addresses = [*ahead, begins.ctypes.data - far * 8, order.ctypes.data, x_rows.ctypes.data]
    cuda_host.launch_block(sparseacc.cuda.source(rule, "message_passing"), far, addresses, [far + 1, far + 1])
    np.testing.assert_allclose(out[0], w[0] * rule(x[0], y[0][:, None], axis=0), rtol=1e-5, atol=1e-6)


BOUNDS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-fsanitize=thread", "-DHOST_THREADS")


@pytest.mark.parametrize("flags", [BOUNDS, RACES], ids=["bounds", "races"])
def test_sanitizers_find_nothing(flags, rng, monkeypatch):
    """On arrays of their own, of the exact size; with real threads for races within and between blocks."""
    launches = []
    cases = [(COLUMNS[:2], False, 150, 2000), (COLUMNS, True, 150, 2000), (COLUMNS, False, 150, 2000)]
    cases += [(COLUMNS, False, 3, 2000), (COLUMNS, False, 150, 10)]
    for columns, apart, edges, most in cases:
        monkeypatch.setattr(sparseacc.cuda.rows, "MOST_OPERATIONS", most)
        rule, graph, arrays = some(rng, columns, 40, "f4", apart, columns != COLUMNS, edges)
        for slots, along in ((["out"], ()), (["x", "y", "w"], ()), (["x", "y", "w"], ("x", "y", "w"))):
            launches += host.launches(rule, graph, slots, arrays, along)
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    program = cuda_host.executable(launches, flags)
    done = subprocess.run([program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("done") == len(launches)


@pytest.mark.parametrize("op", ["message_passing", "message_passing_vjp"])
@pytest.mark.parametrize("channels", [16, 300])
def test_a_source_launched_as_it_says_computes_the_operation(op, channels, rng):
    rule, graph, arrays = some(rng, COLUMNS[:2], channels, "f4")
    source = sparseacc.cuda.source(rule, op, np.float32, channels=channels)
    slot, index = ("out", graph.receivers) if op == "message_passing" else ("x", graph.senders)
    rows = {"out": graph.num_nodes, "x": len(arrays["x"])}[slot]
    order = np.argsort(index, kind="stable")
    named = arrays | {
        "order": order,
        "begins": np.searchsorted(index[order], np.arange(rows + 1)),
        "x_rows": graph.senders[order],
        "out_rows": graph.receivers[order],
        "out": np.full_like(arrays["dout"], np.nan),
        "dx": np.full_like(arrays["x"], np.nan),
        "dy": np.full((-(-channels // 256), *arrays["y"].shape), np.nan, "f4"),
        "dw": np.full_like(arrays["w"], np.nan),
    }
    assert source.arguments[-2:] == ("segments", "edges")
    launch = source.launch(rows)
    cuda_host.launch(source, launch.grid, [named[name] for name in source.arguments[:-2]], [rows, graph.num_edges])
    operands, reference = [arrays[name] for name in ("dout", "x", "y", "w")], Edges(rule, graph, np.dtype("f4"))
    if op == "message_passing":
        reference.check_result(named["out"], *operands[1:])
    else:
        reference.check_gradients([named["dx"], named["dy"].sum(axis=0), named["dw"]], *operands)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dtype": "complex64"}, "dtype must be one of float32, float64, float16, bfloat16"),
        ({"axis": "last"}, "axis must be one of middle"),
        ({"channels": 0}, "channels is 0"),
    ],
)
def test_source_names_what_it_does_not_know(keywords, message):
    with pytest.raises(ValueError, match=message):
        sparseacc.cuda.source(sparseacc.clebsch_gordan(1, 1, 1), "message_passing", **keywords)
