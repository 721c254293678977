"""Polynomials as values; and those of the symmetric contraction: equivariant, independent, complete."""

import copy
import itertools
import math
import pickle
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from harmonics import wigner_matrices
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import PolynomialOracle
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation
from strategies import irreps

import sparseacc
from sparseacc import Polynomial, Rule, clebsch_gordan, symmetric_contraction
from sparseacc.irreps import as_segments

MACE = "0e + 1o + 2e + 3o"
TERMS = [([[0], [2]], [0, 1], [0, 0], [1.0, -0.0]), ([[0, 1], [1, 1], [0, 1]], [0, 0, 1], [1, 0, 1], [2.0, 3.0, 4.0])]


def value(polynomial, x, weights):
    """Of one channel: x and the result are vectors."""
    return PolynomialOracle(polynomial, x, weights, axis=-1).value()[0]


def tensors(polynomial, degree):
    """The symmetric tensors U[path, mu, m_1, .., m_degree]."""
    n_in, n_out = polynomial.shape
    U = np.zeros((polynomial.num_paths, n_out, *[n_in] * degree))
    for m, mu, path, C in zip(*polynomial.terms[degree - 1], strict=True):
        orders = set(itertools.permutations(m.tolist()))
        for order in orders:
            U[(path, mu, *order)] = C / len(orders)
    return U


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


def test_it_says_what_it_is():
    polynomial = Polynomial(TERMS, (3, 2), num_paths=4)
    assert repr(polynomial) == "Polynomial(shape=(3, 2), degree=2, num_paths=4, nnz=5)"
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


# ---- the symmetric contraction -------------------------------------------------------------------


def representation(text, rotation, inverted):
    """The matrix by which an array of irreps changes, of one channel."""
    segments = as_segments(text, "irreps")
    D = wigner_matrices(max(segment.degree for segment in segments), rotation)
    return block_diag(*(D[s.degree] * (s.parity if inverted else 1) for s in segments))


SINGLE = irreps(multiplicities=(1,), largest=2)


@settings(max_examples=25)
@given(SINGLE, SINGLE, st.integers(1, 3), st.sampled_from(["librascal", "e3nn"]), st.booleans(), st.integers(0, 2**32))
def test_the_result_rotates_and_inverts_as_the_input_does(first, out, degree, convention, inverted, seed):
    rng = np.random.default_rng(seed)
    try:
        polynomial = symmetric_contraction(first, out, degree, convention=convention)
    except ValueError as error:
        assume("nothing couples" not in str(error))
        raise
    rotation = Rotation.from_quat(rng.normal(size=4))
    before, after = (representation(text, rotation, inverted) for text in (first, out))
    x, weights = rng.normal(size=polynomial.shape[0]), rng.normal(size=polynomial.num_paths)
    expected = after @ value(polynomial, x, weights)
    size = value(polynomial, 10 * abs(x) + 1, 0 * weights + 1)
    np.testing.assert_allclose(value(polynomial, before @ x, weights), expected, atol=1e-12 * (1 + abs(size).max()))


def number_by_characters(first, segment, degree):
    """How often an irrep is in a symmetric power, from characters alone.

    The character of a symmetric power is h_n = (p_1 h_(n-1) + .. + p_n h_0) / n, where p_k is that of the k-th power of
    the group's element. The mean over rotations by an angle a has the weight (1 - cos a) / pi in 0..pi; a sum over
    equidistant angles is exact, as all are sums of cosines.
    """
    angles = 2 * np.pi * np.arange(512) / 512
    segments = as_segments(first, "irreps")

    def character(degree, angle):
        return sum(np.cos(m * angle) for m in range(-degree, degree + 1))

    total = 0
    for inversion in (1, -1):
        p = [
            sum((inversion if s.parity == -1 else 1) ** k * character(s.degree, k * angles) for s in segments)
            for k in range(degree + 1)
        ]
        h = [np.ones_like(angles)]
        for n in range(1, degree + 1):
            h.append(sum(p[k] * h[n - k] for k in range(1, n + 1)) / n)
        own = character(segment.degree, angles) * (inversion if segment.parity == -1 else 1)
        total += np.mean(h[degree] * own * (1 - np.cos(angles))) / 2
    assert abs(total - round(total)) < 1e-6
    return round(total)


