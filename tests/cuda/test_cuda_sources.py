"""The CUDA sources, compiled for the host: the same text and the same plans as on a device, against the oracle."""

import os
import re
import subprocess
from functools import partial

import cuda_host
import numpy as np
import pytest
from cuda_cases import case
from oracle import check, wide
from strategies import DTYPES

import sparseacc
from sparseacc.algebra import (
    COEFFICIENT_VJP,
    FORWARD,
    JVP,
    VJP,
    VJP_VJP,
    WEIGHTED_COEFFICIENT_VJP,
    WEIGHTED_VJP_VJP,
)
from sparseacc.cuda import geometry, rows

pytestmark = pytest.mark.skipif(cuda_host.COMPILER is None, reason="no C++ compiler")

OPERATIONS = [FORWARD, VJP, JVP, VJP_VJP, COEFFICIENT_VJP]
EDGES = [1, 31, 32, 33, 127, 128, 129, 300]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operations_are_within_the_bound_at_edge_sizes_in_every_layout(operation, dtype, rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    for n in EDGES:
        case(rule, ((n,), (n,)), -1, dtype, rng).check(operation)
        case(rule, ((n,), (n,)), 0, dtype, rng).check(operation)
    for shape in ((3, 32), (4, 33), (1, 5)):
        case(rule, (shape, shape), 1, dtype, rng).check(operation)
    case(rule, ((150,), (150,)), -1, dtype, rng, lambda x: np.repeat(x, 2, axis=0)[::-2]).check(operation)


@pytest.mark.parametrize("operation", [VJP, VJP_VJP], ids=lambda o: o.name)
@pytest.mark.parametrize("dtype", ["f4", "c16", DTYPES[-1]], ids=str)
@pytest.mark.parametrize(
    ("batch1", "batch2"),
    [
        ((300,), ()),  # one for all
        ((3, 70), (70,)),  # over the outer dimension
        ((9, 40), (9, 1)),  # over the channels
        ((1, 5), (70, 1)),  # each over another one
        ((5, 1, 20), (1, 4, 1)),
        ((6, 1, 8), (6, 8, 1)),  # outer products of few channels
        ((2, 1, 3, 1), (1, 5, 3, 1)),
        ((9000,), (1,)),  # many boxes
    ],
    ids=str,
)
def test_sums_over_broadcast_dimensions_are_within_the_bound(operation, dtype, batch1, batch2, rng):
    rule = sparseacc.clebsch_gordan(1, 1, 2)
    for axis in (-1, -2) if len(batch1) > 1 < len(batch2) else (-1,):
        case(rule, (batch1, batch2), axis, dtype, rng).check(operation)


@pytest.fixture
def many_turns(monkeypatch):
    """Blocks take many turns with small batches too."""
    monkeypatch.setattr(geometry, "MOST_PARTS", 2)


@pytest.mark.parametrize("batches", [((1500,), ()), ((1500,), (1,)), ((9, 300), (9, 1)), ((900, 4), (1, 4))], ids=str)
@pytest.mark.parametrize("wrt", [(True, True), (True, False), (False, True)], ids=str)
def test_blocks_that_take_many_turns_are_within_the_bound(batches, wrt, many_turns, rng):
    rule = sparseacc.clebsch_gordan(1, 1, 2)
    for axis in (-1, -2) if len(batches[1]) > 1 else (-1,):
        whole = case(rule, batches, axis, "f4", rng)
        whole.check(COEFFICIENT_VJP)
        results = iter(cuda_host.run(rule, VJP, *whole.inputs(VJP), axis=axis, wanted=wrt))
        for wanted, expected in zip(wrt, whole.expect(VJP), strict=True):
            if wanted:
                check(next(results), expected)


@pytest.mark.parametrize("dtype", ["f4", "c8", "f2"])
@pytest.mark.parametrize("batch2", [(70,), ()], ids=str)
def test_a_rule_too_large_for_straight_line_code_is_read_from_a_table(dtype, batch2, rng, monkeypatch):
    monkeypatch.setattr(rows, "MOST_OPERATIONS", 10)
    rule = sparseacc.clebsch_gordan(2, 2, 3)
    for operation in OPERATIONS:
        whole = case(rule, ((70,), batch2), -1, dtype, rng)
        source = cuda_host.planned(rule, operation, whole.inputs(operation), -1)[0].source
        assert source.tables
        whole.check(operation)


@pytest.mark.parametrize("shape", [(40, 2, 60), (2, 300, 5), (4, 6, 8), (1, 1, 700)])
def test_rules_of_any_width_fit_shared_memory(shape, rng):
    """Even numbers of columns are padded, and operands that do not fit are read and written in place."""
    rule = sparseacc.Rule(*(rng.integers(0, n, 90) for n in shape), rng.normal(size=90), shape)
    for operation in OPERATIONS:
        whole = case(rule, ((70,), (70,)), -1, "f8", rng)
        found = cuda_host.planned(rule, operation, whole.inputs(operation), -1)[0]
        assert found.source.shared_mem <= geometry.SHARED
        whole.check(operation)
    case(rule, ((70,), ()), -1, "f8", rng).check(VJP)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2"])
def test_misaligned_arrays_are_right(dtype, rng):
    def shifted(x):
        raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
        view = np.ndarray(x.shape, x.dtype, raw.data)
        view[...] = x
        return view

    def behind(x, n):
        return np.append(np.zeros(n, x.dtype), x)[n:].reshape(x.shape)

    rule = sparseacc.clebsch_gordan(1, 1, 2)
    for operation in OPERATIONS:
        case(rule, ((40,), (40,)), -1, dtype, rng, shifted).check(operation)
    for n in range(1, 4):  # by whole numbers, but not at 16 bytes
        case(rule, ((40,), (40,)), -1, dtype, rng, partial(behind, n=n)).check(VJP)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_power_of_two_data_give_the_bits_of_the_cpu(dtype, rng):
    m1, m2, mu = (rng.permutation(np.arange(12) % n) for n in (9, 8, 10))
    rule = sparseacc.Rule(m1, m2, mu, 2.0 ** rng.integers(0, 2, 12), (9, 8, 10))
    arrays = [np.exp2(rng.integers(0, 2, (30, 4, n))).astype(dtype) for n in (9, 8, 10, 9, 8)]
    _, _, dy, x1, x2 = arrays
    for result, expected in zip(
        cuda_host.run(rule, VJP_VJP, *arrays)
        + cuda_host.run(rule, FORWARD, x1, x2)
        + cuda_host.run(rule, VJP, dy, x1, x2),
        (*rule.vjp_vjp(*arrays), rule(x1, x2), *rule.vjp(dy, x1, x2)),
        strict=True,
    ):
        assert np.array_equal(wide(result), wide(expected))


def test_absent_inputs_and_outputs_are_left_out(rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    whole = case(rule, ((40,), (40,)), -1, "f4", rng)
    z1, z2, dy, x1, x2 = (whole.arrays[n] for n in ("z1", "z2", "dy", "x1", "x2"))
    for arrays in ((None, z2, dy, x1, x2), (z1, None, dy, x1, x2)):
        for result, expected in zip(cuda_host.run(rule, VJP_VJP, *arrays), rule.vjp_vjp(*arrays)):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    (dx2,) = cuda_host.run(rule, VJP, dy, x1, x2, wanted=(False, True))
    np.testing.assert_allclose(dx2, rule.vjp(dy, x1, x2)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("terms", [1, 30_000])  # as straight-line code, and as a table
@pytest.mark.parametrize("C", [1e39, -1e300, 1e-50, 1e-40])
def test_a_coefficient_that_float32_cannot_hold_is_refused(C, terms):
    rule = sparseacc.Rule(*[range(terms)] * 3, [C] + [1.0] * (terms - 1), (terms,) * 3)
    for dtype in ("float32", "complex64", "float16"):
        for op in ("forward", "vjp", "vjp_vjp"):
            with pytest.raises(ValueError, match=re.escape(f"C[0] is {C}, but {dtype}")):
                sparseacc.cuda.source(rule, op, dtype)
    assert sparseacc.cuda.source(rule, "forward", "float64").code
    assert sparseacc.cuda.source(rule, "coefficient_vjp", "float32").code


def test_terms_that_repeat_are_one_in_the_source():
    rule = sparseacc.Rule([0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0.5, 1.0, 0.25, 0.25], (2, 1, 2))
    for op in ("forward", "vjp", "vjp_vjp"):
        kernels = (
            sparseacc.cuda.source(r, op) for r in (rule, sparseacc.Rule([0, 1], [0, 0], [0, 1], [1.0, 1.0], rule.shape))
        )
        code, one = (kernel.code.replace(kernel.name, "name").split("\n", 1)[1] for kernel in kernels)
        assert code == one


@pytest.mark.parametrize("dtype", ["f2", DTYPES[-1]], ids=str)
def test_every_16_bit_number_is_converted_exactly_and_rounded_to_the_nearest(dtype, rng):
    identity = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))
    every = np.arange(2**16, dtype=np.uint16).view(dtype)[:, None]
    result = cuda_host.run(identity, FORWARD, every, np.ones(1, dtype))[0]
    assert np.array_equal(result.astype("f4"), every.astype("f4"), equal_nan=True)
    # products of two of them have at most 22 bits, so that they are rounded once
    a, b = (rng.integers(0, 2**16, (20_000, 1)).astype(np.uint16).view(dtype) for _ in range(2))
    with np.errstate(all="ignore"):
        expected = (a.astype("f4") * b.astype("f4")).astype(dtype)
    assert np.array_equal(cuda_host.run(identity, FORWARD, a, b)[0].astype("f4"), expected.astype("f4"), equal_nan=True)


def test_rows_beyond_2_to_31_are_where_they_should_be(rng):
    """Only the last block of a batch of 2**31 + 5 rows, with pointers so far ahead of real memory."""
    rule = sparseacc.Rule([0, 2], [0, 1], [0, 1], [1.0, 2.0], (3, 2, 2))
    x1, x2, out = (rng.normal(size=(5, n)).astype("f4") for n in rule.shape)
    ahead = [a.ctypes.data - 2**31 * a.shape[1] * 4 for a in (x1, x2, out)]
    cuda_host.launch_block(sparseacc.cuda.source(rule), 2**31 // 128, ahead, [2**31 + 5])
    np.testing.assert_allclose(out, rule(x1, x2), rtol=1e-6)


def test_channels_beyond_2_to_31_are_where_they_should_be(rng):
    """Only the last block of a batch of 2**24 + 1 times 128 channels."""
    rule = sparseacc.Rule([0, 2], [0, 1], [0, 1], [1.0, 2.0], (3, 2, 2))
    x1, x2, out = (rng.normal(size=(n, 128)).astype("f4") for n in rule.shape)
    ahead = [a.ctypes.data - 2**24 * a.nbytes for a in (x1, x2, out)]
    source = sparseacc.cuda.source(rule, axis="middle")
    cuda_host.launch_block(source, 2**24, ahead, [2**31 + 128, 128])
    np.testing.assert_allclose(out, rule(x1, x2, axis=0), rtol=1e-6)


BOUNDS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-fsanitize=thread", "-DHOST_THREADS")
SANITIZED = [
    (operation, axis, batches)
    for operation in OPERATIONS
    for axis, batches in ((-1, ((33,), (33,))), (-1, ((131,), (131,))), (1, ((3, 33), (3, 33))), (1, ((3, 33), (3, 1))))
] + [
    (operation, axis, batches)
    for operation in (WEIGHTED_VJP_VJP, WEIGHTED_COEFFICIENT_VJP)
    for axis, batches in ((-1, ((131,), (131,), (131,))), (1, ((3, 33), (3, 1), (33,))))
]


@pytest.mark.parametrize("flags", [BOUNDS, RACES], ids=["bounds", "races"])
@pytest.mark.parametrize("dtype", ["f4", "f2", "c16"])
def test_sanitizers_find_nothing(flags, dtype, rng):
    """On arrays of their own, of the exact size; with real threads for races within and between blocks."""
    rule = sparseacc.clebsch_gordan(1, 1, 2)
    sanitized(flags, rule, [(operation, a, case(rule, b, a, dtype, rng), None) for operation, a, b in SANITIZED])


@pytest.mark.parametrize("flags", [BOUNDS, RACES], ids=["bounds", "races"])
def test_sanitizers_find_nothing_in_blocks_that_take_many_turns(flags, many_turns, rng):
    rule = sparseacc.clebsch_gordan(1, 1, 2)
    whole = case(rule, ((700,), ()), -1, "f4", rng)
    runs = [(VJP, wanted) for wanted in (None, (True, False), (False, True))] + [(COEFFICIENT_VJP, None)]
    sanitized(flags, rule, [(operation, -1, whole, wanted) for operation, wanted in runs])


def sanitized(flags, rule, runs):
    calls = []
    for operation, axis, whole, wanted in runs:
        inputs = whole.inputs(operation)
        calls.append((*cuda_host.planned(rule, operation, inputs, axis, wanted), inputs))
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([cuda_host.program(calls, flags)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("done") == len(calls)


def test_geometry_depends_on_the_shape_alone_and_covers_the_batch():
    for shape in ((1,), (5,), (300,), (7, 3), (1000, 33), (4, 3, 129)):
        for threads in (128, 64, 32):
            split = geometry.split(shape, threads)
            assert np.prod(split) == threads
            for turned in range(len(shape)):
                tiles = geometry.boxes(shape, split, turned)
                for d, n in enumerate(shape):
                    turns = -(-n // (tiles[d] * split[d]))
                    assert turns == 1 or d == turned
                    assert turns <= geometry.MOST_TURNS
                    assert tiles[d] * turns * split[d] >= n


@pytest.mark.parametrize(("name", "value"), [("op", "backward"), ("dtype", "int32"), ("axis", "lost")])
def test_source_names_what_it_does_not_know(name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .*{value}"):
        sparseacc.cuda.source(sparseacc.clebsch_gordan(1, 1, 1), **{name: value})
    with pytest.raises(ValueError, match="no terms"):
        sparseacc.cuda.source(sparseacc.Rule([], [], [], [], (1, 1, 1)))


@pytest.mark.parametrize("axis", ["last", "middle", "first"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_a_source_launched_as_it_says_computes_the_operation(axis, operation, rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    batch, at = {"last": ((70,), -1), "middle": ((4, 35), 1), "first": ((70,), 0)}[axis]
    whole = case(rule, (batch, batch), at, "f4", rng)
    source = sparseacc.cuda.source(rule, operation.name, np.float32, axis)
    rows_ = int(np.prod(batch))
    grid = source.launch(rows_).grid
    expected = whole.expect(operation)
    names = [f"g_{like}" if like else "out" for like in operation.shapes]
    if operation is COEFFICIENT_VJP:
        outputs = {"out": np.full((grid[0], rule.nnz), np.nan)}
    else:
        outputs = {name: np.full(e.shape, np.nan, "f4") for name, (e, _) in zip(names, expected)}
    arrays = {name: a for (name, _), a in zip(operation.inputs, whole.inputs(operation))} | outputs
    integers = {"rows": rows_, "n1": batch[-1]}
    cuda_host.launch(
        source,
        grid,
        [np.ascontiguousarray(arrays[name]) for name in source.arguments if name in arrays],
        [integers[name] for name in source.arguments if name in integers],
    )
    for result, e in zip(outputs.values(), expected):
        check(result.sum(axis=0) if operation is COEFFICIENT_VJP else result, e)
