"""Real spherical harmonics, and how they rotate: from their values at points, without any coefficient."""

import math

import numpy as np
from scipy.special import sph_harm_y


def real_harmonics(degree, points):
    """Real spherical harmonics at unit vectors, shape (len(points), 2 degree + 1), m = -degree..degree."""
    x, y, z = points.T
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = []
    for m in range(-degree, degree + 1):
        value = sph_harm_y(degree, abs(m), theta, phi)
        part = value.imag if m < 0 else value.real
        columns.append(part * (math.sqrt(2) * (-1) ** m if m else 1))
    return np.stack(columns, axis=-1)


def random_points(rng, count):
    points = rng.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def wigner_matrices(most, rotation):
    """D for each degree up to `most`, where the harmonics at rotated points are D times those at the points.

    From nothing but harmonics at 200 points, for at most 13 unknowns, which has a condition number below 2. A harmonic
    is off by some 10 eps (the recursion's) plus l eps of the angles, times |Y| < 2, so that D is good to
    100 eps = 2e-14.
    """
    points = random_points(np.random.default_rng(3), 200)
    return [
        np.linalg.lstsq(real_harmonics(degree, points), real_harmonics(degree, rotation.apply(points)), rcond=None)[0].T
        for degree in range(most + 1)
    ]