@pytest.mark.parametrize(
    ("first", "most", "outs"),
    [
        (MACE, 4, "0e + 1o + 2e + 3o + 1e + 0o"),
        ("0e + 1o + 2e + 3o + 4e", 3, "0e + 1o + 4e"),
        ("1e + 0o + 2o + 1o + 0e", 4, "0e + 1o + 2e + 0o + 1e + 2o"),
        ("1o + 1o + 0e + 0e", 4, "0e + 1o + 1e"),
        ("1o", 5, "0e + 1o + 2e + 3o + 5o"),
    ],
)
def test_there_are_as_many_paths_as_characters_say(first, most, outs):
    polynomial = symmetric_contraction(first, outs, most)
    found = Counter(zip(polynomial.paths.out.tolist(), polynomial.paths.degree.tolist(), strict=True))
    for out, segment in enumerate(as_segments(outs, "irreps")):
        for degree in range(1, most + 1):
            assert found[out, degree] == number_by_characters(first, segment, degree)


@pytest.mark.parametrize(("out", "paths", "terms"), [("0e", 8, 94), ("1o", 12, 392), ("2e", 14, 725)])
def test_maces_contraction_has_known_numbers_of_paths_and_few_terms(out, paths, terms):
    polynomial = symmetric_contraction(MACE, out, 3)
    assert np.sum(polynomial.paths.degree == 3) == paths
    assert polynomial.nnz == terms
    assert sum(len(of_degree.C) for of_degree in polynomial.terms) == terms


def every_coupling(text, out, degree):
    """All chains of couplings to an irrep, as dense tensors (2 l + 1, n, .., n), not symmetrised."""
    segments = as_segments(text, "irreps")
    ends = list(itertools.accumulate(s.dim for s in segments))
    inputs = [(s, np.eye(ends[-1])[end - s.dim : end]) for s, end in zip(segments, ends)]
    found = [(s.degree, s.parity, tensor) for s, tensor in inputs]
    for _ in range(degree - 1):
        found = [
            (
                l3,
                parity * s.parity,
                np.einsum("abc,a...,bk->c...k", clebsch_gordan(l1, s.degree, l3).to_dense(), left, right),
            )
            for l1, parity, left in found
            for s, right in inputs
            for l3 in range(abs(l1 - s.degree), l1 + s.degree + 1)
        ]
    return [tensor for l3, parity, tensor in found if (l3, parity) == (out.degree, out.parity)]


@pytest.mark.parametrize(
    ("first", "out", "degree"),
    [
        ("0e + 1o + 2e", "0e", 3),
        ("0e + 1o + 2e", "2e", 3),
        (MACE, "1o", 3),
        ("1o + 0e", "1o", 4),
        ("0o + 1e + 1o", "0o", 3),
        ("1o + 1o", "1e", 2),
    ],
)
def test_paths_span_what_all_symmetrised_couplings_span_and_are_independent(first, out, degree):
    (segment,) = as_segments(out, "irreps")
    polynomial = symmetric_contraction(first, out, degree)
    ours = tensors(polynomial, degree)[polynomial.paths.degree == degree].reshape(
        -1, segment.dim * polynomial.shape[0] ** degree
    )
    brute = []
    for tensor in every_coupling(first, segment, degree):
        orders = [(0, *(1 + i for i in order)) for order in itertools.permutations(range(degree))]
        brute.append((sum(tensor.transpose(order) for order in orders) / len(orders)).ravel())
    rank = np.linalg.matrix_rank(ours, tol=1e-3)
    assert rank == len(ours)
    assert np.linalg.matrix_rank(np.array(brute), tol=1e-8) == rank
    assert np.linalg.matrix_rank(np.vstack([ours, brute]), tol=1e-8) == rank


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_each_path_is_a_tensor_of_norm_one_for_each_component(degree):
    polynomial = symmetric_contraction(MACE, "0e + 1o + 2e", degree)
    squares = np.sum(tensors(polynomial, degree) ** 2, axis=tuple(range(2, 2 + degree)))
    for path, of_path in enumerate(squares):
        rows = polynomial.paths.rows_out[path] if polynomial.paths.degree[path] == degree else (0, 0, 1)
        expected = np.zeros(polynomial.shape[1])
        expected[slice(*rows)] = 1
        np.testing.assert_allclose(of_path, expected, atol=1e-14)


