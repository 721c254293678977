"""The main job: couples the neighbour densities of atoms in real molecules, and checks that the result rotates as it
should.

For each atom i the density of its neighbours is expanded in radial functions and real spherical harmonics,

    c_l[i, m, n] = sum_j Z_j f_cut(r_ij) R_n(r_ij) Y_lm(r_ij / |r_ij|),

and every pair of expansions is coupled to every degree that it can be coupled to,

    p[i, mu, n, n'] = sum C[m1, m2, mu] c_l1[i, m1, n] c_l2[i, m2, n'],

which are the features of Grisafi, Wilkins, Csanyi, Ceriotti, Phys. Rev. Lett. 120, 036002 (2018). When the molecules
are rotated by R, the features of degree l are multiplied by the Wigner matrix D_l(R); those of degree 0 stay the same.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import resources
from typing import Any, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from . import __version__, clebsch_gordan, cpu, get_num_threads
from .rule import Rule

Floats = npt.NDArray[np.float64]

MOST_L = 4
RADIAL = np.linspace(0.8, 5.0, 8)  # centres of the Gaussians R_n, in Angstrom
WIDTH = 0.6
CUTOFF = 6.0
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8}

TOLERANCE = 1e-11
"""Of the equivariance error, relative to the largest feature of the coupling. Rounding in the rotated positions, some
1e-16 relative, is amplified at most by the harmonics' slope (l) and the Gaussians' (r / WIDTH^2, about 15), and sums
of 30 neighbours and 81 terms add up: 1e-13 at the worst, whereas a wrong sign anywhere gives an error of order 1."""

REPEATS = 5


class Molecule(NamedTuple):
    """Element symbols, and positions in Angstrom, shape (atoms, 3)."""

    name: str
    symbols: tuple[str, ...]
    positions: Floats


def load_molecules(lines: Iterable[str] | None = None) -> list[Molecule]:
    """Reads molecules in XYZ format, one after the other; by default the S22 complexes that are shipped with the
    package.

    Raises
    ------
    ValueError
        Naming the line, if it is not what the format has there.
    """
    if lines is None:
        lines = (resources.files(__package__) / "data" / "s22.xyz").read_text().splitlines()
    numbered = iter(enumerate(lines, start=1))
    molecules = []
    for number, line in numbered:
        if not line.strip():
            continue
        if not line.strip().isdecimal():
            raise ValueError(f"line {number} must be a number of atoms, not {line!r}")
        _, comment = next(numbered, (0, ""))
        name = comment.partition('name="')[2].partition('"')[0]
        symbols, positions = [], []
        for _ in range(int(line)):
            number, atom = next(numbered, (number + 1, ""))
            try:
                symbol, *xyz = atom.split()
                x, y, z = map(float, xyz)
            except ValueError:
                raise ValueError(f"line {number} must be an element and three coordinates, not {atom!r}") from None
            if symbol not in CHARGES:
                raise ValueError(f"line {number}: element {symbol!r} is not one of {', '.join(CHARGES)}")
            symbols.append(symbol)
            positions.append((x, y, z))
        molecules.append(Molecule(name, tuple(symbols), np.array(positions).reshape(-1, 3)))
    return molecules


def real_spherical_harmonics(degree: int, vectors: Floats) -> Floats:
    """Orthonormal real spherical harmonics of directions, shape (..., 3) -> (..., 2 degree + 1), m = -degree, ...,
    degree.

    Cosines for m > 0 and sines for m < 0, without the Condon-Shortley sign, as `clebsch_gordan` has them.
    """
    from scipy.special import sph_harm_y

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


def density_expansions(molecules: Iterable[Molecule]) -> list[Floats]:
    """c_l for l = 0, ..., MOST_L: shape (atoms of all molecules, 2 l + 1, radial functions)."""
    expansions: list[list[Floats]] = [[] for _ in range(MOST_L + 1)]
    for molecule in molecules:
        vectors = molecule.positions[None] - molecule.positions[:, None]
        distances = np.linalg.norm(vectors, axis=-1)
        near = (distances < CUTOFF) & ~np.eye(len(distances), dtype=bool)
        weights = np.where(near, np.cos(np.pi / 2 * np.minimum(distances / CUTOFF, 1)) ** 2, 0)
        weights = weights * [CHARGES[symbol] for symbol in molecule.symbols]
        radial = weights[..., None] * np.exp(-(((distances[..., None] - RADIAL) / WIDTH) ** 2) / 2)
        for degree, expansion in enumerate(expansions):
            harmonics = real_spherical_harmonics(degree, vectors)
            expansion.append(np.einsum("ijm,ijn->imn", harmonics, radial))
    return [np.concatenate(expansion) for expansion in expansions]


def couplings() -> list[tuple[int, int, int, Rule]]:
    """Every (l1, l2, l3, rule) with all degrees up to MOST_L, by l3."""
    degrees = range(MOST_L + 1)
    return [
        (l1, l2, l3, clebsch_gordan(l1, l2, l3))
        for l3 in degrees
        for l1 in degrees
        for l2 in degrees
        if abs(l1 - l2) <= l3 <= l1 + l2
    ]


def couple(rule: Rule, c1: Floats, c2: Floats) -> Floats:
    """p[i, mu, n, n'] for c1[i, m1, n] and c2[i, m2, n']: the library at work."""
    return rule(c1[:, :, :, None], c2[:, :, None, :], axis=1)


def loop_over_terms(rule: Rule, c1: Floats, c2: Floats) -> Floats:
    """The same by NumPy, one term at a time."""
    first, second = c1[:, :, :, None], c2[:, :, None, :]
    out = np.zeros((len(c1), rule.shape[2], c1.shape[2], c2.shape[2]))
    for m1, m2, mu, C in zip(rule.m1, rule.m2, rule.mu, rule.C, strict=True):
        out[:, mu] += C * first[:, m1] * second[:, m2]
    return out


def dense_einsum(rule: Rule, c1: Floats, c2: Floats) -> Floats:
    """The same by NumPy, with the dense tensor."""
    return np.asarray(np.einsum("ian,ibk,abc->icnk", c1, c2, rule.to_dense(), optimize=True))


def equivariance_error(
    rule: Rule, degrees: tuple[int, int, int], c: list[Floats], rotated: list[Floats], D: Floats
) -> float:
    """How far the features of rotated molecules are from the rotated features, relative to the largest."""
    l1, l2, _ = degrees
    expected = np.einsum("kc,ic...->ik...", D, couple(rule, c[l1], c[l2]))
    largest = np.max(abs(loop_over_terms(rule, abs(c[l1]), abs(c[l2]))))  # of the sums, were all terms of one sign
    return float(np.max(abs(couple(rule, rotated[l1], rotated[l2]) - expected)) / largest)


def run(seed: int = 0, out: TextIO = sys.stdout) -> bool:
    """Does the job, prints the table, and returns whether every check passed.

    Raises
    ------
    ModuleNotFoundError
        If scipy is missing.
    """
    try:
        from scipy.spatial.transform import Rotation
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the main job needs scipy: python -m pip install 'sparseacc[examples]'", name="scipy"
        ) from None

    molecules = load_molecules()
    rotation = Rotation.random(random_state=seed).as_matrix()
    c = density_expansions(molecules)
    rotated = density_expansions(m._replace(positions=m.positions @ rotation.T) for m in molecules)
    D = [wigner_d(degree, rotation) for degree in range(MOST_L + 1)]
    rows = len(c[0]) * len(RADIAL) ** 2

    def write(text: str) -> None:
        print(text, file=out, flush=True)

    write(
        f"sparseacc {__version__}, {cpu.instruction_set()}, {get_num_threads()} threads, "
        f"numpy {np.__version__}, float64"
    )
    write(f"S22: {len(molecules)} molecular complexes, {len(c[0])} atoms; Phys. Chem. Chem. Phys. 8, 1985 (2006)")
    write(f"all couplings up to l = {MOST_L} of densities in {len(RADIAL)} radial functions; random rotation {seed}\n")
    write(" l3  rules  terms  outputs   rows      time  ns/row     NumPy  faster  equivariance error")
    total = np.zeros(5)
    worst = 0.0
    passed = True
    for degree in range(MOST_L + 1):
        rules = [(l1, l2, rule) for l1, l2, l3, rule in couplings() if l3 == degree]
        ours = numpys = error = 0.0
        for l1, l2, rule in rules:
            expected = loop_over_terms(rule, c[l1], c[l2])
            if np.max(abs(couple(rule, c[l1], c[l2]) - expected)) > 1e-12 * np.max(abs(expected)):
                write(f"the coupling ({l1}, {l2}, {degree}) differs from NumPy's")
                passed = False
            error = max(error, equivariance_error(rule, (l1, l2, degree), c, rotated, D[degree]))
            times = medians([partial(way, rule, c[l1], c[l2]) for way in (couple, loop_over_terms, dense_einsum)])
            ours, numpys = ours + times[0], numpys + min(times[1:])
        if error > TOLERANCE:
            write(f"features of degree {degree} do not rotate as they should: {error:.1e} is above {TOLERANCE:.0e}")
            passed = False
        numbers = np.array([len(rules), sum(r.nnz for *_, r in rules), len(rules) * (2 * degree + 1), ours, numpys])
        total += numbers
        worst = max(worst, error)
        write(_line(f"{degree:3}", numbers, rows, error))
    write(_line("all", total, rows, worst))
    write(
        "\nThe l3 = 0 features are invariant and the others rotate by their Wigner matrices."
        if passed
        else "\nFAILED: see above."
    )
    return passed


def _line(label: str, numbers: Any, rows: int, error: float) -> str:
    rules, terms, outputs, ours, numpys = numbers
    return (
        f"{label}  {int(rules):5}  {int(terms):5}  {int(outputs):7}  {rows:5}  {ours * 1e3:5.1f} ms"
        f"  {ours * 1e9 / rows / rules:6.1f}  {numpys * 1e3:5.0f} ms  {numpys / ours:5.0f}x  {error:.1e}"
    )


def medians(calls: list[Callable[[], object]]) -> list[float]:
    """Median seconds of each call, interleaved, after one call of each that is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(REPEATS + 1):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]
