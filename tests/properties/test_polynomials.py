"""Polynomials as values: immutable, hashable, comparable, picklable; and the oracle of their derivatives."""

import copy
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import PolynomialOracle

from sparseacc import Polynomial, Rule, symmetric_contraction

TERMS = [([[0], [2]], [0, 1], [0, 0], [1.0, -0.0]), ([[0, 1], [1, 1], [0, 1]], [0, 0, 1], [1, 0, 1], [2.0, 3.0, 4.0])]


# ---- the value -----------------------------------------------------------------------------------


@given(st.permutations(range(6)), st.lists(st.permutations(range(3)), min_size=6, max_size=6))
def test_the_order_of_terms_and_of_factors_does_not_matter(order, orders):
    m = np.array([[0, 1, 2], [0, 0, 1], [2, 2, 2], [0, 1, 2], [1, 1, 2], [0, 0, 0]])
    mu, path, C = np.array([0, 1, 0, 1, 1, 0]), np.array([1, 0, 0, 1, 0, 1]), np.arange(1.0, 7.0)
    empty = ([], [], [], [])
    straight = Polynomial([empty, empty, (m, mu, path, C)], (3, 2))
    shuffled = np.array([row[list(of_row)] for row, of_row in zip(m, orders)])
    mixed = Polynomial([empty, empty, tuple(column[list(order)] for column in (shuffled, mu, path, C))], (3, 2))
    assert mixed == straight
    assert hash(mixed) == hash(straight)
    kept = mixed.terms[2]
    assert np.all(kept.m[:, :-1] <= kept.m[:, 1:])
    keys = [(*row, o, p) for row, o, p in zip(kept.m.tolist(), kept.mu.tolist(), kept.path.tolist())]
    assert keys == sorted(set(keys))
    assert sorted(kept.C) == sorted(C)


def test_terms_that_repeat_add_up():
    polynomial = Polynomial([([], [], [], []), ([[1, 0], [0, 1]], [0, 0], [0, 0], [1.0, -1.0])], (2, 1))
    assert polynomial.nnz == 1
    assert polynomial.terms[1].C.tolist() == [0.0]  # which times infinity is not a number


def test_terms_are_sorted_and_add_up_where_their_indices_are_too_large_for_one_number_of_64_bits():
    large, rng = 2**31 - 2, np.random.default_rng(0)
    m = np.sort(rng.choice([0, 1, 5, large - 1, large], (60, 4)), axis=1)
    polynomial = Polynomial([([],) * 4] * 3 + [(m, [large] * 60, [3] * 60, np.ones(60))], (large + 1,) * 2)
    unique, number = np.unique(m, axis=0, return_counts=True)
    assert polynomial.terms[3].m.tolist() == unique.tolist()
    assert polynomial.terms[3].C.tolist() == number.tolist()


def test_it_says_what_it_is():
    polynomial = Polynomial(TERMS, (3, 2), num_paths=4)
    assert repr(polynomial).startswith("Polynomial(shape=(3, 2), degree=2, num_paths=4, nnz=5, digest=")
    assert [of_degree.m.shape for of_degree in polynomial.terms] == [(2, 1), (3, 2)]
    assert [column.dtype for column in polynomial.terms[1]] == [np.int32, np.int32, np.int32, np.float64]
    assert Polynomial(TERMS, (3, 2)).num_paths == 2
    nothing = Polynomial([], (3, 2))
    assert (nothing.degree, nothing.num_paths, nothing.nnz, nothing.terms) == (0, 0, 0, ())


def test_equal_polynomials_are_those_of_equal_terms():
    polynomial = Polynomial(TERMS, (3, 2))
    assert polynomial == Polynomial(TERMS, (3, 2))
    different = [
        Polynomial(TERMS, (4, 2)),
        Polynomial(TERMS, (3, 2), num_paths=3),
        Polynomial(TERMS[:1], (3, 2)),
        Polynomial([*TERMS, ([], [], [], [])], (3, 2)),
        Polynomial([TERMS[0], (*TERMS[1][:3], [2.0, 3.0, 5.0])], (3, 2)),
    ]
    assert all(other != polynomial for other in different)
    assert len({polynomial, Polynomial(TERMS, (3, 2)), *different}) == 6
    assert Polynomial([], (1, 1)) != Rule([], [], [], [], (1, 1, 1))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_way_to_copy_keeps_content_and_class(protocol):
    for made in (Polynomial(TERMS, (3, 2), num_paths=4), symmetric_contraction("2x0e + 2x1o", "2x1o", 3)):
        for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made, protocol))):
            assert other == made
            assert hash(other) == hash(made)
            assert type(other) is type(made)
            assert repr(other) == repr(made)
            assert np.array_equal(getattr(other, "paths", 0), getattr(made, "paths", 0))


def test_a_pickle_is_checked_when_it_is_loaded():
    written = pickle.dumps(Polynomial([([[1]], [0], [0], [77.0])], (2, 1)), 4)
    assert written.count(np.float64(77).tobytes()) == 1
    forged = written.replace(np.float64(77).tobytes(), np.float64(np.inf).tobytes())
    with pytest.raises(ValueError, match="is inf: coefficients must be finite"):
        pickle.loads(forged)


def test_nobody_can_change_it():
    polynomial = Polynomial(TERMS, (3, 2))
    before = hash(polynomial)
    for column in polynomial.terms[0]:
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    with pytest.raises(AttributeError, match="a Polynomial is immutable: make a new one instead of setting 'shape'"):
        polynomial.shape = (5, 5)
    with pytest.raises(AttributeError, match="a Polynomial is immutable: 'shape' cannot be deleted"):
        del polynomial.shape
    with pytest.raises(TypeError, match="a Polynomial is immutable: make a new one instead of calling __init__ again"):
        polynomial.__init__([], (1, 1))
    assert hash(polynomial) == before


