"""What is compared: which rule, how many rows, and how they lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import angular
from ..calls.arrays import Array
from ..racah import couplings
from ..rule import Rule

CHANNELS = 128


class Case(NamedTuple):
    """One comparison.

    Attributes
    ----------
    degree, rows : int
        l, and the rows of the batch, channels included.
    middle : bool
        Whether the active axis is followed by 128 channels; else it is the last.
    every : bool
        Whether the rule holds all couplings up to the degree, side by side; else l1 = l2 = l3 = l.
    """

    degree: int
    rows: int
    middle: bool = False
    every: bool = False

    def __str__(self) -> str:
        rule = f"all to {self.degree}" if self.every else f"l = {self.degree}"
        return f"{rule}, {self.rows:6} rows{', middle' if self.middle else ''}"

    def rule(self) -> Rule:
        """With e3nn's signs, which e3nn's and cuequivariance's own functions have."""
        if self.every:
            return all_couplings(self.degree)
        return angular.clebsch_gordan(self.degree, self.degree, self.degree, convention="e3nn")

    def arrays(self, rule: Rule) -> tuple[Array, Array, Array]:
        """x1, x2 and dy for its rule, active along axis 1, of random numbers in float32."""
        rng = np.random.default_rng(0)
        batch, channels = (self.rows // CHANNELS, (CHANNELS,)) if self.middle else (self.rows, ())
        x1, x2, dy = (rng.normal(size=(batch, n, *channels)).astype(np.float32) for n in rule.shape)
        return x1, x2, dy


ALL = (
    *(Case(3, rows) for rows in (1, 64, 1000)),
    *(Case(degree, rows) for degree in (1, 8) for rows in (64, 1000)),
    *(Case(degree, 200_000) for degree in (1, 2, 3, 5, 8)),
    *(Case(degree, 200_064, middle=True) for degree in (3, 8)),
    Case(3, 50_000, every=True),
)
QUICK = (Case(1, 1), Case(3, 1), Case(3, 1000), Case(1, 20_000), Case(3, 20_000), Case(3, 20_096, middle=True))


def all_couplings(degree: int) -> Rule:
    """All couplings of l1, l2 up to `degree` to l3 up to `degree`, side by side in one rule."""
    terms, n_out = [], 0
    for l1, l2, l3 in couplings(degree):
        rule = angular.clebsch_gordan(l1, l2, l3)
        terms.append((rule.m1 + l1**2, rule.m2 + l2**2, rule.mu + n_out, rule.C))
        n_out += 2 * l3 + 1
    size = (degree + 1) ** 2
    m1, m2, mu, C = map(np.concatenate, zip(*terms, strict=True))
    return Rule(m1, m2, mu, C, (size, size, n_out))
