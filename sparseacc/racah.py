"""Clebsch-Gordan coefficients, exact until the last rounding.

Nothing but Python is needed here, as the build of the kernels reads this too (cpu/build.py).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

Term = tuple[int, int, int, float]
"""mu, m1, m2, C: in the order by which terms are sorted."""

LIBRASCAL_OVER_E3NN = (1, -1, -1, 1)
"""The ratio of the two signs in the real basis, by (l1 + l2 - l3) mod 4."""


def couplings(most: int) -> Iterator[tuple[int, int, int]]:
    """All l1, l2, l3 up to a degree that couple."""
    for l1, l2 in itertools.product(range(most + 1), repeat=2):
        for l3 in range(abs(l1 - l2), min(l1 + l2, most) + 1):
            yield l1, l2, l3


def complex_terms(l1: int, l2: int, l3: int) -> Iterator[Term]:
    """The nonzero ones in the complex basis."""
    parity = (-1) ** (l1 + l2 - l3)  # C(-m1, -m2, -m3) = parity * C(m1, m2, m3)
    for m1, m2, sign, square in _half_of_the_squares(l1, l2, l3):
        C = sign * _sqrt(square)
        yield m1 + m2, m1, m2, C
        if m1 or m2:
            yield -m1 - m2, -m1, -m2, parity * C


def real_terms(l1: int, l2: int, l3: int, overall_sign: int) -> Iterator[Term]:
    """The nonzero ones in the real basis, times a sign relative to e3nn's."""
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
