"""Clebsch-Gordan rules against other ways to compute them, and against what they are for: rotations."""

from __future__ import annotations

import decimal
import functools
import itertools
import math
import re
from decimal import Decimal

import numpy as np
import pytest
import scipy.sparse
from harmonics import random_points, real_harmonics, wigner_matrices
from scipy.spatial.transform import Rotation

from sparseacc.angular import clebsch_gordan

EPS = np.finfo(np.float64).eps
BASES = ("complex", "real")
CONVENTIONS = ("librascal", "e3nn")
LARGE = [(30, 30, 30), (30, 30, 60), (30, 29, 2), (17, 30, 25)]


def triples(l_max, l3_max=None):
    """All couplings with l1, l2 <= l_max (and l3 <= l3_max)."""
    for l1, l2 in itertools.product(range(l_max + 1), repeat=2):
        for l3 in range(abs(l1 - l2), min(l1 + l2, l3_max or 2 * l_max) + 1):
            yield l1, l2, l3


# ---- references ----------------------------------------------------------------------------------


@functools.cache
def ladder_coefficients(l1, l2, l3):
    """<l1 m1 l2 m2|l3 m3> as {(m1, m2): Decimal}, by ladder operators alone.

    The state m3 = l3 is the one that J+ annihilates, with a positive first coefficient (Condon and
    Shortley); J- gives the others. J- amplifies a rounding error by at most the ratio of the ladder factors
    of l1 + l2 to those of l3, which makes binom(l1 + l2 + l3, 2 l3) < 10^25 for l1, l2 <= 30 over all
    steps, so that 100 digits leave more than 70.
    """
    with decimal.localcontext(decimal.Context(prec=100)):
        up1, up2, up3 = (
            {m: Decimal((degree - m) * (degree + m + 1)).sqrt() for m in range(-degree, degree + 1)}
            for degree in (l1, l2, l3)
        )
        state = {}
        value = Decimal(1)
        for m1 in range(l1, max(-l1, l3 - l2) - 1, -1):
            state[m1, l3 - m1] = value
            if m1 > max(-l1, l3 - l2):
                value *= -up2[l3 - m1] / up1[m1 - 1]
        norm = sum(c * c for c in state.values()).sqrt()
        state = {m: c / norm for m, c in state.items()}
        result = dict(state)
        for m3 in range(l3 - 1, -l3 - 1, -1):
            lower = {}
            for (m1, m2), c in state.items():
                if m1 > -l1:
                    lower[m1 - 1, m2] = lower.get((m1 - 1, m2), 0) + c * up1[m1 - 1]
                if m2 > -l2:
                    lower[m1, m2 - 1] = lower.get((m1, m2 - 1), 0) + c * up2[m2 - 1]
            state = {m: c / up3[m3] for m, c in lower.items()}
            result.update(state)
    return result


def complex_reference(l1, l2, l3):
    dense = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for (m1, m2), c in ladder_coefficients(l1, l2, l3).items():
        # A zero is a residue of cancellation here, below 1e-70; the smallest other one in use is 3e-18.
        dense[m1 + l1, m2 + l2, m1 + m2 + l3] = c if abs(c) > Decimal("1e-40") else 0
    return dense


def real_to_complex(degree):
    """U[complex m, real m]: complex components are U times the real ones."""
    u = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    u[degree, degree] = 1
    for m in range(1, degree + 1):
        plus, minus = degree + m, degree - m
        u[plus, plus], u[minus, plus] = (-1) ** m / math.sqrt(2), 1 / math.sqrt(2)
        u[plus, minus], u[minus, minus] = 1j * (-1) ** m / math.sqrt(2), -1j / math.sqrt(2)
    return u


def real_reference(l1, l2, l3):
    """The change of basis of the complex reference, densely, with the phase of e3nn."""
    u1, u2, u3 = map(real_to_complex, (l1, l2, l3))
    dense = np.einsum("abc,ai,bj,ck->ijk", complex_reference(l1, l2, l3), u1, u2, u3.conj(), optimize=True)
    dense = dense * (1, -1j, -1, 1j)[(l1 + l2 - l3) % 4]
    # Each entry sums at most 4 products of 4 rounded factors, which add up to at most sqrt(2) in magnitude.
    np.testing.assert_allclose(dense.imag, 0, atol=20 * EPS)
    return dense.real


# ---- values --------------------------------------------------------------------------------------


