"""Complexes of molecules, and the edges between their atoms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..graph import Graph

Floats = npt.NDArray[np.float64]

ELEMENTS = "HCNO"
CUTOFF = 5.0  # Angstrom
SOURCE = "P. Jurecka et al., Phys. Chem. Chem. Phys. 8, 1985 (2006), doi 10.1039/b600027d"


class Molecule(NamedTuple):
    """Element symbols, and positions in Angstrom, shape (atoms, 3)."""

    name: str
    symbols: tuple[str, ...]
    positions: Floats


class Edges(NamedTuple):
    """The edges of all complexes, by receiver: a graph of the atoms, and vectors to the senders, shape (edges, 3)."""

    graph: Graph
    vectors: Floats


def load_molecules(lines: Iterable[str] | None = None) -> list[Molecule]:
    """Reads molecules in XYZ format, one after the other; by default the S22 complexes that the package ships.

    Raises
    ------
    ValueError
        Naming the line, if it is not what the format has there.
    """
    if lines is None:
        lines = (resources.files("sparseacc") / "data" / "s22.xyz").read_text(encoding="utf-8").splitlines()
    numbered = enumerate(lines, start=1)
    molecules = []
    for number, line in numbered:
        if not line.strip():
            continue
        if not (line.strip().isdecimal() and int(line)):
            raise ValueError(f"line {number} must be a number of atoms, not {line!r}")
        atoms = int(line)
        number, comment = next(numbered, (number + 1, ""))
        name = comment.partition('name="')[2].partition('"')[0]
        if not name:
            raise ValueError(f'line {number} must hold name="...", but is {comment!r}')
        symbols, positions = [], []
        for _ in range(atoms):
            number, atom = next(numbered, (number + 1, "the end of the file"))
            try:
                symbol, x, y, z = atom.split()
                position = (float(x), float(y), float(z))
            except ValueError:
                position = (math.nan,) * 3
            if not all(map(math.isfinite, position)):
                raise ValueError(f"line {number} must be an element and three coordinates, not {atom!r}")
            if symbol not in ELEMENTS:
                raise ValueError(f"line {number}: element {symbol!r} is not one of {', '.join(ELEMENTS)}")
            symbols.append(symbol)
            positions.append(position)
        molecules.append(Molecule(name, tuple(symbols), np.array(positions)))
    return molecules


def find_edges(molecules: Iterable[Molecule]) -> Edges:
    """All ordered pairs of two atoms of one complex that are closer than the cutoff."""
    senders, receivers, vectors, first = [], [], [], 0
    for molecule in molecules:
        between = molecule.positions[None] - molecule.positions[:, None]
        distances = np.linalg.norm(between, axis=-1) + CUTOFF * np.eye(len(between))
        i, j = np.nonzero(distances < CUTOFF)
        senders.append(first + j)
        receivers.append(first + i)
        vectors.append(between[i, j])
        first += len(between)
    return Edges(Graph(np.concatenate(senders), np.concatenate(receivers), first), np.concatenate(vectors))


def moved(molecules: Sequence[Molecule], by: Floats) -> list[Molecule]:
    """The complexes with each atom displaced, by shape (atoms of all, 3)."""
    ends = np.cumsum([len(molecule.symbols) for molecule in molecules])
    return [m._replace(positions=m.positions + d) for m, d in zip(molecules, np.split(by, ends[:-1]), strict=True)]


def of_complexes(molecules: Sequence[Molecule], of_atoms: Floats) -> Floats:
    """Sums over the atoms of each complex."""
    first = np.cumsum([0, *(len(molecule.symbols) for molecule in molecules[:-1])])
    return np.asarray(np.add.reduceat(of_atoms, first, axis=0))
