"""The symmetric contraction: equivariant, by independent and complete paths, each the chain that it names."""

import itertools
import math
from collections import Counter

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
from sparseacc import clebsch_gordan, symmetric_contraction
from sparseacc.irreps import as_segments

MACE = "0e + 1o + 2e + 3o"


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