def test_complex_basis_is_sympys():
    cg = pytest.importorskip("sympy.physics.wigner", reason="sympy is the reference").clebsch_gordan
    for l1, l2, l3 in triples(3, 4):
        dense = clebsch_gordan(l1, l2, l3, basis="complex").to_dense()
        for m1, m2 in itertools.product(range(-l1, l1 + 1), range(-l2, l2 + 1)):
            column = dense[m1 + l1, m2 + l2]
            if abs(m1 + m2) <= l3:
                # Both are the exact number rounded to float64, so they are equal.
                assert column[m1 + m2 + l3] == float(cg(l1, l2, l3, m1, m2, m1 + m2).evalf(30))
                column[m1 + m2 + l3] = 0
            assert not column.any()


def test_complex_basis_is_correctly_rounded():
    # The reference has more than 50 digits even where C is small, so it rounds as the exact number does.
    for degrees in (*triples(12, 12), *LARGE):
        dense = clebsch_gordan(*degrees, basis="complex").to_dense()
        np.testing.assert_array_equal(dense, complex_reference(*degrees), err_msg=f"{degrees}")


def test_real_basis_is_the_unitary_change_of_the_complex_one_up_to_l_12():
    # The promise, 1e-14, holds with room for the reference's own error: at most 20 eps, as it says.
    for degrees in triples(12, 12):
        dense = clebsch_gordan(*degrees, convention="e3nn").to_dense()
        np.testing.assert_allclose(dense, real_reference(*degrees), rtol=0, atol=1e-14, err_msg=f"{degrees}")


@pytest.mark.parametrize("degrees", LARGE, ids=str)
def test_real_basis_is_the_unitary_change_of_the_complex_one_up_to_l_30(degrees):
    # The promise is 1e-12. The reference is as good as for small l, so ask for 1e-14 here too.
    dense = clebsch_gordan(*degrees, convention="e3nn").to_dense()
    np.testing.assert_allclose(dense, real_reference(*degrees), rtol=0, atol=1e-14)


def test_e3nn_convention_is_wigner_3j_of_e3nn():
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is the reference")
    torch = pytest.importorskip("torch", reason="e3nn is made of torch")
    for l1, l2, l3 in (*triples(4), (6, 5, 7), (8, 8, 3), (9, 3, 11), (11, 11, 11)):
        expected = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy() * math.sqrt(2 * l3 + 1)
        # e3nn changes basis densely in float64 (20 eps, as in `real_reference`, times the error of its
        # matrices, whose entries pass through a complex power) and divides by a norm of 23^3 squares.
        dense = clebsch_gordan(l1, l2, l3, convention="e3nn").to_dense()
        np.testing.assert_allclose(dense, expected, rtol=0, atol=1e-13, err_msg=f"{l1, l2, l3}")


def test_conventions_differ_by_the_documented_sign():
    for l1, l2, l3 in triples(5):
        librascal, e3nn = (clebsch_gordan(l1, l2, l3, convention=c) for c in CONVENTIONS)
        sign = (+1, -1, -1, +1)[(l1 + l2 - l3) % 4]
        np.testing.assert_array_equal(librascal.to_dense(), sign * e3nn.to_dense())
        assert clebsch_gordan(l1, l2, l3) == librascal


def test_convention_has_no_effect_in_the_complex_basis():
    for degrees in triples(2):
        librascal, e3nn = (clebsch_gordan(*degrees, basis="complex", convention=c) for c in CONVENTIONS)
        assert librascal == e3nn


def test_two_vectors_couple_to_their_cross_product():
    levi_civita = np.zeros((3, 3, 3))
    for i in range(3):
        levi_civita[i, i - 2, i - 1], levi_civita[i, i - 1, i - 2] = 1, -1
    # (y, z, x) is a cyclic permutation of (x, y, z). Both sides are 1 / sqrt(2) to its last bit or two.
    for convention, sign in (("e3nn", 1), ("librascal", -1)):
        dense = clebsch_gordan(1, 1, 1, convention=convention).to_dense()
        np.testing.assert_allclose(dense, sign * levi_civita / math.sqrt(2), rtol=2 * EPS)


# ---- algebra -------------------------------------------------------------------------------------


def gram_error(l1, l2, basis):
    """The largest deviation of Q^T Q from 1, where Q holds all couplings of l1 and l2 side by side."""
    rows, columns, values = [], [], []
    for l3 in range(abs(l1 - l2), l1 + l2 + 1):
        rule = clebsch_gordan(l1, l2, l3, basis=basis)
        rows.append(rule.m1.astype(int) * (2 * l2 + 1) + rule.m2)
        columns.append(l3**2 - (l1 - l2) ** 2 + rule.mu)  # 2 l + 1 columns for each l before l3
        values.append(rule.C)
    size = (2 * l1 + 1) * (2 * l2 + 1)
    index = (np.concatenate(rows), np.concatenate(columns))
    q = scipy.sparse.csr_array((np.concatenate(values), index), shape=(size, size))
    return abs(q.T @ q - scipy.sparse.eye_array(size)).max()


