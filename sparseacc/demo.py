"""The main job: couples the neighbour densities of atoms in molecules, and checks that the result rotates as it should.

For each atom i the density of its neighbours is expanded in radial functions and real spherical harmonics,

    c_l[i, m, n] = sum_j Z_j f_cut(r_ij) R_n(r_ij) Y_lm(r_ij / |r_ij|),

the radial functions are mixed into two sets of channels k, and every pair of degrees is coupled, channel by channel, to
every degree that it can be coupled to,

    A_l[i, m, k] = sum_n W[n, k] c_l[i, m, n],    B_l[i, m, k] = sum_n V[n, k] c_l[i, m, n],
    p[i, mu, k] = sum C[m1, m2, mu] A_l1[i, m1, k] B_l2[i, m2, k],

as equivariant networks do it with weights that they learn (for example MACE: Batatia et al., NeurIPS 2022,
arXiv:2206.07697). Here W and V are random. When the molecules are rotated by R, the features of degree l are multiplied
by the Wigner matrix D_l(R); those of degree 0 stay the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module, resources
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import cpu
from .angular import clebsch_gordan
from .cpu.threads import get_num_threads
from .extras import how_to_install
from .rule import Rule
from .version import __version__

Floats = npt.NDArray[np.float64]

MOST_L = 4
RADIAL = np.linspace(0.8, 5.0, 8)  # centres of the Gaussians R_n, in Angstrom
WIDTH = 0.6
CUTOFF = 6.0
CHANNELS = 128
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8}
SOURCE = "P. Jurecka et al., Phys. Chem. Chem. Phys. 8, 1985 (2006), doi 10.1039/b600027d"

TOLERANCE = 1e-12
"""Of every check, in float64 (eps is 2e-16), relative to the coupling's largest feature. Rounding the rotated
coordinates, of some 5 Angstrom, moves the neighbours at 1 Angstrom by about 10 eps. The slopes of the harmonics and of
the Gaussians, up to 5 where they matter, make that 100 eps in c and 4e-14 in p. The sums, of at most 81 terms and of
the 9 of D, add less than that. What is left is room for cancellation in p. A wrong sign is an error of order 1."""

REPEATS = 5
PAUSE = 0.15
"""Seconds before each turn: OpenBLAS's threads keep spinning for some 100 ms after a matmul, which comes last in a
turn, and would take processors away from what comes first."""


class Molecule(NamedTuple):
    """Element symbols, and positions in Angstrom, shape (atoms, 3)."""

    name: str
    symbols: tuple[str, ...]
    positions: Floats


class Coupling(NamedTuple):
    """A rule, of shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), and the same as a dense tensor for NumPy."""

    l1: int
    l2: int
    l3: int
    rule: Rule
    dense: Floats


def load_molecules(lines: Iterable[str] | None = None) -> list[Molecule]:
    """Reads molecules in XYZ format, one after the other; by default the S22 complexes that the package ships.

    Raises
    ------
    ValueError
        Naming the line, if it is not what the format has there.
    """
    if lines is None:
        lines = (resources.files(__package__) / "data" / "s22.xyz").read_text(encoding="utf-8").splitlines()
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
            if symbol not in CHARGES:
                raise ValueError(f"line {number}: element {symbol!r} is not one of {', '.join(CHARGES)}")
            symbols.append(symbol)
            positions.append(position)
        molecules.append(Molecule(name, tuple(symbols), np.array(positions)))
    return molecules


def _from_scipy(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"scipy.{module}"), name)
    except (ImportError, AttributeError) as error:
        needed = f"the main job needs scipy 1.15 or newer: {how_to_install('examples')}"
        raise ModuleNotFoundError(f"{needed} ({error})", name="scipy") from error


def real_spherical_harmonics(degree: int, vectors: Floats) -> Floats:
    """Orthonormal real spherical harmonics of directions, shape (..., 3) -> (..., 2 degree + 1), m = -degree..degree.

    Cosines for m > 0 and sines for m < 0, without the Condon-Shortley sign, as `clebsch_gordan` has them.
    """
    sph_harm_y = _from_scipy("special", "sph_harm_y")
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
        smooth = np.cos(np.pi / 2 * np.minimum(distances / CUTOFF, 1)) ** 2
        weights = smooth * ~np.eye(len(distances), dtype=bool) * [CHARGES[symbol] for symbol in molecule.symbols]
        radial = weights[..., None] * np.exp(-(((distances[..., None] - RADIAL) / WIDTH) ** 2) / 2)
        for degree, expansion in enumerate(expansions):
            harmonics = real_spherical_harmonics(degree, vectors)
            expansion.append(np.einsum("ijm,ijn->imn", harmonics, radial))
    return [np.concatenate(expansion) for expansion in expansions]


def mixed(c: Iterable[Floats]) -> list[Floats]:
    """A_l and B_l, one after the other in the last axis: shape (atoms, 2 l + 1, 2 CHANNELS)."""
    W = np.random.default_rng(2).normal(size=(len(RADIAL), 2 * CHANNELS))
    return [expansion @ W for expansion in c]


def couplings() -> list[Coupling]:
    """Every coupling with all degrees up to MOST_L, by l3."""
    degrees = range(MOST_L + 1)
    allowed = [(l1, l2, l3) for l3 in degrees for l1 in degrees for l2 in degrees if abs(l1 - l2) <= l3 <= l1 + l2]
    rules = [clebsch_gordan(*triple) for triple in allowed]
    return [Coupling(*triple, rule, rule.to_dense()) for triple, rule in zip(allowed, rules, strict=True)]


def couple(coupling: Coupling, c1: Floats, c2: Floats) -> Floats:
    """p[i, mu, k] for A of c1 and B of c2, both shape (atoms, m, 2 CHANNELS): the library at work."""
    return coupling.rule(c1[..., :CHANNELS], c2[..., CHANNELS:], axis=1)


def loop_over_terms(coupling: Coupling, c1: Floats, c2: Floats) -> Floats:
    """The same by NumPy, one term at a time."""
    rule, A, B = coupling.rule, c1[..., :CHANNELS], c2[..., CHANNELS:]
    out = np.zeros((len(c1), rule.shape[2], CHANNELS))
    for m1, m2, mu, C in zip(rule.m1, rule.m2, rule.mu, rule.C, strict=True):
        out[:, mu] += C * A[:, m1] * B[:, m2]
    return out


def dense_einsum(coupling: Coupling, c1: Floats, c2: Floats) -> Floats:
    """The same by NumPy, with the dense tensor."""
    A, B = c1[..., :CHANNELS], c2[..., CHANNELS:]
    return np.asarray(np.einsum("abc,iak,ibk->ick", coupling.dense, A, B, optimize=True))


def dense_matmul(coupling: Coupling, c1: Floats, c2: Floats) -> Floats:
    """The same by NumPy: all products of components, times the dense tensor as a matrix, by BLAS."""
    products = c1[:, :, None, :CHANNELS] * c2[:, None, :, CHANNELS:]
    matrix = coupling.dense.reshape(-1, coupling.dense.shape[2]).T
    return np.asarray(matrix @ products.reshape(len(c1), -1, CHANNELS))


NUMPY_WAYS = (loop_over_terms, dense_einsum, dense_matmul)


def relative_error(actual: Floats, expected: Floats) -> float:
    """The largest difference, relative to the largest magnitude. It is NaN, which passes no check, if all is zero."""
    return float(np.max(abs(actual - expected)) / np.max(abs(expected)))


def equivariance_error(coupling: Coupling, c: list[Floats], rotated: list[Floats], D: Floats) -> float:
    """How far the features of rotated molecules are from the rotated features of the molecules."""
    l1, l2 = coupling.l1, coupling.l2
    expected = np.einsum("dc,ick->idk", D, couple(coupling, c[l1], c[l2]))
    return relative_error(couple(coupling, rotated[l1], rotated[l2]), expected)


def median_seconds(ways: Sequence[Callable[..., object]], todo: list[Coupling], c: list[Floats]) -> Floats:
    """Of each way (first axis) for each coupling. The ways take turns, and the first turn is not counted."""
    times = np.empty((REPEATS + 1, len(ways), len(todo)))
    np.empty(30 * 2**20, np.uint8)  # once freed, glibc keeps what is freed later: no page faults in the timings
    for turn in times:
        time.sleep(PAUSE)
        for way, taken in zip(ways, turn, strict=True):
            for k, coupling in enumerate(todo):
                start = time.perf_counter()
                way(coupling, c[coupling.l1], c[coupling.l2])
                taken[k] = time.perf_counter() - start
    return np.asarray(np.median(times[1:], axis=0))


def run(seed: int = 0) -> bool:
    """Does the job, prints the table, and returns whether every check passed.

    Raises
    ------
    ModuleNotFoundError
        If scipy is missing, or too old.
    """
    molecules = load_molecules()
    c = mixed(density_expansions(molecules))
    rows = len(c[0]) * CHANNELS
    print(f"sparseacc {__version__}, {cpu.instruction_set()}, {get_num_threads()} threads, numpy {np.__version__}")
    print(f"S22, {SOURCE}:")
    print(f"{len(molecules)} complexes, {len(c[0])} atoms, {CHANNELS} channels: {rows} rows of float64")

    quaternion = np.random.default_rng(seed).normal(size=4)  # of any direction alike: any rotation alike
    rotation = _from_scipy("spatial.transform", "Rotation").from_quat(quaternion).as_matrix()
    rotated = mixed(density_expansions(m._replace(positions=m.positions @ rotation.T) for m in molecules))
    D = [wigner_d(degree, rotation) for degree in range(MOST_L + 1)]
    todo = couplings()
    differences = [relative_error(couple(k, c[k.l1], c[k.l2]), loop_over_terms(k, c[k.l1], c[k.l2])) for k in todo]
    errors = [equivariance_error(k, c, rotated, D[k.l3]) for k in todo]
    seconds, *by_numpy = median_seconds((couple, *NUMPY_WAYS), todo, c)
    _print_table(todo, rows, seconds, np.min(by_numpy, axis=0), np.array(errors))

    print("\nns/row: for one coupling. NumPy: the fastest, for each coupling, of a loop, einsum and matmul.")
    print(f"ratio: NumPy / sparseacc. Times are medians of {REPEATS}. error: the features of randomly rotated")
    print(f"molecules (seed {seed}) against the rotated features of the molecules; the largest is 1.")
    failures = []
    for k, difference, error in zip(todo, differences, errors, strict=True):
        if not difference <= TOLERANCE:  # so that NaN fails
            failures.append(f"{k.l1} x {k.l2} -> {k.l3} differs from NumPy by {difference:.1e}")
        if not error <= TOLERANCE:
            what = "rotate as they should" if k.l3 else "stay the same in a rotation"
            failures.append(f"the features {k.l1} x {k.l2} -> {k.l3} do not {what}: error {error:.1e}")
    for failure in failures:
        print(f"FAILED: {failure}, above {TOLERANCE:.0e}")
    if not failures:
        print(f"passed: l3 = 0 is invariant, the others rotate by Wigner's D, NumPy agrees, all within {TOLERANCE:.0e}")
    return not failures


def _print_table(todo: list[Coupling], rows: int, seconds: Floats, by_numpy: Floats, errors: Floats) -> None:
    print("\n l3  couplings  terms  outputs  sparseacc ms  ns/row  NumPy ms  ratio    error")
    l3 = np.array([k.l3 for k in todo])
    terms = np.array([k.rule.nnz for k in todo])
    parts = [(f"{degree:3}", l3 == degree) for degree in range(MOST_L + 1)]
    for label, part in [*parts, ("all", l3 >= 0)]:
        ours, numpys, count = np.sum(seconds[part]), np.sum(by_numpy[part]), np.count_nonzero(part)
        print(
            f"{label}  {count:9}  {np.sum(terms[part]):5}  {np.sum(2 * l3[part] + 1):7}  {ours * 1e3:12.2f}  "
            f"{ours * 1e9 / rows / count:6.2f}  {numpys * 1e3:8.2f}  {numpys / ours:4.1f}x  {np.max(errors[part]):.1e}"
        )
