"""The rule of packed Wigner matrices: block-diagonal matrices times features."""

import numpy as np
import pytest
from harmonics import random_points, real_harmonics, wigner_matrices
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation

import sparseacc

EPS = np.finfo(np.float64).eps


def orders(lmax):
    return np.concatenate([np.arange(-degree, degree + 1) for degree in range(lmax + 1)])


@pytest.mark.parametrize(("lmax", "mmax"), [(0, None), (3, None), (3, 3), (3, 0), (4, 2), (6, 2)])
def test_it_is_the_block_diagonal_matrix_without_its_zeros(rng, lmax, mmax):
    blocks = [rng.normal(size=(2 * degree + 1,) * 2) for degree in range(lmax + 1)]
    packed = np.concatenate([block.ravel() for block in blocks])
    kept = abs(orders(lmax)) <= (lmax if mmax is None else mmax)
    matrix = block_diag(*blocks)[kept]
    x = rng.normal(size=(5, matrix.shape[1]))
    rule = sparseacc.wigner_rotation(lmax, mmax)
    assert rule.shape == ((lmax + 1) ** 2, len(packed), kept.sum())
    assert rule.num_paths == 1
    bound = (2 * lmax + 3) * EPS
    assert np.all(abs(rule(x, packed) - x @ matrix.T) <= 2 * bound * (abs(x) @ abs(matrix.T)))
    y = rng.normal(size=(5, len(matrix)))
    assert np.all(abs(rule.transpose((2, 1, 0))(y, packed) - y @ matrix) <= 2 * bound * (abs(y) @ abs(matrix)))


def test_harmonics_rotate_as_their_points_do(rng):
    lmax, rotation = 4, Rotation.from_quat(rng.normal(size=4))
    packed = np.concatenate([matrix.ravel() for matrix in wigner_matrices(lmax, rotation)])
    points = random_points(rng, 20)
    x, expected = (
        np.concatenate([real_harmonics(degree, p) for degree in range(lmax + 1)], axis=1)
        for p in (points, rotation.apply(points))
    )
    for mmax in range(lmax + 1):
        rotated = sparseacc.wigner_rotation(lmax, mmax)(x, packed)
        np.testing.assert_allclose(rotated, expected[:, abs(orders(lmax)) <= mmax], rtol=0, atol=1e-12)
    back = sparseacc.wigner_rotation(lmax).transpose((2, 1, 0))
    np.testing.assert_allclose(back(expected, packed), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "lmax is -1, but must not be negative"),
        ((2, -1), ValueError, "mmax is -1, but must not be negative"),
        ((2, 3), ValueError, "mmax is 3, but there are no orders above lmax = 2"),
        ((2.0,), TypeError, "lmax must be an integer, but is 2.0"),
        ((2, "1"), TypeError, "mmax must be an integer, but is '1'"),
    ],
)
def test_bad_degrees_are_one_error(arguments, error, message):
    with pytest.raises(error, match=message):
        sparseacc.wigner_rotation(*arguments)