# An entry of Q^T Q is a sum of n products of numbers with a relative error of eps / 2 each, whose magnitudes
# add up to at most 1 (Cauchy-Schwarz): it is off by at most (n + 2) eps / 2 or so. For one mu there are
# at most 2 terms for each m1, so n <= 2 (2 l + 1).


@pytest.mark.parametrize("basis", BASES)
def test_all_couplings_of_two_degrees_form_an_orthogonal_matrix(basis):
    for l1, l2 in itertools.product(range(9), repeat=2):
        assert gram_error(l1, l2, basis) <= (2 * (2 * l1 + 1) + 2) * EPS / 2


@pytest.mark.parametrize("basis", BASES)
def test_all_couplings_of_two_degrees_form_an_orthogonal_matrix_at_l_30(basis):
    assert gram_error(30, 30, basis) <= (2 * 61 + 2) * EPS / 2  # 1.4e-14; the promise is 1e-12


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_coupling_commutes_with_rotations(convention):
    rng = np.random.default_rng(1)
    for rotation in Rotation.from_quat(rng.normal(size=(3, 4))):
        # A matrix is good to 2e-14; at most 13^2 terms for each of three factors, which add up to less than 13 in
        # magnitude by Cauchy-Schwarz, make it 1e-12.
        wigner = wigner_matrices(6, rotation)
        for l1, l2, l3 in (*triples(3), (5, 4, 6), (6, 6, 5), (2, 6, 6)):
            dense = clebsch_gordan(l1, l2, l3, convention=convention).to_dense()
            rotated_inputs = np.einsum("abk,ai,bj->ijk", dense, wigner[l1], wigner[l2])
            rotated_output = np.einsum("ijc,kc->ijk", dense, wigner[l3])
            np.testing.assert_allclose(rotated_inputs, rotated_output, rtol=0, atol=1e-12)


def test_real_basis_is_that_of_real_spherical_harmonics():
    # Varshalovich, section 5.6: two harmonics at one point couple to that of degree l3 times a positive
    # number and <l1 0 l2 0|l3 0>. For even d the sign of librascal undoes the phase (-i)^d of e3nn.
    points = random_points(np.random.default_rng(2), 50)
    for l1, l2, l3 in triples(4):
        scale = math.sqrt((2 * l1 + 1) * (2 * l2 + 1) / (4 * math.pi * (2 * l3 + 1)))
        scale *= clebsch_gordan(l1, l2, l3, basis="complex").to_dense()[l1, l2, l3]
        coupled = np.einsum(
            "ijk,ni,nj->nk",
            clebsch_gordan(l1, l2, l3).to_dense(),
            real_harmonics(l1, points),
            real_harmonics(l2, points),
        )
        # Harmonics are good to 100 eps, as above, and the rule sums products of two of them, whose
        # magnitudes add up to less than |Y_l1| |Y_l2| = sqrt(9 * 9) / (4 pi) < 1: 1e-13 in all.
        np.testing.assert_allclose(coupled, scale * real_harmonics(l3, points), rtol=0, atol=1e-13)


