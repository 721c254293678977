"""What is compared: products, layers of message passing, and whole models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import angular
from ..calls.arrays import Array
from ..racah import couplings
from ..rule import Rule

CHANNELS = 128


@dataclass(frozen=True)
class Case:
    """One comparison of products.

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

    unit: ClassVar = "row"
    time_unit: ClassVar = "ns"
    title: ClassVar = "Clebsch-Gordan products"

    def __str__(self) -> str:
        rule = f"all to {self.degree}" if self.every else f"l = {self.degree}"
        rows = f"{self.rows:,} row{'s' if self.rows > 1 else ''}"
        return f"{rule}, {rows}{', middle' if self.middle else ''}"

    def rule(self) -> Rule:
        """With e3nn's signs, which e3nn's and cuequivariance's own functions have."""
        if self.every:
            return all_couplings(self.degree)
        return angular.clebsch_gordan(self.degree, self.degree, self.degree, convention="e3nn")

    def arrays(self, rule: Rule, dtype: str = "float32") -> tuple[Array, Array, Array]:
        """x1, x2 and dy for its rule, active along axis 1, of random numbers."""
        rng = np.random.default_rng(0)
        batch, channels = (self.rows // CHANNELS, (CHANNELS,)) if self.middle else (self.rows, ())
        x1, x2, dy = (rng.normal(size=(batch, n, *channels)).astype(dtype) for n in rule.shape)
        return x1, x2, dy


ALL = (
    *(Case(3, rows) for rows in (1, 64, 1000)),
    *(Case(degree, rows) for degree in (1, 8) for rows in (64, 1000)),
    *(Case(degree, 200_000) for degree in (1, 2, 3, 5, 8)),
    *(Case(degree, 200_064, middle=True) for degree in (3, 8)),
    Case(3, 50_000, every=True),
)
QUICK = (Case(3, 1), Case(3, 1000), *(Case(degree, 20_000) for degree in (1, 2, 3, 5)))


@dataclass(frozen=True)
class Crystal:
    """A comparison on a crystal of copper (fcc), with edges up to 5 Angstrom.

    Attributes
    ----------
    name : str
        Of what is compared.
    atoms, edges : int
        Of the crystal.
    """

    name: str
    atoms: int
    edges: int


class Layer(Crystal):
    """One layer of message passing, of LAYERS."""

    unit: ClassVar = "edge"
    time_unit: ClassVar = "ns"
    title: ClassVar = "Message passing"

    def __str__(self) -> str:
        return f"{self.name}, {self.edges:,} edges"


LAYERS = {
    "64 channels, l to 1": ("64x0e + 64x1o", "0e + 1o"),
    "64 channels, l to 2": ("64x0e + 64x1o + 64x2e", "0e + 1o + 2e"),
    "MACE medium": ("128x0e + 128x1o", "0e + 1o + 2e + 3o"),
    "MACE large": ("128x0e + 128x1o + 128x2e", "0e + 1o + 2e + 3o"),
}
"""Irreps of the features and of the edges. Results are kept up to the edges' l."""


class Potential(Crystal):
    """Energies and forces of a model, named by its package."""

    unit: ClassVar = "atom"
    time_unit: ClassVar = "us"
    title: ClassVar = "Energy and forces, before and after sparseacc.torch.accelerate"

    def __str__(self) -> str:
        return f"{self.name}, {self.atoms:,} atoms, {self.edges:,} edges"


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


CASES: dict[str, Callable[..., Any]] = {"product": Case, "messages": Layer, "models": Potential}