@pytest.mark.parametrize("convention", ["librascal", "e3nn"])
@pytest.mark.parametrize(("first", "outs"), [(MACE, "0e + 1o + 2e"), ("1o + 0e + 1e", "1o + 0e + 1e")])
def test_a_path_is_the_chain_of_couplings_that_it_names(rng, convention, first, outs):
    polynomial = symmetric_contraction(first, outs, 3, convention=convention)
    segments = as_segments(first, "irreps")
    ends = list(itertools.accumulate(s.dim for s in segments))
    x = rng.normal(size=polynomial.shape[0])
    parts = [x[end - s.dim : end] for s, end in zip(segments, ends, strict=True)]
    wanted = as_segments(outs, "irreps")
    for path, result in zip(polynomial.paths, value(polynomial, x, np.eye(polynomial.num_paths)), strict=True):
        factors, degrees = path.factors[: path.degree].tolist(), path.couplings[: path.degree].tolist()
        assert (path.l3, path.parity) == (wanted[path.out].degree, wanted[path.out].parity)
        assert math.prod(segments[i].parity for i in factors) == path.parity
        assert degrees[-1] == path.l3
        assert np.all(path.factors[path.degree :] == -1)
        chain = parts[factors[0]]
        for i, l1, l3 in zip(factors[1:], degrees, degrees[1:]):
            chain = clebsch_gordan(l1, segments[i].degree, l3, convention=convention)(chain, parts[i])
        ratio = np.linalg.norm(result) / np.linalg.norm(chain)
        expected = np.zeros_like(result)
        expected[slice(*path.rows_out)] = ratio * chain
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_paths_are_sorted_by_output_degree_and_chain():
    paths = symmetric_contraction(MACE, "1o + 0e + 1o", 3).paths
    keys = [(p.out, p.degree, *p.factors.tolist(), *p.couplings.tolist()) for p in paths]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert paths.dtype.names == ("degree", "out", "l3", "parity", "multiplicity", "rows_out", "factors", "couplings")


def test_channels_do_not_change_the_polynomial():
    many, one = symmetric_contraction("64x0e + 64x1o", "64x1o", 3), symmetric_contraction("0e + 1o", "1o", 3)
    assert many == one
    assert (many.channels, one.channels, many.paths.multiplicity[0]) == (64, 1, 64)
    assert (many.irreps_in, many.irreps_out) == ("64x0e+64x1o", "64x1o")


def test_equal_arguments_give_the_same_object():
    made = symmetric_contraction("4x0e + 4x1o", "4x0e", 2)
    assert symmetric_contraction(" 4x0e+4x1y", "4x0e", np.int8(2), convention="librascal") is made
    assert symmetric_contraction("4x0e + 4x1o", "4x0e", 3) != made


def test_a_segment_that_nothing_couples_to_is_zero(rng):
    polynomial = symmetric_contraction("0e + 1o", "1e + 0e", 2)
    assert set(polynomial.paths.out.tolist()) == {1}
    result = value(polynomial, rng.normal(size=4), np.ones(polynomial.num_paths))
    assert np.all(result[:3] == 0)
    assert result[3] != 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("4x0e + 8x1o", "4x0e", 2),
            ValueError,
            r"irreps_in must have one mult.* has \[4, 8\]: .*'4x0e\+8x1o'",
        ),
        (
            ("4x0e + 4x1o", "8x0e", 2),
            ValueError,
            r"irreps_out must .* of irreps_in, 4, .* has \[8\]",
        ),
        (
            ("4x0e", "4x0e + 8x1o", 2),
            ValueError,
            r"irreps_out must .* of irreps_in, 4, .* has \[4, 8\]",
        ),
        (("0x0e", "0e", 2), ValueError, r"irreps_in must have one multiplicity .* has \[0\]"),
        (("", "0e", 2), ValueError, "irreps_in is empty"),
        (("0e", "", 2), ValueError, "irreps_out is empty"),
        (("0e", "0e", 0), ValueError, "degree is 0, but must be at least 1"),
        (("0e", "0e", -1), ValueError, "degree is -1, but must not be negative"),
        (("0e", "0e", 1.5), TypeError, "degree must be an integer"),
        (("0e", "1o", 3), ValueError, "nothing couples: irreps_in is '1x0e', irreps_out is '1x1o' and degree is 3"),
        (("0z", "1o", 3), ValueError, "irreps_in: '0z' is no irrep"),
        ((3, "1o", 3), TypeError, "irreps_in must be text"),
    ],
)
def test_bad_arguments_are_one_error(arguments, error, message):
    with pytest.raises(error, match=message):
        symmetric_contraction(*arguments)


def test_an_unknown_convention_is_an_error():
    with pytest.raises(ValueError, match="convention must be 'librascal' or 'e3nn', but is 'mace'"):
        symmetric_contraction("0e", "0e", 1, convention="mace")


def test_what_is_kept_is_counted_and_given_back():
    sparseacc.cache_clear()
    symmetric_contraction(MACE, "0e", 3)
    kept = sparseacc.cache_info()["symmetric contractions"]
    assert kept.entries == 1
    assert kept.bytes > 0