# ---- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", BASES)
def test_terms_are_sorted_unique_and_none_is_zero(basis):
    for l1, l2, l3 in (*triples(5), (30, 28, 7)):
        rule = clebsch_gordan(l1, l2, l3, basis=basis)
        assert rule.shape == (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
        assert rule.C.dtype == np.float64
        order = list(zip(rule.mu.tolist(), rule.m1.tolist(), rule.m2.tolist(), strict=True))
        assert order == sorted(set(order))
        assert set(range(2 * l3 + 1)) == set(rule.mu.tolist())
        assert np.all(rule.C)


def test_terms_are_exactly_the_nonzero_ones():
    # Up to l = 6 no coefficient is below 1e-3, so whatever is below 1e-12 in a reference is zero.
    for degrees in triples(6, 6):
        for basis, reference in (("complex", complex_reference), ("real", real_reference)):
            rule = clebsch_gordan(*degrees, basis=basis)
            expected = np.abs(reference(*degrees)) > 1e-12
            assert rule.nnz == np.count_nonzero(expected)
            assert np.all(expected[rule.m1, rule.m2, rule.mu])
    # Some zeros follow from no symmetry: <2 1 4 2|5 3> = 0.
    assert clebsch_gordan(2, 4, 5, basis="complex").to_dense()[1 + 2, 2 + 4, 3 + 5] == 0


def test_real_selection_rule():
    for l1, l2, l3 in triples(5):
        rule = clebsch_gordan(l1, l2, l3)
        m1, m2, mu = rule.m1 - l1, rule.m2 - l2, rule.mu - l3
        sines = (m1 < 0).astype(int) + (m2 < 0) + (mu < 0)
        assert np.all(sines % 2 == (l1 + l2 - l3) % 2)
        m1, m2, mu = abs(m1), abs(m2), abs(mu)
        assert np.all((mu == m1 + m2) | (mu == abs(m1 - m2)))


@pytest.mark.parametrize("basis", BASES)
def test_trivial_coupling_is_the_identity(basis):
    for n in range(6):
        assert np.array_equal(clebsch_gordan(0, n, n, basis=basis).to_dense()[0], np.eye(2 * n + 1))
        assert np.array_equal(clebsch_gordan(n, 0, n, basis=basis).to_dense()[:, 0], np.eye(2 * n + 1))


def test_every_integer_type_gives_the_same_cached_rule():
    rule = clebsch_gordan(1, 2, 3)
    assert clebsch_gordan(1, 2, 3, basis="real", convention="librascal") is rule
    for integer in (np.int64, np.int8, np.uint32, np.array):
        assert clebsch_gordan(integer(1), integer(2), integer(3)) is rule
    # 1.0 == True == 1 have one hash, so a cache in front of the checks would let these through.
    for one in (1.0, True):
        with pytest.raises(TypeError):
            clebsch_gordan(one, 2, 3)


def test_arguments_that_give_different_rules_share_no_cache_entry():
    assert clebsch_gordan(1, 2, 2) != clebsch_gordan(1, 2, 2, convention="e3nn")
    assert clebsch_gordan(1, 2, 2) != clebsch_gordan(1, 2, 2, basis="complex")
    assert clebsch_gordan(1, 2, 2) != clebsch_gordan(2, 1, 2)


def test_a_shared_rule_cannot_be_changed():
    rule = clebsch_gordan(1, 1, 2)
    for array in (rule.C, rule.m1, rule.m2, rule.mu):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize(
    "bad", [1.0, np.float64(1), 1j, True, np.True_, "1", None, np.array([1]), np.array([1, 1])], ids=repr
)
def test_degree_that_is_no_integer_is_a_type_error(bad, position):
    degrees = [1, 1, 1]
    degrees[position] = bad
    said = f"l{position + 1} must be an integer, but is {bad!r} ({type(bad).__name__}): pass an int"
    with pytest.raises(TypeError, match=re.escape(said)):
        clebsch_gordan(*degrees)


@pytest.mark.parametrize("position", range(3))
def test_negative_degree_is_a_value_error(position):
    degrees = [1, 1, 1]
    degrees[position] = -7
    with pytest.raises(ValueError, match=f"l{position + 1} is -7, but must not be negative"):
        clebsch_gordan(*degrees)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize(
    ("l1", "l2", "l3", "allowed"), [(2, 5, 2, "3..7"), (2, 5, 8, "3..7"), (5, 2, 9, "3..7"), (0, 0, 1, "0..0")]
)
def test_l3_outside_the_triangle_is_a_value_error_with_the_range(l1, l2, l3, allowed, basis):
    said = f"l3 is {l3}, but l1 = {l1} and l2 = {l2} couple only to l3 in |l1 - l2|..l1 + l2 = {allowed}"
    with pytest.raises(ValueError, match=re.escape(said) + "$"):
        clebsch_gordan(l1, l2, l3, basis=basis)


@pytest.mark.parametrize("bad", ["Real", "", None, 1, ["real"]], ids=repr)
def test_unknown_basis_is_a_value_error_with_the_choices(bad):
    said = f"basis must be 'real' or 'complex', but is {bad!r}"
    with pytest.raises(ValueError, match=re.escape(said)):
        clebsch_gordan(1, 1, 1, basis=bad)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("bad", ["E3NN", "", None, 1, ["e3nn"]], ids=repr)
def test_unknown_convention_is_a_value_error_with_the_choices(bad, basis):
    said = f"convention must be 'librascal' or 'e3nn', but is {bad!r}"
    with pytest.raises(ValueError, match=re.escape(said)):
        clebsch_gordan(1, 1, 1, basis=basis, convention=bad)
