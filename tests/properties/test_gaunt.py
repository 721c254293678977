"""Gaunt coefficients: integrals over the sphere, by quadrature and by another library."""

import itertools
import math

import numpy as np
import pytest
from harmonics import real_harmonics

import sparseacc

EPS = np.finfo(np.float64).eps


def triangles(most):
    for l1, l2 in itertools.product(range(most + 1), repeat=2):
        for l3 in range(abs(l1 - l2), l1 + l2 + 1):
            yield l1, l2, l3


def sphere(degree):
    """Points and weights that integrate polynomials of a degree over the sphere: Gauss in z, equal steps around it."""
    z, of_z = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2 * math.pi * np.arange(degree + 1) / (degree + 1)
    z, around = (a.ravel() for a in np.meshgrid(z, phi, indexing="ij"))
    s = np.sqrt(1 - z * z)
    return np.stack([s * np.cos(around), s * np.sin(around), z], -1), np.repeat(of_z, degree + 1) * phi[1]


def test_coefficients_are_integrals_of_three_harmonics():
    points, weights = sphere(24)
    harmonics = [real_harmonics(degree, points) for degree in range(13)]
    for l1, l2, l3 in triangles(6):
        integrals = np.einsum("n,ni,nj,nk->ijk", weights, harmonics[l1], harmonics[l2], harmonics[l3], optimize=True)
        # A harmonic is good to 100 eps (harmonics.py), and a sum of the magnitudes of three harmonics over the sphere
        # is below 4 pi sqrt(13 * 13 * 25 / (4 pi)^3) < 20.
        dense = sparseacc.gaunt(l1, l2, l3).to_dense()
        np.testing.assert_allclose(dense, integrals, rtol=0, atol=20 * 100 * EPS, err_msg=f"{l1, l2, l3}")


def test_coefficients_are_exact_to_their_last_bits():
    gaunt = pytest.importorskip("sympy.physics.wigner", reason="sympy is the reference").gaunt
    for l1, l2, l3 in [*triangles(3), (12, 12, 12), (12, 11, 9), (30, 30, 30)]:
        # The integral of three harmonics of order 0, which are the same in both bases.
        expected = float(gaunt(l1, l2, l3, 0, 0, 0, prec=30))
        value = sparseacc.gaunt(l1, l2, l3).to_dense()[l1, l2, l3]
        assert value == pytest.approx(expected, rel=1e-14, abs=0)


def test_coefficients_do_not_change_when_harmonics_are_exchanged():
    for degrees in triangles(4):
        rule = sparseacc.gaunt(*degrees)
        for order in itertools.permutations(range(3)):
            other = sparseacc.gaunt(*(degrees[i] for i in order))
            np.testing.assert_allclose(rule.transpose(order).to_dense(), other.to_dense(), rtol=0, atol=4 * EPS)


def test_harmonics_at_a_point_multiply_by_them():
    points, _ = sphere(5)
    for l1, l2 in itertools.product(range(4), repeat=2):
        product = real_harmonics(l1, points)[:, :, None] * real_harmonics(l2, points)[:, None, :]
        total = sum(
            np.einsum("ijk,nk->nij", sparseacc.gaunt(l1, l2, l3).to_dense(), real_harmonics(l3, points))
            for l3 in range(abs(l1 - l2), l1 + l2 + 1)
        )
        np.testing.assert_allclose(total, product, rtol=0, atol=1e-13)


def test_an_odd_sum_of_degrees_has_no_terms():
    for l1, l2, l3 in triangles(4):
        rule = sparseacc.gaunt(l1, l2, l3)
        assert (rule.nnz == 0) == bool((l1 + l2 + l3) % 2)
        assert rule.shape == (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)


@pytest.mark.parametrize(
    ("degrees", "error", "message"),
    [
        ((1, 1, 3), ValueError, r"l3 is 3, but l1 = 1 and l2 = 1 couple only to l3 in .* = 0\.\.2"),
        ((1, -1, 0), ValueError, "l2 is -1, but must not be negative"),
        ((1, 1, 2.0), TypeError, "l3 must be an integer, but is 2.0"),
        ((True, 1, 2), TypeError, "l1 must be an integer, but is True"),
    ],
)
def test_bad_degrees_are_one_error(degrees, error, message):
    with pytest.raises(error, match=message):
        sparseacc.gaunt(*degrees)
