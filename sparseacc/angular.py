"""Rules that couple angular momenta: Clebsch-Gordan coefficients, exact until the last rounding."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, SupportsIndex

import numpy as np

from .rule import Rule

if TYPE_CHECKING:
    from fractions import Fraction

_BASES = ("real", "complex")
_CONVENTIONS = ("librascal", "e3nn")
_LIBRASCAL_OVER_E3NN = (1, -1, -1, 1)
"""The ratio of the two signs in the real basis, by (l1 + l2 - l3) mod 4."""

_Term = tuple[int, int, int, float]
"""mu, m1, m2, C: in the order by which terms are sorted."""


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
    j1, j2, j3 = _degree("l1", l1), _degree("l2", l2), _degree("l3", l3)
    if not abs(j1 - j2) <= j3 <= j1 + j2:
        raise ValueError(
            f"l3 is {j3}, but l1 = {j1} and l2 = {j2} couple only to l3 in "
            f"|l1 - l2|..l1 + l2 = {abs(j1 - j2)}..{j1 + j2}"
        )
    _check_choice("basis", basis, _BASES)
    _check_choice("convention", convention, _CONVENTIONS)
    sign = 1 if convention == "e3nn" else _LIBRASCAL_OVER_E3NN[(j1 + j2 - j3) % 4]
    return _rule(j1, j2, j3, sign if basis == "real" else 0)


def _degree(name: str, value: SupportsIndex) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError  # an integer to operator.index, but surely a mistake here
        degree = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, but is {value!r} ({type(value).__name__}): "
            "pass an int or a NumPy integer, such as 1"
        ) from None
    if degree < 0:
        raise ValueError(f"{name} is {degree}, but must not be negative")
    return degree


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, but is {value!r}")


@functools.lru_cache(maxsize=512)  # at l = 30 a rule holds about 0.1 MB
def _rule(l1: int, l2: int, l3: int, sign: int) -> Rule:
    """In the real basis times a sign relative to e3nn's, or in the complex basis if sign is 0."""
    terms = _real_terms(l1, l2, l3, sign) if sign else _complex_terms(l1, l2, l3)
    mu, m1, m2, C = zip(*sorted(terms), strict=True)
    shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
    return Rule(np.array(m1) + l1, np.array(m2) + l2, np.array(mu) + l3, C, shape)


def _complex_terms(l1: int, l2: int, l3: int) -> Iterator[_Term]:
    parity = (-1) ** (l1 + l2 - l3)  # C(-m1, -m2, -m3) = parity * C(m1, m2, m3)
    for m1, m2, sign, square in _half_of_the_squares(l1, l2, l3):
        C = sign * _sqrt(square)
        yield m1 + m2, m1, m2, C
        if m1 or m2:
            yield -m1 - m2, -m1, -m2, parity * C


def _real_terms(l1: int, l2: int, l3: int, overall_sign: int) -> Iterator[_Term]:
    # A real component m, with p = |m|, is a column of a unitary matrix U. It has two entries,
    #
    #     m > 0, cosine:  U[p] =   (-1)^p / sqrt(2),  U[-p] =  1 / sqrt(2),
    #     m < 0, sine:    U[p] = i (-1)^p / sqrt(2),  U[-p] = -i / sqrt(2),
    #
    # or one if m = 0, U[0] = 1. With d = l1 + l2 - l3 and e3nn's phase (-i)^d, the real coefficient is
    #
    #     (-i)^d sum_s U1[s1 p1] U2[s2 p2] conj(U3[s3 p3]) C(s1 p1, s2 p2, s3 p3),  s = signs.
    #
    # C needs s1 p1 + s2 p2 = s3 p3. So p3 is p1 + p2 or |p1 - p2|, and then the signs are fixed but
    # for a common one. Turning that one multiplies C by (-1)^d, and the three U by -1 for each sine and
    # by (-1)^(p1 + p2 + p3) = 1. So the two terms cancel unless the number of sines is d modulo 2, and
    # else are equal. What remains is one C, times +1 or -1, times 2 / sqrt(2)^3 = 1 / sqrt(2) if no p is
    # zero, 2 / sqrt(2)^2 = 1 if one is, 1 (a single term) if all are: one rounding, no stray zeros.
    d = l1 + l2 - l3
    for m1, m2, sign, square in _half_of_the_squares(l1, l2, l3):
        m = (m1, m2, m1 + m2)
        C = overall_sign * sign * _sqrt(square if 0 in m else square / 2)
        for sines in itertools.product(*((0, 1) if i else (0,) for i in m)):
            if (sum(sines) - d) % 2 == 0:
                r1, r2, r3 = (-abs(i) if sine else abs(i) for i, sine in zip(m, sines, strict=True))
                q1, q2, q3 = (_quarter_turns(i, sine) for i, sine in zip(m, sines, strict=True))
                yield r3, r1, r2, C * (1 - (q1 + q2 - q3 - d) % 4)


def _quarter_turns(m: int, sine: int) -> int:
    """The exponent of i in the phase of U[m] above."""
    return 2 * m + sine if m >= 0 else -sine


def _half_of_the_squares(l1: int, l2: int, l3: int) -> Iterator[tuple[int, int, int, Fraction]]:
    """m1, m2, sign(C), C^2 of the nonzero C(m1, m2, m1 + m2): one of each (m1, m2), (-m1, -m2)."""
    from fractions import Fraction  # not before it is needed: it imports decimal

    # Racah's sum times a! b! c! is one of products of binomials, and so an integer.
    a, b, c = l1 + l2 - l3, l1 - l2 + l3, -l1 + l2 + l3
    of_a = [(-1) ** k * math.comb(a, k) for k in range(a + 1)]
    of_b = [math.comb(b, k) for k in range(b + 1)]
    of_c = [math.comb(c, k) for k in range(c + 1)]
    factorial = list(itertools.accumulate(range(1, l1 + l2 + l3 + 2), operator.mul, initial=1))
    scale = Fraction(2 * l3 + 1, factorial[-1] * factorial[a] * factorial[b] * factorial[c])
    f1, f2, f3 = (
        {m: factorial[degree + m] * factorial[degree - m] for m in range(-degree, degree + 1)}
        for degree in (l1, l2, l3)
    )
    for m1 in range(l1 + 1):
        for m2 in range(max(-l3 - m1, -l2 if m1 else 0), min(l3 - m1, l2) + 1):
            i, j = l1 - m1, l2 + m2
            allowed = range(max(0, i - b, j - c), min(a, i, j) + 1)
            total = sum(of_a[k] * of_b[i - k] * of_c[j - k] for k in allowed)
            if total:
                square = f1[m1] * f2[m2] * f3[m1 + m2] * total**2
                yield m1, m2, 1 if total > 0 else -1, scale * square


def _sqrt(x: Fraction) -> float:
    """The float64 nearest to the square root."""
    n, d = x.numerator, x.denominator
    shift = max(0, 64 + (d.bit_length() - n.bit_length() + 1) // 2)
    n <<= 2 * shift
    root = math.isqrt(n // d)
    # At least 64 bits, the last one set if any beyond it is: rounds to 53 bits as the exact root does.
    return math.ldexp(root | (root * root * d != n), -shift)
