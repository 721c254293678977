"""What docs/theory.md says of conventions is so: of the packages that are installed, and of the coefficients here."""

import itertools
import math

import numpy as np
import pytest
from harmonics import random_points, real_harmonics, wigner_matrices
from scipy.spatial.transform import Rotation

import sparseacc

DEGREES = range(5)
FACTORS = {
    "integral": lambda degree: 1,
    "component": lambda degree: math.sqrt(4 * math.pi),
    "norm": lambda degree: math.sqrt(4 * math.pi / (2 * degree + 1)),
}
"""What the orthonormal harmonics of a degree are times, in each normalisation."""
SQUARES = {
    "integral": lambda degree: (2 * degree + 1) / (4 * math.pi),
    "component": lambda degree: 2 * degree + 1,
    "norm": lambda degree: 1,
}
"""What the squares of a degree add up to at every point."""


@pytest.fixture(scope="module")
def points():
    return random_points(np.random.default_rng(0), 50)


def harmonics(points, normalization):
    """Those of all degrees, one after the other."""
    return np.concatenate([FACTORS[normalization](n) * real_harmonics(n, points) for n in DEGREES], axis=1)


def triples(most):
    for l1, l2 in itertools.product(range(most + 1), repeat=2):
        for l3 in range(abs(l1 - l2), l1 + l2 + 1):
            yield l1, l2, l3


# ---- harmonics, which are good to 100 eps here (harmonics.py), and not much worse elsewhere ------


@pytest.mark.parametrize("normalization", FACTORS)
def test_squares_of_a_degree_add_up_as_the_normalisation_says(normalization, points):
    for degree in DEGREES:
        values = FACTORS[normalization](degree) * real_harmonics(degree, points)
        np.testing.assert_allclose(np.sum(values**2, axis=1), SQUARES[normalization](degree), rtol=1e-12)


def test_those_of_norm_are_racahs():
    for degree in DEGREES:
        values = FACTORS["norm"](degree) * real_harmonics(degree, np.array([[0.0, 0, 1]]))[0]
        np.testing.assert_allclose(values, np.arange(-degree, degree + 1) == 0, rtol=0, atol=1e-13)


def test_harmonics_of_e3nn_are_those_here_in_other_axes(points):
    torch = pytest.importorskip("torch", reason="e3nn is made of torch")
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    turned = torch.tensor(points[:, [1, 2, 0]])
    for normalization in FACTORS:
        values = o3.spherical_harmonics(list(DEGREES), turned, normalize=True, normalization=normalization)
        np.testing.assert_allclose(values, harmonics(points, normalization), rtol=0, atol=1e-12)
    by_default = o3.spherical_harmonics(list(DEGREES), turned, normalize=True)
    np.testing.assert_allclose(by_default, harmonics(points, "integral"), rtol=0, atol=1e-12)


def test_harmonics_and_coefficients_of_e3nn_jax_are_those_of_e3nn(points):
    jax = pytest.importorskip("jax", reason="e3nn-jax is made of JAX")
    e3nn_jax = pytest.importorskip("e3nn_jax", reason="e3nn-jax is not installed")
    turned = jax.numpy.array(points[:, [1, 2, 0]], dtype="float32")
    irreps = e3nn_jax.Irreps.spherical_harmonics(DEGREES[-1])
    # In float32, whose eps is 1.2e-7: values are below 4, and a recursion of four steps multiplies its errors.
    for normalization in FACTORS:
        values = e3nn_jax.spherical_harmonics(irreps, turned, normalize=True, normalization=normalization).array
        np.testing.assert_allclose(values, harmonics(points, normalization), rtol=0, atol=2e-5)
    by_default = e3nn_jax.spherical_harmonics(irreps, turned, normalize=True).array
    np.testing.assert_allclose(by_default, harmonics(points, "component"), rtol=0, atol=2e-5)
    for l1, l2, l3 in triples(3):
        dense = sparseacc.clebsch_gordan(l1, l2, l3, convention="e3nn").to_dense()
        theirs = math.sqrt(2 * l3 + 1) * np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3))
        np.testing.assert_allclose(theirs, dense, rtol=0, atol=1e-13)


def test_harmonics_of_sphericart_are_those_here(points):
    sphericart = pytest.importorskip("sphericart", reason="sphericart is not installed")
    most = DEGREES[-1]
    expected = harmonics(points, "integral")
    powers = np.repeat([2.0**degree for degree in DEGREES], [2 * degree + 1 for degree in DEGREES])
    values = sphericart.SphericalHarmonics(most).compute(points)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)
    solid = sphericart.SolidHarmonics(most).compute(2 * points)
    np.testing.assert_allclose(solid, powers * expected, rtol=0, atol=1e-10)


def test_the_sign_of_condon_and_shortley_is_a_turn_about_z():
    matrices = wigner_matrices(6, Rotation.from_rotvec([0, 0, math.pi]))
    for degree, matrix in enumerate(matrices):
        sign = (-1.0) ** np.arange(-degree, degree + 1)
        np.testing.assert_allclose(matrix, np.diag(sign), rtol=0, atol=2e-14)


# ---- coefficients --------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["librascal", "e3nn"])
def test_harmonics_with_the_sign_of_condon_and_shortley_couple_by_the_same_coefficients(convention):
    for l1, l2, l3 in triples(5):
        rule = sparseacc.clebsch_gordan(l1, l2, l3, convention=convention)
        m1, m2, mu = (
            index.astype(int) - degree for index, degree in zip((rule.m1, rule.m2, rule.mu), (l1, l2, l3), strict=True)
        )
        assert not np.any((m1 + m2 + mu) % 2)  # the three signs of each term cancel


def test_the_complex_ones_are_wigners_symbols_by_the_factor_of_the_page():
    wigner_3j = pytest.importorskip("sympy.physics.wigner", reason="sympy is the reference").wigner_3j
    for l1, l2, l3 in triples(2):
        rule = sparseacc.clebsch_gordan(l1, l2, l3, basis="complex")
        for m1, m2, mu, value in zip(rule.m1 - l1, rule.m2 - l2, rule.mu - l3, rule.C, strict=True):
            symbol = float(wigner_3j(l1, l2, l3, int(m1), int(m2), -int(mu)))
            expected = (-1.0) ** (l1 - l2 + mu) * math.sqrt(2 * l3 + 1) * symbol
            assert value == pytest.approx(expected, rel=1e-14)


def test_the_first_of_the_complex_ones_are_positive():
    for l1, l2, l3 in triples(5):
        dense = sparseacc.clebsch_gordan(l1, l2, l3, basis="complex").to_dense()
        assert dense[2 * l1, l3 - l1 + l2, 2 * l3] > 0  # m1 = l1, m2 = l3 - l1, mu = l3


@pytest.mark.parametrize(("convention", "sign"), [("librascal", -1), ("e3nn", 1)])
def test_the_power_spectrum_has_the_sign_that_the_page_says(convention, sign):
    for degree in range(13):
        rule = sparseacc.clebsch_gordan(degree, degree, 0, convention=convention)
        expected = sign**degree / math.sqrt(2 * degree + 1)  # of each m
        np.testing.assert_array_equal(rule.m1, rule.m2)
        np.testing.assert_allclose(rule.C, np.full(2 * degree + 1, expected), rtol=1e-15)
