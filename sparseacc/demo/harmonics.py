"""Real spherical harmonics by recursion, with their gradient; by scipy, which the checks use; and how they rotate."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from ..angular import clebsch_gordan
from ..extras import how_to_install
from .molecules import Floats

MOST_L = 3


def harmonics(directions: Floats) -> Floats:
    """sqrt(4 pi) times the real spherical harmonics of unit vectors, by recursion: shape (edges, (MOST_L + 1)**2)."""
    y = np.ones((len(directions), (MOST_L + 1) ** 2))
    y[:, 1:4] = math.sqrt(3) * directions[:, [1, 2, 0]]
    for degree, before, own in _recursion():
        scale = math.sqrt((2 * degree + 1) / (3 * degree))
        y[:, own] = scale * clebsch_gordan(degree - 1, 1, degree)(y[:, before], y[:, 1:4])
    return y


def harmonics_vjp(dy: Floats, directions: Floats) -> Floats:
    """The gradient with respect to the directions, shape (edges, 3), for that with respect to the harmonics."""
    y, dy = harmonics(directions), dy.copy()
    for degree, before, own in reversed(_recursion()):
        scale = math.sqrt((2 * degree + 1) / (3 * degree))
        rule = clebsch_gordan(degree - 1, 1, degree)
        d_before, d_first = rule.vjp(scale * dy[:, own], y[:, before], y[:, 1:4])
        dy[:, before] += d_before
        dy[:, 1:4] += d_first
    return math.sqrt(3) * dy[:, [3, 1, 2]]


def _recursion() -> list[tuple[int, slice, slice]]:
    """Degrees from 2 on, with the columns of the degree below and of their own."""
    return [(n, slice((n - 1) ** 2, n**2), slice(n**2, (n + 1) ** 2)) for n in range(2, MOST_L + 1)]


def from_scipy(module: str, name: str) -> Any:
    """What scipy has by that name, or an error that says what to install."""
    try:
        return getattr(import_module(f"scipy.{module}"), name)
    except (ImportError, AttributeError) as error:
        needed = f"the main job needs scipy 1.15 or newer: {how_to_install('examples')}"
        raise ModuleNotFoundError(f"{needed} ({error})", name="scipy") from error


def real_spherical_harmonics(degree: int, vectors: Floats) -> Floats:
    """Orthonormal real spherical harmonics of directions, shape (..., 3) -> (..., 2 degree + 1), m = -degree..degree.

    Cosines for m > 0 and sines for m < 0, without the Condon-Shortley sign, as `clebsch_gordan` has them.
    """
    sph_harm_y = from_scipy("special", "sph_harm_y")
    polar = np.arctan2(np.hypot(vectors[..., 0], vectors[..., 1]), vectors[..., 2])
    azimuth = np.arctan2(vectors[..., 1], vectors[..., 0])
    result = np.empty((*vectors.shape[:-1], 2 * degree + 1))
    for m in range(degree + 1):
        complex_one = (-1) ** m * sph_harm_y(degree, m, polar, azimuth)
        result[..., degree - m] = np.sqrt(2) * complex_one.imag
        result[..., degree + m] = np.sqrt(2) * complex_one.real if m else complex_one.real
    return result


def wigner_d(degree: int, rotation: Floats) -> Floats:
    """The matrix D with Y(R r) = D Y(r), from the harmonics of sample directions: it knows nothing of couplings."""
    directions = np.random.default_rng(1).normal(size=(50, 3))
    before = real_spherical_harmonics(degree, directions)
    after = real_spherical_harmonics(degree, directions @ rotation.T)
    solution, *_ = np.linalg.lstsq(before, after, rcond=None)
    return np.asarray(solution.T)
