"""Rules that couple angular momenta: Clebsch-Gordan coefficients, exact until the last rounding."""

from __future__ import annotations

import math
from typing import Literal, SupportsIndex

import numpy as np

from .calls.plans import Cache
from .checks import check_choice, checked_degree
from .racah import LIBRASCAL_OVER_E3NN, complex_terms, real_terms
from .rule import Rule

_BASES = ("real", "complex")
CONVENTIONS = ("librascal", "e3nn")


def clebsch_gordan(
    l1: SupportsIndex,
    l2: SupportsIndex,
    l3: SupportsIndex,
    *,
    basis: Literal["real", "complex"] = "real",
    convention: Literal["librascal", "e3nn"] = "librascal",
) -> Rule:
    """The rule that couples angular momenta l1 and l2 to l3.

    From two arrays that rotate as spherical harmonics of degrees l1 and l2 do, it makes one that
    rotates as those of degree l3 do.

    Parameters
    ----------
    l1, l2, l3 : int
        Degrees, of any integer type: not negative, and ``|l1 - l2| <= l3 <= l1 + l2``.
    basis : {"real", "complex"}
        "complex": the coefficients ``<l1 m1 l2 m2 | l3 mu>`` with the phases of Condon and Shortley
        [1]_. They are real, and m1 + m2 = mu. "real": the same coupling of real spherical harmonics,
        m = -l..l: ``sqrt(2) (-1)^m Im Y_l^|m|`` for m < 0, ``Y_l^0``, and
        ``sqrt(2) (-1)^m Re Y_l^m`` for m > 0. For l = 1 these are y, z, x.
    convention : {"librascal", "e3nn"}
        The overall sign in the real basis. "e3nn" is ``sqrt(2 l3 + 1) e3nn.o3.wigner_3j(l1, l2, l3)``,
        and "librascal" that times ``(+1, -1, -1, +1)[(l1 + l2 - l3) mod 4]``. In the complex basis it
        is checked but changes nothing: the phases of Condon and Shortley are the only ones there.

    Returns
    -------
    Rule
        Of shape ``(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)``, with indices m + l and float64 coefficients,
        normalised to ``sum_{m1, m2} C**2 == 1`` for each mu. Terms are sorted by (mu, m1, m2) and none
        is zero. Rules are cached: equal arguments usually give the same object.

    Raises
    ------
    TypeError
        If a degree is not an integer; floats and booleans are refused.
    ValueError
        If a degree is negative, l3 is outside ``|l1 - l2|..l1 + l2``, or the basis or convention is
        none of those above.

    Notes
    -----
    Racah's formula [2]_ (see also [3]_, section 8.2) is evaluated in integers, and rounded once: each
    coefficient is the float64 nearest to the exact one.

    References
    ----------
    .. [1] E. U. Condon, G. H. Shortley, The Theory of Atomic Spectra, Cambridge, 1935, chapter III.
    .. [2] G. Racah, Theory of Complex Spectra II, Phys. Rev. 62, 438 (1942).
    .. [3] D. A. Varshalovich, A. N. Moskalev, V. K. Khersonskii, Quantum Theory of Angular Momentum,
       World Scientific, 1988.

    Examples
    --------
    Two vectors couple to a vector by their cross product:

    >>> import numpy as np
    >>> import sparseacc
    >>> rule = sparseacc.clebsch_gordan(1, 1, 1, convention="e3nn")
    >>> rule.shape, rule.nnz
    ((3, 3, 3), 6)
    >>> x1, x2 = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0])
    >>> np.allclose(np.sqrt(2) * rule(x1, x2), np.cross(x1, x2))
    True

    The textbooks' <1 1 1 -1 | 0 0> = 1 / sqrt(3), with each index shifted by its l:

    >>> rule = sparseacc.clebsch_gordan(1, 1, 0, basis="complex")
    >>> print(rule.to_dense()[1 + 1, -1 + 1, 0 + 0].round(6))
    0.57735
    """
    j1, j2, j3 = _triangle(l1, l2, l3)
    check_choice(basis, "basis", _BASES)
    check_choice(convention, "convention", CONVENTIONS)
    sign = 1 if convention == "e3nn" else LIBRASCAL_OVER_E3NN[(j1 + j2 - j3) % 4]
    return _rule(j1, j2, j3, sign if basis == "real" else 0)


