"""Straight-line code for common rules: it is used where it should be, and its numbers are bitwise those of the loop
that every rule has."""

import numpy as np
import pytest
from oracle import Oracle
from rows import at, data, same

import sparseacc
from sparseacc.algebra import COEFFICIENT_VJP, FORWARD, JVP, VJP, VJP_VJP
from sparseacc.cpu.programs import Program

pytestmark = pytest.mark.usefixtures("straight_line_code")
OPERATIONS = (FORWARD, VJP, VJP_VJP)


def couplings(most):
    return [
        (l1, l2, l3)
        for l1 in range(most + 1)
        for l2 in range(most + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, most) + 1)
    ]


def straight(rule, operation, dtype="f4"):
    program = Program(rule, operation, (True,) * len(operation.outputs), np.dtype(dtype))
    return program.pointer.straight


def not_recognised(rule):
    """The same terms for a first input that has a column more, which is none of theirs: a rule for the loop."""
    n1, n2, n_out = rule.shape
    return sparseacc.Rule(rule.m1, rule.m2, rule.mu, rule.C, (n1 + 1, n2, n_out))


def results(rule, arrays, axis):
    x1, x2, z1, z2, dy = arrays
    return rule(x1, x2, axis=axis), *rule.vjp(dy, x1, x2, axis=axis), *rule.vjp_vjp(z1, z2, dy, x1, x2, axis=axis)


def results_of_the_loop(rule, arrays, axis):
    x1, x2, z1, z2, dy = arrays
    n1 = rule.shape[0]
    one_more = [(0, 0)] * x1.ndim
    one_more[axis] = (0, 1)
    loop = results(not_recognised(rule), (np.pad(x1, one_more), x2, np.pad(z1, one_more), z2, dy), axis)
    cut = [slice(None)] * x1.ndim
    cut[axis] = slice(n1)
    return [r[tuple(cut)] if k in (1, 4) else r for k, r in enumerate(loop)]


def test_the_rules_that_have_straight_line_code():
    for degrees in couplings(5):
        for convention in ("librascal", "e3nn"):
            rule = sparseacc.clebsch_gordan(*degrees, convention=convention)
            for operation in OPERATIONS:
                assert straight(rule, operation)
                assert straight(rule, operation, "f8")
            for which in range(2):  # the gradients one by one are products by other couplings
                wanted = (which == 0, which == 1)
                program = Program(rule, VJP.restricted((True,) * 3, wanted), wanted, np.dtype("f4"))
                assert program.pointer.straight


def test_no_other_program_is_taken_for_one_of_them():
    """A program of the same code reads and writes rows of other lengths, or another code is as long."""
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    assert straight(rule, FORWARD)
    others = [
        not_recognised(rule),
        sparseacc.Rule(rule.m1, rule.m2, rule.mu, rule.C, (3, 5, 6)),
        sparseacc.Rule(rule.m1[::-1], rule.m2, rule.mu, rule.C, rule.shape),
        sparseacc.Rule(rule.m1, rule.m2, rule.mu, np.arange(1.0, rule.nnz + 1), rule.shape),
        sparseacc.clebsch_gordan(1, 2, 2, basis="complex"),
        sparseacc.clebsch_gordan(6, 6, 6),
    ]
    assert not any(straight(other, FORWARD) for other in others)
    assert not straight(rule, FORWARD, "c8")
    assert not straight(rule, COEFFICIENT_VJP)
    assert not straight(rule, JVP)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_coupling_equals_the_loop_bitwise_in_rows_and_in_columns(instruction_set, dtype, rng):
    """Whole blocks and an incomplete one; of channels, columns in place."""
    for degrees in couplings(5):
        rule = sparseacc.clebsch_gordan(*degrees)
        for shape, axis in (((41,), -1), ((2, 32), -2)):
            arrays = data(rule, shape, axis, dtype, rng)
            assert same(results(rule, arrays, axis), results_of_the_loop(rule, arrays, axis)), degrees


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rows", [1, 3, 4, 7, 8, 9, 15, 16, 17, 64, 1000, 300_000])
def test_any_number_of_rows_at_any_address_equals_the_loop(instruction_set, dtype, rows, rng):
    """300,000 are written past the caches, where they are aligned."""
    rule = sparseacc.clebsch_gordan(2, 1, 3)
    arrays = data(rule, (rows,), -1, dtype, rng)
    expected = results_of_the_loop(rule, arrays, -1)
    for offset in range(0, 16, 1 if rows < 1000 else 7):
        moved = [at(a, (offset * (k + 1)) % 16) for k, a in enumerate(arrays)]
        assert same(results(rule, moved, -1), expected)
    odd = [np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape) for a in arrays]
    assert same(results(rule, odd, -1), expected)