def test_one_that_was_never_initialised_says_so():
    unfinished = Polynomial.__new__(Polynomial)
    with suppress(ValueError):
        unfinished.__init__([([[0]], [0], [0], [np.nan])], (1, 1))
    for ask in (lambda p: p.terms, lambda p: p.nnz, lambda p: p.shape, hash, repr, pickle.dumps):
        with pytest.raises(ValueError, match="this Polynomial was never initialised"):
            ask(unfinished)


@pytest.mark.parametrize(
    ("terms", "shape", "error", "message"),
    [
        (3, (1, 1), TypeError, r"terms must be a sequence of \(m, mu, path, C\), one for each degree"),
        ([([[0]], [0], [0])], (1, 1), TypeError, r"terms must be a sequence of \(m, mu, path, C\)"),
        ([], (1, 1, 1), TypeError, r"shape must be two integers \(n_in, n_out\), not \(1, 1, 1\)"),
        ([], (1, -1), ValueError, "shape: n_out is -1, but must be between 0"),
        (
            [([[0, 1]], [0], [0], [1.0])],
            (2, 1),
            ValueError,
            r"terms\[0\].m must .* shape \(nnz, 1\).* has \(1, 2\)",
        ),
        ([([0], [0], [0], [1.0])], (2, 1), ValueError, r"terms\[0\].m must have the shape \(nnz, 1\).* has \(1,\)"),
        ([([[0], [0, 1]], [0], [0], [1.0])], (2, 1), ValueError, r"terms\[0\].m cannot be made an array"),
        (
            [([[2]], [0], [0], [1.0])],
            (2, 1),
            ValueError,
            r"terms\[0\].m\[:, 0\]\[0\] is 2, but must be between 0",
        ),
        ([([[0.5]], [0], [0], [1.0])], (2, 1), TypeError, r"terms\[0\].m\[:, 0\] must hold integers"),
        ([([[0]], [1], [0], [1.0])], (2, 1), ValueError, r"terms\[0\].mu\[0\] is 1, but must be between 0 and 0"),
        ([([[0]], [0], [-1], [1.0])], (2, 1), ValueError, r"terms\[0\].path\[0\] is -1"),
        ([([[0]], [0], [0], [np.nan])], (2, 1), ValueError, r"terms\[0\].C\[0\] is nan: coefficients must be finite"),
        ([([[0]], [0], [0], [1j])], (2, 1), TypeError, r"terms\[0\].C must hold real numbers"),
        ([([[0]], [0, 0], [0], [1.0])], (2, 1), ValueError, r"terms\[0\]: m, mu, path and C .* mu has 2 and m has 1"),
        (
            [([[0], [0]], [0, 0], [0, 0], [1e308] * 2)],
            (2, 1),
            ValueError,
            r"m = \[0\], mu = 0 and path = 0 add up",
        ),
    ],
)
def test_bad_terms_are_one_error(terms, shape, error, message):
    with pytest.raises(error, match=message):
        Polynomial(terms, shape)


@pytest.mark.parametrize(
    ("num_paths", "error", "message"),
    [
        (1, ValueError, r"terms\[1\].path\[0\] is 1, but must be between 0 and 0 \(num_paths is 1\)"),
        (-1, ValueError, "num_paths is -1"),
        ("2", TypeError, "num_paths must be an integer, not '2'"),
    ],
)
def test_bad_numbers_of_paths_are_one_error(num_paths, error, message):
    with pytest.raises(error, match=message):
        Polynomial(TERMS, (3, 2), num_paths=num_paths)


# ---- the oracle ----------------------------------------------------------------------------------


def slope(function, most):
    """The derivative at 0 of a polynomial of degree up to 4, exact but for rounding."""
    assert most <= 4
    return (function(-2) - 8 * function(-1) + 8 * function(1) - function(2)) / 12


@pytest.mark.parametrize("rows", [None, [0, 2, 2, 0]])
def test_the_oracles_derivatives_are_those_of_its_value(rng, rows):
    polynomial = symmetric_contraction("2x0e + 2x1o", "2x0e + 2x1o", 2)
    x, dy, zx, q, u = (rng.normal(size=(4, 4, 2)) for _ in range(5))
    weights, zw, v = (rng.normal(size=(3 if rows else 4, polynomial.num_paths, 2)) for _ in range(3))
    oracle = PolynomialOracle(polynomial, x, weights, rows_of_weights=rows)

    def first(x, weights):
        return np.sum(dy * PolynomialOracle(polynomial, x, weights, rows_of_weights=rows).value()[0])

    def second(x, weights, dy):
        (dx, _), (dw, _) = PolynomialOracle(polynomial, x, weights, rows_of_weights=rows).vjp(dy)
        return np.sum(dx * zx) + np.sum(dw * zw)

    dx, dw = (gradient for gradient, _ in oracle.vjp(dy))
    np.testing.assert_allclose(slope(lambda h: first(x + h * zx, weights), 2), np.sum(dx * zx), rtol=1e-12)
    np.testing.assert_allclose(slope(lambda h: first(x, weights + h * zw), 1), np.sum(dw * zw), rtol=1e-12)
    of_dy, of_x, of_weights = (gradient for gradient, _ in oracle.vjp_vjp(zx, zw, dy))
    np.testing.assert_allclose(second(x, weights, q), np.sum(of_dy * q), rtol=1e-12)
    np.testing.assert_allclose(slope(lambda h: second(x + h * u, weights, dy), 2), np.sum(of_x * u), rtol=1e-11)
    np.testing.assert_allclose(slope(lambda h: second(x, weights + h * v, dy), 1), np.sum(of_weights * v), rtol=1e-11)