def gaunt(l1: SupportsIndex, l2: SupportsIndex, l3: SupportsIndex) -> Rule:
    """The rule of Gaunt coefficients: integrals of three real spherical harmonics over the sphere.

    A product of functions on the sphere, given by their harmonics, is made of such rules: that of degree l1 and that of
    degree l2 multiply to a function whose harmonics of degree l3 are ``gaunt(l1, l2, l3)(x1, x2)``.

    Parameters
    ----------
    l1, l2, l3 : int
        Degrees, of any integer type: not negative, and ``|l1 - l2| <= l3 <= l1 + l2``.

    Returns
    -------
    Rule
        Of shape ``(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)``, with indices m + l and float64 coefficients:
        ``C[m1, m2, mu]`` is the integral of ``Y1[m1] * Y2[m2] * Y3[mu]``. The harmonics are those of `clebsch_gordan`,
        orthonormal: the integral of their squares is 1. Where l1 + l2 + l3 is odd, all integrals are zero and the rule
        has no terms.

    Raises
    ------
    TypeError
        If a degree is not an integer; floats and booleans are refused.
    ValueError
        If a degree is negative or l3 is outside ``|l1 - l2|..l1 + l2``.

    Notes
    -----
    By the Wigner-Eckart theorem (Varshalovich and others [1]_, section 5.6), the coefficients are those of
    ``clebsch_gordan(l1, l2, l3)`` times ``sqrt((2 l1 + 1) (2 l2 + 1) / (4 pi (2 l3 + 1))) <l1 0 l2 0 | l3 0>``: a few
    roundings of exact numbers.

    References
    ----------
    .. [1] D. A. Varshalovich, A. N. Moskalev, V. K. Khersonskii, Quantum Theory of Angular Momentum,
       World Scientific, 1988.

    Examples
    --------
    Y_1 (y, z, x) times itself, for the harmonic z alone; z^2 has harmonics of degree 0 and 2:

    >>> z = np.array([0.0, 1.0, 0.0])
    >>> sparseacc.gaunt(1, 1, 0)(z, z).round(6)
    array([0.282095])
    >>> sparseacc.gaunt(1, 1, 2)(z, z).round(6)
    array([0.      , 0.      , 0.252313, 0.      , 0.      ])
    >>> sparseacc.gaunt(1, 1, 1).nnz
    0
    """
    j1, j2, j3 = _triangle(l1, l2, l3)
    shape = (2 * j1 + 1, 2 * j2 + 1, 2 * j3 + 1)
    if (j1 + j2 + j3) % 2:
        return Rule([], [], [], [], shape)
    of_zeros = clebsch_gordan(j1, j2, j3, basis="complex").to_dense()[j1, j2, j3]
    scale = of_zeros * math.sqrt(shape[0] * shape[1] / (4 * math.pi * shape[2]))
    rule = clebsch_gordan(j1, j2, j3)
    return Rule(rule.m1, rule.m2, rule.mu, scale * rule.C, shape)


def _triangle(l1: SupportsIndex, l2: SupportsIndex, l3: SupportsIndex) -> tuple[int, int, int]:
    """Three degrees that couple."""
    j1, j2, j3 = checked_degree(l1, "l1"), checked_degree(l2, "l2"), checked_degree(l3, "l3")
    if not abs(j1 - j2) <= j3 <= j1 + j2:
        raise ValueError(
            f"l3 is {j3}, but l1 = {j1} and l2 = {j2} couple only to l3 in "
            f"|l1 - l2|..l1 + l2 = {abs(j1 - j2)}..{j1 + j2}"
        )
    return j1, j2, j3


def _rule(l1: int, l2: int, l3: int, sign: int) -> Rule:
    """In the real basis times a sign relative to e3nn's, or in the complex basis if sign is 0."""
    key = l1, l2, l3, sign
    rule = _rules.get(key)
    if rule is None:
        terms = real_terms(l1, l2, l3, sign) if sign else complex_terms(l1, l2, l3)
        mu, m1, m2, C = zip(*sorted(terms), strict=True)
        shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
        rule = _rules.add(key, Rule(np.array(m1) + l1, np.array(m2) + l2, np.array(mu) + l3, C, shape))
    return rule


_rules: Cache[Rule] = Cache("Clebsch-Gordan rules", 512, 2**26, lambda rule: 20 * rule.nnz)