@pytest.mark.parametrize("shape", [(3, 64), (3, 70), (2, 3, 129), (5, 20)])
def test_rows_of_a_batch_that_is_not_one_dimension_equal_the_loop(instruction_set, shape, rng):
    rule = sparseacc.clebsch_gordan(2, 2, 1)
    arrays = [np.repeat(a, 2, axis=0)[::2] for a in data(rule, shape, -1, "f4", rng)]  # every other one of the first
    assert same(results(rule, arrays, -1), results_of_the_loop(rule, arrays, -1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(64,), (3, 64), (2, 3, 144), (2, 70), (4, 1040), (100_000,), (300, 256), (900, 512)])
def test_columns_in_place_equal_the_loop(instruction_set, dtype, shape, rng):
    """In pieces of many sizes. The largest are fetched ahead, and written past the caches if they are aligned."""
    rule = sparseacc.clebsch_gordan(2, 1, 3)
    arrays = data(rule, shape, -2, dtype, rng)
    expected = results_of_the_loop(rule, arrays, -2)
    for offset in (0, 1, 4):
        moved = [at(a, offset * (k + 1) % 16) for k, a in enumerate(arrays)]
        assert same(results(rule, moved, -2), expected)
        out = at(np.full_like(expected[0], np.nan), offset)
        rule(*moved[:2], axis=-2, out=out)
        assert np.array_equal(out, expected[0])
    sparseacc.set_num_threads(3)
    assert same(results(rule, arrays, -2), expected)


@pytest.mark.parametrize("gap", [0, 4, 16])
def test_large_columns_that_begin_anywhere_equal_the_loop(instruction_set, gap, rng):
    """Results are written past the caches only where all of their vectors begin at a cache line."""
    rule = sparseacc.clebsch_gordan(2, 1, 3)
    x1, x2, _, _, dy = data(rule, (900, 512), 1, "f4", rng)
    memory = at(np.zeros((900, dy[0].size + gap), "f4"), 0)
    out = memory[:, : dy[0].size].reshape(dy.shape)
    assert np.shares_memory(out, memory)
    rule(x1, x2, axis=1, out=out)
    assert np.array_equal(out, not_recognised(rule)(np.pad(x1, ((0, 0), (0, 1), (0, 0))), x2, axis=1))


@pytest.mark.parametrize("channels", [64, 208])
def test_columns_of_a_part_of_an_array_equal_the_loop(instruction_set, channels, rng):
    """Of a larger array whose other numbers are NaN before, and after."""
    rule = sparseacc.clebsch_gordan(2, 2, 1)
    around = [np.full((5, n + 1, 2, channels + 16), np.nan, "f4") for n in rule.shape]
    x1, x2, out = (a[1:4, 1:, 1, 8:-8] for a in around)
    x1[...], x2[...] = (rng.normal(size=a.shape) for a in (x1, x2))
    rule(x1, x2, axis=1, out=out)
    assert np.array_equal(out, rule(x1.swapaxes(1, 2).copy(), x2.swapaxes(1, 2).copy()).swapaxes(1, 2))
    assert np.isnan(around[2]).sum() == around[2].size - out.size


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_product_with_one_input_for_many_rows_is_right(instruction_set, dtype, rng):
    rule = sparseacc.clebsch_gordan(3, 2, 1)
    for left, right in (((3, 100), (100,)), ((100,), (3, 100)), ((3, 100), (3, 1)), ((100,), ())):
        x1, x2 = rng.normal(size=(*left, 7)).astype(dtype), rng.normal(size=(*right, 5)).astype(dtype)
        oracle = Oracle(rule, x1, x2)
        expected, bound = oracle.product()
        y = rule(x1, x2)
        assert np.all(abs(y - expected) <= bound)
        for gradient, (expected, bound) in zip(rule.vjp(y, x1, x2), oracle.vjp(y), strict=True):
            assert np.all(abs(gradient - expected) <= bound)


def test_memory_around_the_rows_is_neither_read_nor_written(instruction_set, rng):
    """Numbers that are not part of the arrays are NaN before, and after."""
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    for rows in (1, 5, 16, 20, 33):
        for offset in (0, 1, 5):
            around = [np.full(7 * (rows + 40), np.nan, "f4") for _ in range(3)]
            arrays = [a[7 * 20 + offset :][: 7 * rows].reshape(rows, 7) for a in around]
            x1, x2, out = arrays
            x1[...], x2[...] = rng.normal(size=(2, rows, 7))
            rule(x1, x2, out=out)
            assert np.isfinite(out).all()
            assert np.isnan(around[2]).sum() == around[2].size - out.size
