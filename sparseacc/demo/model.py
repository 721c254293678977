"""A model of two layers of message passing: its energies, and the forces by the backward pass of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..irreps import as_segments
from ..messages import message_passing, message_passing_vjp
from ..tensor_products import tensor_product
from .harmonics import harmonics, harmonics_vjp
from .molecules import CUTOFF, ELEMENTS, Edges, Floats, Molecule, of_complexes

CHANNELS = 32
FEATURES = f"{CHANNELS}x0e + {CHANNELS}x1o + {CHANNELS}x2e"
HARMONICS = "0e + 1o + 2e + 3o"
LAYERS = (
    tensor_product(f"{CHANNELS}x0e", HARMONICS, FEATURES),  # of the atoms' elements
    tensor_product(FEATURES, HARMONICS),
)
SCALARS = [sum(segment.degree == 0 for segment in as_segments(rule.irreps_out, "irreps")) for rule in LAYERS]  # first
RADIAL = np.linspace(0.8, 4.4, 8)  # centres of the Gaussians R_n, in Angstrom
WIDTH = 0.6
SCALE = 1 / 4  # 1 / sqrt of the number of neighbours, about 16: a constant, so that energies are smooth


class Features(NamedTuple):
    """What the model computes on the way: harmonics and radial functions of edges, and of each layer its three."""

    energies: Floats  # (complexes,)
    harmonics: Floats  # (edges, 16)
    radial: Floats  # (edges, radial functions)
    x: list[Floats]  # (atoms, rows, channels)
    weights: list[Floats]  # (edges, paths, channels)
    m: list[Floats]  # (atoms, rows, channels)


def radial(distances: Floats) -> tuple[Floats, Floats]:
    """Gaussians that end smoothly at the cutoff, and their derivatives: shape (edges, radial functions)."""
    t = np.minimum(distances / CUTOFF, 1)[:, None]
    off = distances[:, None] - RADIAL
    gaussians = np.exp(-((off / WIDTH) ** 2) / 2)
    smooth, slope = (1 - t**2) ** 3, -6 * t * (1 - t**2) ** 2 / CUTOFF
    return smooth * gaussians, (slope - smooth * off / WIDTH**2) * gaussians


class Model:
    """Two layers with random weights, and the energy of their scalars s: the sum of a tanh(s)."""

    def __init__(self) -> None:
        normal = np.random.default_rng(2).normal
        self.elements = normal(size=(len(ELEMENTS), 1, CHANNELS))
        self.radial = [normal(size=(len(RADIAL), rule.num_paths * CHANNELS)) / 2 for rule in LAYERS]
        self.mix = normal(size=(3, CHANNELS, CHANNELS)) / math.sqrt(CHANNELS)  # of each degree
        self.readout = [normal(size=(count, CHANNELS)) for count in SCALARS]

    def features(self, molecules: Sequence[Molecule], edges: Edges) -> Features:
        """The forward pass."""
        distances = np.linalg.norm(edges.vectors, axis=-1)
        y, R = harmonics(edges.vectors / distances[:, None]), radial(distances)[0]
        weights = [(R @ W).reshape(len(R), -1, CHANNELS) for W in self.radial]
        x = [self.elements[[ELEMENTS.index(symbol) for molecule in molecules for symbol in molecule.symbols]]]
        m = [message_passing(LAYERS[0], edges.graph, x[0], y, weights[0]) * SCALE]
        x.append(np.concatenate([m[0][:, n**2 : (n + 1) ** 2] @ mix for n, mix in enumerate(self.mix)], axis=1))
        m.append(message_passing(LAYERS[1], edges.graph, x[1], y, weights[1]) * SCALE)
        of_atoms = sum(
            np.sum(a * np.tanh(each[:, : len(a)]), axis=(1, 2)) for a, each in zip(self.readout, m, strict=True)
        )
        return Features(of_complexes(molecules, np.asarray(of_atoms)), y, R, x, weights, m)

    def forces(self, edges: Edges, f: Features) -> Floats:
        """The backward pass: minus the gradient of all energies with respect to the positions, shape (atoms, 3)."""
        dm = [np.zeros_like(each) for each in f.m]
        for a, each, d in zip(self.readout, f.m, dm, strict=True):
            d[:, : len(a)] = a / np.cosh(each[:, : len(a)]) ** 2 * SCALE
        dx, dy, dw = message_passing_vjp(LAYERS[1], edges.graph, dm[1], f.x[1], f.harmonics, f.weights[1])
        for n, mix in enumerate(self.mix):
            dm[0][:, n**2 : (n + 1) ** 2] += dx[:, n**2 : (n + 1) ** 2] @ mix.T * SCALE
        _, dy0, dw0 = message_passing_vjp(LAYERS[0], edges.graph, dm[0], f.x[0], f.harmonics, f.weights[0], wrt=(1, 2))
        dR = sum(d.reshape(len(d), -1) @ W.T for d, W in zip((dw0, dw), self.radial, strict=True))
        distances = np.linalg.norm(edges.vectors, axis=-1)
        unit = edges.vectors / distances[:, None]
        du = harmonics_vjp(dy + dy0, unit) / distances[:, None]
        along = np.sum(dR * radial(distances)[1], axis=1) - np.sum(du * unit, axis=1)
        dr = du + along[:, None] * unit
        forces = np.zeros((edges.graph.num_nodes, 3))
        np.add.at(forces, np.asarray(edges.graph.receivers), dr)
        np.subtract.at(forces, np.asarray(edges.graph.senders), dr)
        return forces
