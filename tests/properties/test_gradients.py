"""First and second derivatives: against the oracle, and against each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle, bound, check, eps, wide
from strategies import DTYPES, dtypes, laid_out, numbers, operands, rules

import sparseacc


def like_product(data, rng, rule, x1, x2, axis, dtype):
    shape = np.moveaxis(Oracle(rule, x1, x2, axis).product()[0], axis, -1).shape
    return data.draw(laid_out(np.moveaxis(numbers(rng, shape, dtype), -1, axis)))


@given(st.data(), rules(), dtypes)
def test_vjp_is_within_the_bound(data, rule, dtype):
    x1, x2, axis, rng = operands(data, rule, dtype)
    dy = like_product(data, rng, rule, x1, x2, axis, dtype)
    wrt = data.draw(st.sampled_from([(0, 1), (0,), (1,), ()]))
    gradients = rule.vjp(dy, x1, x2, axis=axis, wrt=wrt)
    for i, (gradient, expected, x) in enumerate(zip(gradients, Oracle(rule, x1, x2, axis, dtype).vjp(dy), (x1, x2))):
        if i in wrt:
            assert gradient.dtype == dtype
            check(gradient, expected, x.shape)
        else:
            assert gradient is None


@given(st.data(), rules(), dtypes)
def test_jvp_is_within_the_bound(data, rule, dtype):
    x1, x2, axis, rng = operands(data, rule, dtype)
    dx1, dx2 = (data.draw(st.one_of(st.none(), laid_out(numbers(rng, x.shape, dtype)))) for x in (x1, x2))
    check(rule.jvp(x1, x2, dx1, dx2, axis=axis), Oracle(rule, x1, x2, axis, dtype).jvp(dx1, dx2))


@given(st.data(), rules(), dtypes)
def test_vjp_vjp_is_within_the_bound(data, rule, dtype):
    x1, x2, axis, rng = operands(data, rule, dtype)
    dy = like_product(data, rng, rule, x1, x2, axis, dtype)
    z1, z2 = (data.draw(st.one_of(st.none(), laid_out(numbers(rng, x.shape, dtype)))) for x in (x1, x2))
    results = rule.vjp_vjp(z1, z2, dy, x1, x2, axis=axis)
    expected = Oracle(rule, x1, x2, axis, dtype).vjp_vjp(z1, z2, dy)
    for result, value, x in zip(results, expected, (dy, x1, x2), strict=True):
        assert result.dtype == dtype
        check(result, value, x.shape)


@given(st.data(), rules(), dtypes)
def test_coefficient_vjp_is_within_the_bound(data, rule, dtype):
    x1, x2, axis, rng = operands(data, rule, dtype)
    dy = like_product(data, rng, rule, x1, x2, axis, dtype)
    result = rule.coefficient_vjp(dy, x1, x2, axis=axis)
    assert result.dtype == dtype
    check(result, Oracle(rule, x1, x2, axis, dtype).coefficient_vjp(dy))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch1", "batch2"),
    [((70,), (70,)), ((70,), ()), ((3, 70), (70,)), ((70, 3), (70, 1)), ((1, 5), (70, 1)), ((5, 1, 90), (1, 4, 1))],
)
def test_every_instruction_set_differentiates_within_the_bound(instruction_set, dtype, batch1, batch2, rng):
    rule = sparseacc.clebsch_gordan(2, 3, 4)
    x1, x2 = numbers(rng, (*batch1, 5), dtype), numbers(rng, (*batch2, 7), dtype)
    oracle = Oracle(rule, x1, x2, dtype=dtype)
    dy = numbers(rng, oracle.product()[0].shape, dtype)
    z1, z2 = numbers(rng, x1.shape, dtype), numbers(rng, x2.shape, dtype)
    for result, expected in zip(rule.vjp(dy, x1, x2), oracle.vjp(dy)):
        check(result, expected)
    for result, expected in zip(rule.vjp_vjp(z1, z2, dy, x1, x2), oracle.vjp_vjp(z1, z2, dy)):
        check(result, expected)
    check(rule.jvp(x1, x2, z1, z2), oracle.jvp(z1, z2))
    check(rule.coefficient_vjp(dy, x1, x2), oracle.coefficient_vjp(dy))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_power_of_two_data_have_exact_gradients(instruction_set, dtype, rng):
    """As for the product; sums over the 4 broadcast entries stay within the 8 bits of bfloat16 as well."""
    m1, m2, mu = (rng.permutation(np.arange(12) % n) for n in (9, 8, 10))
    rule = sparseacc.Rule(m1, m2, mu, 2.0 ** rng.integers(0, 2, 12), (9, 8, 10))
    x1, z1 = np.exp2(rng.integers(0, 2, (2, 30, 4, 9)))
    x2, z2 = np.exp2(rng.integers(0, 2, (2, 30, 1, 8)))
    dy = np.exp2(rng.integers(0, 2, (30, 4, 10)))
    oracle = Oracle(rule, x1, x2)
    arrays = [a.astype(dtype) for a in (z1, z2, dy, x1, x2)]
    results = rule.vjp(*arrays[2:]) + rule.vjp_vjp(*arrays)
    for result, (expected, _) in zip(results, oracle.vjp(dy) + oracle.vjp_vjp(z1, z2, dy), strict=True):
        assert np.array_equal(wide(result), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize(("batch1", "batch2"), [((300,), (300,)), ((1, 40), (30, 1)), ((10, 30), ())])
def test_jvp_and_vjp_are_adjoint(dtype, batch1, batch2, rng):
    """<dy, jvp(dx)> = <vjp(dy), dx> without conjugation. Each side is a sum of the same products C dy x dx, so that it
    is off by at most the bound on a sum of that many terms."""
    rule = sparseacc.clebsch_gordan(3, 2, 3)
    x1, dx1 = (numbers(rng, (*batch1, 7), dtype) for _ in range(2))
    x2, dx2 = (numbers(rng, (*batch2, 5), dtype) for _ in range(2))
    dy = numbers(rng, rule(x1, x2).shape, dtype)
    g1, g2 = rule.vjp(dy, x1, x2)
    left = np.sum(wide(dy) * wide(rule.jvp(x1, x2, dx1, dx2)))
    right = np.sum(wide(g1) * wide(dx1)) + np.sum(wide(g2) * wide(dx2))
    magnitude = Oracle(rule, abs(x1), abs(x2))
    magnitude.rule = sparseacc.Rule(rule.m1, rule.m2, rule.mu, abs(rule.C), rule.shape)
    absolute = np.sum(wide(abs(dy)) * magnitude.jvp(abs(dx1), abs(dx2))[0])
    terms = 2 * max(np.bincount(rule.m1).max(), np.bincount(rule.m2).max(), np.bincount(rule.mu).max())
    assert abs(left - right) <= 2 * bound(terms, absolute, dtype)


def test_second_derivatives_are_symmetric(rng):
    """The Hessian of <dy, product> in (x1, x2): applied to (z1, z2) and paired with (w1, w2), and the other way
    round."""
    rule = sparseacc.clebsch_gordan(2, 3, 3)
    x1, z1, w1 = rng.normal(size=(3, 50, 5))
    x2, z2, w2 = rng.normal(size=(3, 50, 7))
    dy = rng.normal(size=(50, 7))
    _, hz1, hz2 = rule.vjp_vjp(z1, z2, dy, x1, x2)
    _, hw1, hw2 = rule.vjp_vjp(w1, w2, dy, x1, x2)
    left, right = np.sum(w1 * hz1) + np.sum(w2 * hz2), np.sum(z1 * hw1) + np.sum(z2 * hw2)
    size = np.sum(abs(w1 * hz1)) + np.sum(abs(w2 * hz2))
    assert abs(left - right) <= 50 * 12 * float(eps("f8").eps) * size
    assert abs(left) > 1e-3 * size


def test_vjp_vjp_is_the_gradient_of_vjp_by_finite_differences(rng):
    """The pairing is quadratic along any line of (dy, x1, x2), so that a central difference has no truncation error;
    what is left is rounding, eps / h relative to the pairing, with h = 1/8."""
    rule = sparseacc.clebsch_gordan(2, 2, 1)
    point = [rng.normal(size=(6, 3)), rng.normal(size=(6, 5)), rng.normal(size=(1, 5))]
    z1, z2 = rng.normal(size=(6, 5)), rng.normal(size=(1, 5))

    def pairing(dy, x1, x2):
        g1, g2 = rule.vjp(dy, x1, x2)
        return np.sum(z1 * g1) + np.sum(z2 * g2)

    gradients = rule.vjp_vjp(z1, z2, *point)
    for i, gradient in enumerate(gradients):
        direction = rng.normal(size=point[i].shape)
        ahead, behind = ([*point[:i], point[i] + s * direction, *point[i + 1 :]] for s in (1 / 8, -1 / 8))
        slope = (pairing(*ahead) - pairing(*behind)) * 4
        assert abs(slope - np.sum(gradient * direction)) <= 1e-12


def test_none_tangents_are_zeros(rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    x1, x2, dy = rng.normal(size=(9, 5)), rng.normal(size=(9, 3)), rng.normal(size=(9, 5))
    z1, z2 = rng.normal(size=(9, 5)), rng.normal(size=(9, 3))
    for a, b in ((z1, None), (None, z2), (None, None)):
        full = [np.zeros_like(x) if z is None else z for z, x in ((a, x1), (b, x2))]
        assert np.array_equal(rule.jvp(x1, x2, a, b), rule.jvp(x1, x2, *full))
        for result, expected in zip(rule.vjp_vjp(a, b, dy, x1, x2), rule.vjp_vjp(*full, dy, x1, x2)):
            assert np.array_equal(result, expected)


def test_every_derivative_is_a_product_by_a_transposed_rule(rng):
    rule = sparseacc.clebsch_gordan(2, 3, 4)
    x1, x2, dy = rng.normal(size=(9, 5)), rng.normal(size=(9, 7)), rng.normal(size=(9, 9))
    dx1, dx2 = rule.vjp(dy, x1, x2)
    np.testing.assert_allclose(dx1, rule.transpose((2, 1, 0))(dy, x2), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dx2, rule.transpose((2, 0, 1))(dy, x1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("data", ["random", "constant"])
def test_long_float32_sums_over_the_batch_are_nearly_exact(data, rng):
    """They are kept in float64 but for 32 numbers at a time. Adding the million in float32 would be off by 1000 eps
    and more where the data are constant, for then every rounding goes the same way."""
    rule = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))
    n = 1_000_000
    dy, x1 = rng.random((2, n, 1)).astype("f4") if data == "random" else np.full((2, n, 1), 0.7, "f4")
    exact = np.sum(wide(dy) * wide(x1))
    for value in (rule.vjp(dy, x1, np.ones(1, "f4"))[1], rule.coefficient_vjp(dy, x1, np.ones((n, 1), "f4"))):
        assert abs(float(value[0]) - exact) <= 4 * np.finfo("f4").eps * exact
