"""The product, against the oracle."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle, check, wide
from strategies import DTYPES, dtypes, numbers, operands, rules

import sparseacc
from sparseacc.cpu import execution


@given(st.data(), rules(), dtypes)
def test_product_is_within_the_bound_for_any_rule_layout_axis_and_broadcasting(data, rule, dtype):
    x1, x2, axis, _ = operands(data, rule, dtype)
    result = rule(x1, x2, axis=axis)
    assert result.dtype == dtype
    check(result, Oracle(rule, x1, x2, axis, dtype).product())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("batch", [(1, 1), (3, 5), (1, 64), (129, 1), (7, 33)])
def test_every_instruction_set_is_within_the_bound(instruction_set, dtype, axis, batch, rng):
    rule = sparseacc.clebsch_gordan(3, 2, 4)
    x1, x2 = (np.moveaxis(numbers(rng, (*batch, n), dtype), -1, axis) for n in rule.shape[:2])
    check(rule(x1, x2, axis=axis), Oracle(rule, x1, x2, axis, dtype).product())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_power_of_two_data_are_exact(instruction_set, dtype, rng):
    """Sums of few products of small powers of two need fewer bits than any dtype here has, so nothing is rounded."""
    rule = sparseacc.Rule(*(rng.integers(0, n, 12) for n in (9, 8, 40)), 2.0 ** rng.integers(-1, 2, 12), (9, 8, 40))
    assert np.bincount(rule.mu).max() <= 4
    x1, x2 = (np.exp2(rng.integers(0, 2, (300, n))) * rng.choice([-1, 1], (300, n)) for n in rule.shape[:2])
    expected = Oracle(rule, x1, x2).product()[0]
    assert np.array_equal(wide(rule(x1.astype(dtype), x2.astype(dtype))), expected)


@pytest.mark.parametrize("n", [*range(1, 20), 130, 700])
def test_rules_of_any_size_fit_their_tiles(instruction_set, n, rng):
    """From one column to more than an L1 cache holds, for inputs and outputs alike."""
    for shape in ((n, 3, 5), (3, n, 5), (5, 3, n), (n, n, n)):
        rule = sparseacc.Rule(*(rng.integers(0, size, 3 * n) for size in shape), rng.normal(size=3 * n), shape)
        for dtype in ("f4", "c16", "f2"):
            x1, x2 = (numbers(rng, (67, size), dtype) for size in shape[:2])
            check(rule(x1, x2), Oracle(rule, x1, x2).product())


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8"])
def test_a_batch_beyond_the_caches_equals_its_pieces_bitwise(instruction_set, dtype, rng):
    """Large batches are fetched ahead and written past the caches, from any alignment; small ones are not."""
    rule = sparseacc.clebsch_gordan(2, 1, 3)
    rows = 500_000 if dtype == "f4" else 250_000
    x1, x2 = (np.resize(numbers(rng, (5003, n), dtype), (rows, n)) for n in rule.shape[:2])
    pieces = [rule(x1[i : i + 4000], x2[i : i + 4000]) for i in range(0, rows, 4000)]
    expected = np.concatenate(pieces)
    assert np.array_equal(rule(x1, x2), expected)
    out = np.zeros((rows + 2, 7), dtype)[1:-1]
    rule(x1, x2, out=out)
    assert np.array_equal(out, expected)
    assert not np.any(out.base[[0, -1]]), "numbers around out were written"
    first1, first2 = x1.T.copy(), x2.T.copy()
    assert np.array_equal(rule(first1, first2, axis=0).T, expected)
    for offset in range(1, 4):
        out = np.zeros(7 * rows + 5, dtype)[offset : offset + 7 * rows].reshape(7, rows)
        assert np.array_equal(rule(first1, first2, axis=0, out=out).T, expected)


def test_repeated_terms_add_up_and_untouched_outputs_are_zero():
    rule = sparseacc.Rule([0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 2, 4], (1, 1, 3))
    assert np.array_equal(rule([[1.0]], [[3.0]]), [[0.0, 21.0, 0.0]])


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0), (0, 0, 0)])
@pytest.mark.parametrize("rows", [0, 1, 100])
def test_empty_dimensions_and_no_terms_are_valid(shape, rows):
    rule = sparseacc.Rule([], [], [], [], shape)
    x1, x2 = np.ones((rows, shape[0])), np.ones((rows, shape[1]))
    result = rule(x1, x2)
    assert np.array_equal(result, np.zeros((rows, shape[2])))
    assert [g.shape for g in rule.vjp(result, x1, x2)] == [x1.shape, x2.shape]
    assert rule.coefficient_vjp(result, x1, x2).shape == (0,)


def test_infinities_and_nan_stay_in_their_row(instruction_set, rng):
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    x1, x2 = rng.normal(size=(2, 200, 5))
    expected = rule(x1, x2)
    x1[17], x1[18] = np.nan, np.inf
    result = rule(x1, x2)
    assert np.all(np.isnan(result[17]))
    assert not np.any(np.isfinite(result[18]))
    assert np.array_equal(np.delete(result, [17, 18], 0), np.delete(expected, [17, 18], 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out_of_any_layout_takes_the_same_result(dtype, rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    x1, x2 = numbers(rng, (3, 5, 40), dtype), numbers(rng, (3, 3, 1), dtype)
    expected = rule(x1, x2, axis=1)
    frame = np.full((3, 7, 83), 7, dtype)
    raw = np.zeros(expected.nbytes + 1, np.uint8)[1:]
    for out in (
        np.empty_like(expected),
        frame[::-1, 1:6, 2:82:2],
        np.empty(expected.shape[::-1], dtype).T,
        np.ndarray(expected.shape, dtype, raw.data),
    ):
        assert rule(x1, x2, axis=1, out=out) is out
        assert np.array_equal(out, expected)
    frame[::-1, 1:6, 2:82:2] = 7
    assert np.all(frame == np.array(7, dtype)), "numbers around out were written"


def test_inputs_are_never_written(rng):
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    arrays = [rng.normal(size=(70, 5)) for _ in range(5)]
    copies = [a.copy() for a in arrays]
    rule(*arrays[:2])
    rule.vjp_vjp(*arrays)
    rule.jvp(*arrays[:4])
    rule.coefficient_vjp(*arrays[:3])
    assert all(np.array_equal(a, c) for a, c in zip(arrays, copies))


def test_one_array_may_be_both_inputs(rng):
    rule = sparseacc.clebsch_gordan(2, 2, 4)
    x = rng.normal(size=(90, 5))
    assert np.array_equal(rule(x, x), rule(x, x.copy()))


def test_arrays_that_c_cannot_read_by_their_objects_give_the_same(monkeypatch, rng):
    x1, x2, dy, out = (rng.normal(size=(9, 5)) for _ in range(4))
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    expected = [rule(x1, x2), *rule.vjp(dy, x1, x2)]

    assert execution._READABLE is (sys.implementation.name == "cpython")
    monkeypatch.setattr(execution, "_READABLE", False)
    monkeypatch.setattr(execution, "sa_run_3", None)
    monkeypatch.setattr(execution, "sa_run_5", None)
    sparseacc.cache_clear()
    for _ in range(2):
        for result, same in zip([rule(x1, x2), *rule.vjp(dy, x1, x2)], expected, strict=True):
            assert np.array_equal(result, same)
        assert np.array_equal(rule(x1, x2, out=out), expected[0])


def test_a_broadcast_batch_equals_the_repeated_one_bitwise(rng):
    rule = sparseacc.clebsch_gordan(2, 3, 4)
    x1, x2 = rng.normal(size=(30, 5, 1, 7)), rng.normal(size=(7, 4, 1))
    full1 = np.repeat(x1, 4, axis=2)
    full2 = np.broadcast_to(x2[None, :, :], (30, 7, 4, 7)).copy()
    assert np.array_equal(rule(x1, x2[None], axis=1), rule(full1, full2, axis=1))


def test_calls_of_one_shape_with_different_axes_or_dtypes_differ(rng):
    """What is kept of a call serves only the like of it."""
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    x1, x2 = rng.normal(size=(2, 5, 5))
    for _ in range(2):
        assert np.array_equal(rule(x1, x2, axis=0), rule(x1.T.copy(), x2.T.copy(), axis=1).T)
        for one, two in zip(rule.vjp(x1, x1, x2, axis=0), rule.vjp(x1.T, x1.T, x2.T, axis=1)):
            assert np.array_equal(one, two.T)
        assert np.array_equal(rule(x1[::-1], x2[::-1]), rule(x1, x2)[::-1])
        assert rule(x1.astype("f4"), x2.astype("f4")).dtype == np.float32
        for other in (">f8", "i8", "c8"):  # of as many bytes
            assert np.allclose(rule(x1, (4 * x2).astype(other)), rule(x1, (4 * x2).astype(other).astype("c16")))
    for n in range(300):  # more shapes than are kept
        x = np.ones((n, 5))
        assert rule(x, x).shape == (n, 5)


BFLOAT16 = DTYPES[-1]


@pytest.mark.parametrize(
    ("dtype1", "dtype2", "expected"),
    [
        ("f4", "f8", "f8"),
        ("f4", "c8", "c8"),
        ("f8", "c8", "c16"),
        ("f2", "f4", "f4"),
        (BFLOAT16, "f4", "f4"),
        ("f2", "c8", "c8"),
        ("i8", "f4", "f8"),
        ("i1", "f4", "f4"),
        ("i8", "i8", "f8"),
        ("u1", "i2", "f8"),
        ("i4", "c8", "c16"),
        (">f4", "f4", "f4"),
        (">i4", ">i8", "f8"),
    ],
)
def test_mixed_inputs_promote_as_numpy_does_and_integers_go_to_float64(dtype1, dtype2, expected, rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    x1, x2 = (rng.integers(0, 9, (40, n)) for n in (3, 5))
    expected = np.dtype(expected)
    for a, b in ((x1.astype(dtype1), x2.astype(dtype2)), (x1.astype(dtype2), x2.astype(dtype1))):
        result = rule(a, b)
        assert result.dtype == expected
        assert np.array_equal(result, rule(x1.astype(expected), x2.astype(expected)))
        assert [g.dtype for g in rule.vjp(result, a, b)] == [expected] * 2
    assert rule(x1.tolist(), x2.tolist()).dtype == np.float64


def test_accumulate_equals_the_rule_for_bare_arrays(rng):
    m1, m2, mu = (rng.integers(0, n, 30) for n in (4, 5, 6))
    C = rng.normal(size=30)
    x1, x2 = rng.normal(size=(4, 9)), rng.normal(size=(5, 9))
    expected = sparseacc.Rule(m1, m2, mu, C, (4, 5, 6))(x1, x2, axis=0)
    out = np.empty((6, 9))
    for index in ("i8", "i4", "u2"):
        columns = [c.astype(index) for c in (mu, m1, m2)]
        assert np.array_equal(sparseacc.accumulate(x1, x2, columns[0], 6, *columns[1:], C, axis=0), expected)
    assert sparseacc.accumulate(x1, x2, list(mu), 6, list(m1), list(m2), list(C), axis=0, out=out) is out
    assert np.array_equal(out, expected)
    m1[:] = 0  # the rule that was kept for the old content must not answer for the new
    assert not np.array_equal(sparseacc.accumulate(x1, x2, mu, 6, m1, m2, C, axis=0), expected)
