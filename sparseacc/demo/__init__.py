"""The main job: a model of two layers of message passing, its energies and its forces, on complexes of molecules.

Edges lead from atom j to atom i of one complex where they are closer than a cutoff. Each layer couples the features of
the atoms with the harmonics of the edges by all paths of a tensor product, and adds up what the neighbours send,

    m[i] = sum over edges (i, j) of  C  x[j]  Y(r_ij / |r_ij|)  W R(|r_ij|),

where R are radial functions and each path has weights W R of its own, channel by channel. The features m of the first
layer, mixed across channels, are the x of the second. Energies are read from the scalars among m, and forces are their
gradient, by the backward pass of each step. Interatomic potentials are made like that, with weights that they learn
(for example NequIP: Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164). Here they are random.

When the molecules are rotated, features of degree l are multiplied by Wigner's matrix D_l, and in an inversion by their
parity; energies stay the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import cpu
from ..cpu.threads import get_num_threads
from ..graph import Graph
from ..irreps import as_segments
from ..messages import message_passing, message_passing_vjp
from ..tensor_products import TensorProduct
from ..version import __version__
from .harmonics import from_scipy, wigner_d
from .model import CHANNELS, FEATURES, HARMONICS, LAYERS, SCALE, Features, Model
from .molecules import CUTOFF, SOURCE, Floats, Molecule, find_edges, load_molecules, moved, of_complexes

TOLERANCE = 1e-12
"""Of what is exact but for rounding, in float64 (eps is 2e-16), relative to the largest of its kind. Rounding rotated
coordinates, of some 5 Angstrom, moves the neighbours at 1 Angstrom by about 10 eps. The slopes of the harmonics and of
the Gaussians, up to 5 where they matter, make that 100 eps in a layer, and 4e-14 in two. What is left is room for
cancellation among neighbours. A wrong sign is an error of order 1."""

STEP, OF_DIFFERENCES = 1e-4, 1e-6
"""Of the finite differences, in Angstrom, and the tolerance of what they say of forces. A central difference is off by
STEP**2 / 6 = 2e-9 times the third derivative, where the first is 1. Atoms move by up to 4 STEP relative to each other,
Gaussians bring 3 (4 / WIDTH)**2 = 130 by that, and harmonics at 1 Angstrom as much. So forces are off by some 2e-7.
Rounding energies adds eps / STEP = 2e-12 times some ten."""

REPEATS = 3
PAUSE = 0.15
"""Seconds before each turn: OpenBLAS's threads keep spinning for some 100 ms after a matmul, which comes last in a
turn, and would take processors away from what comes first."""


def by_numpy(
    products: Callable[..., Floats], rule: TensorProduct, graph: Graph, x: Floats, y: Floats, w: Floats
) -> Floats:
    """A layer by NumPy, path by path, for edges by receiver where every atom receives: gathered, multiplied, summed."""
    sent, first = x[graph.senders], np.searchsorted(np.asarray(graph.receivers), np.arange(graph.num_nodes))
    dense, out = rule.to_dense(), np.empty((graph.num_nodes, rule.shape[2], CHANNELS))
    for number, path in enumerate(rule.paths):
        rows = [slice(*which) for which in (path.rows1, path.rows2, path.rows_out)]
        messages = products(dense[tuple(rows)], sent[:, rows[0]], y[:, rows[1]])
        messages *= w[:, number, None]
        np.add.reduceat(messages, first, out=out[:, rows[2]])
    return out


def loop_over_terms(C: Floats, sent: Floats, y: Floats) -> Floats:
    """The products of a path, one term at a time."""
    messages = np.zeros((len(y), C.shape[2], CHANNELS))
    for m1, m2, mu in np.argwhere(C):
        messages[:, mu] += (C[m1, m2, mu] * y[:, m2])[:, None] * sent[:, m1]
    return messages


def dense_matmul(C: Floats, sent: Floats, y: Floats) -> Floats:
    """The products of a path: y times the dense tensor is a matrix for each edge, which multiplies the rows of x."""
    return np.asarray(np.tensordot(y, C, axes=(1, 1)).transpose(0, 2, 1) @ sent)


NUMPY_WAYS = (partial(by_numpy, loop_over_terms), partial(by_numpy, dense_matmul))


def with_gradient(rule: TensorProduct, graph: Graph, x: Floats, y: Floats, w: Floats) -> tuple[Floats, ...]:
    """A layer, and its gradient."""
    return message_passing_vjp(rule, graph, message_passing(rule, graph, x, y, w), x, y, w)


def relative_error(actual: Floats, expected: Floats) -> float:
    """The largest difference, relative to the largest magnitude. It is NaN, which passes no check, if all is zero."""
    return float(np.max(abs(actual - expected)) / np.max(abs(expected)))


class Check(NamedTuple):
    """What is wrong if the error is above the tolerance, or is NaN."""

    fault: str
    error: float
    tolerance: float = TOLERANCE


def check_turned(f: Features, turned: Features, rotation: Floats, inverted: bool) -> list[Check]:
    """The features of rotated complexes, which are inverted too or not, against the rotated features of complexes."""
    how = "a rotation and an inversion" if inverted else "a rotation"
    found = [Check(f"energies change in {how}", relative_error(turned.energies, f.energies))]
    for number, rule in enumerate(LAYERS):
        errors: dict[str, list[float]] = {}
        begin = 0
        for segment in as_segments(rule.irreps_out, "irreps"):
            rows = slice(begin, begin := begin + segment.dim)
            D = wigner_d(segment.degree, rotation) * (segment.parity if inverted else 1)
            error = relative_error(turned.m[number][:, rows], D @ f.m[number][:, rows])
            errors.setdefault(str(segment).partition("x")[2], []).append(error)
        for irrep, each in errors.items():
            found.append(Check(f"layer {number + 1}: {irrep} is not as it should be after {how}", float(np.max(each))))
    return found


def check_forces(model: Model, molecules: Sequence[Molecule], forces: Floats, seed: int) -> list[Check]:
    """The forces against differences of energies in a random direction of each complex; and their sums and torques."""
    direction = np.random.default_rng(seed).normal(size=forces.shape)
    ahead, behind = (
        model.features(at, find_edges(at)).energies
        for at in (moved(molecules, step * direction) for step in (STEP, -STEP))
    )
    work = of_complexes(molecules, np.sum(forces * direction, axis=1))
    turning = np.cross(np.concatenate([molecule.positions for molecule in molecules]), forces)
    sums = [float(np.max(abs(of_complexes(molecules, of))) / np.max(abs(of))) for of in (forces, turning)]
    return [
        Check(
            "forces are not the slope of energies", relative_error(work, (behind - ahead) / (2 * STEP)), OF_DIFFERENCES
        ),
        Check("the forces of a complex do not add up to zero", sums[0]),
        Check("the torques of a complex do not add up to zero", sums[1]),
    ]


def median_seconds(ways: Sequence[Callable[..., object]], todo: Sequence[Sequence[Any]]) -> Floats:
    """Of each way (first axis) for each set of arguments. The ways take turns, and the first turn is not counted."""
    times = np.empty((REPEATS + 1, len(ways), len(todo)))
    np.empty(30 * 2**20, np.uint8)  # once freed, glibc keeps what is freed later: no page faults in the timings
    for turn in times:
        time.sleep(PAUSE)
        for way, taken in zip(ways, turn, strict=True):
            for k, arguments in enumerate(todo):
                start = time.perf_counter()
                way(*arguments)
                taken[k] = time.perf_counter() - start
    return np.asarray(np.median(times[1:], axis=0))


def run(seed: int = 0) -> bool:
    """Does the job, prints the table, and returns whether every check passed.

    Raises
    ------
    ModuleNotFoundError
        If scipy is missing, or too old.
    """
    quaternion = np.random.default_rng(seed).normal(size=4)  # of any direction alike: any rotation alike
    rotation = from_scipy("spatial.transform", "Rotation").from_quat(quaternion).as_matrix()
    from_scipy("special", "sph_harm_y")
    molecules = load_molecules()
    edges, model = find_edges(molecules), Model()
    graph = edges.graph
    print(f"sparseacc {__version__}, {cpu.instruction_set()}, {get_num_threads()} threads, numpy {np.__version__}")
    print(f"S22, {SOURCE}:")
    print(f"{len(molecules)} complexes, {graph.num_nodes} atoms, {graph.num_edges} edges up to {CUTOFF} Angstrom")
    print(f"{CHANNELS} channels of float64: {FEATURES} times {HARMONICS} in layer 2")

    f = model.features(molecules, edges)
    forces = model.forces(edges, f)
    least, most, largest = f.energies.min(), f.energies.max(), abs(forces).max()
    print(
        f"random weights, nothing is trained: energies {least:.2f} to {most:.2f}, forces up to {largest:.2f}, no units"
    )
    checks = check_forces(model, molecules, forces, seed)
    for matrix in (rotation, -rotation):
        turned = [m._replace(positions=m.positions @ matrix.T) for m in molecules]
        checks += check_turned(f, model.features(turned, find_edges(turned)), rotation, matrix is not rotation)
    todo = [(rule, graph, x, f.harmonics, w) for rule, x, w in zip(LAYERS, f.x, f.weights, strict=True)]
    for number, (arguments, m) in enumerate(zip(todo, f.m, strict=True), start=1):
        for way in NUMPY_WAYS:
            checks.append(Check(f"layer {number} differs from NumPy", relative_error(way(*arguments) * SCALE, m)))
    _print_table(graph, median_seconds((message_passing, with_gradient, *NUMPY_WAYS), todo))

    print("\nrows: of the result, for each atom. gradient: that of x, y and weights, after the layer. NumPy: the")
    print("layer, by the faster of a loop over terms and matmul. ratio: NumPy / sparseacc. Times are medians")
    print(f"of {REPEATS}.")
    failures = [check for check in checks if not check.error <= check.tolerance]  # so that NaN fails
    for check in failures:
        print(f"FAILED: {check.fault}: error {check.error:.1e}, above {check.tolerance:.0e}")
    if not failures:
        exact = max(check.error for check in checks if check.tolerance == TOLERANCE)
        print(f"passed: energies stay the same and features turn by Wigner's D when the complexes turn (seed {seed}),")
        print(f"forces and torques add up to zero, NumPy agrees, all within {exact:.0e}; forces are the slope of the")
        print(f"energies within {checks[0].error:.0e}, as near as finite differences come")
    return not failures


def _print_table(graph: Graph, seconds: Floats) -> None:
    print("\nlayer  paths  rows  sparseacc ms  ns/edge  with gradient ms  NumPy ms  ratio")
    forward, both = seconds[:2] * 1e3
    for number, (rule, ours, more, numpys) in enumerate(
        zip(LAYERS, forward, both, np.min(seconds[2:], axis=0) * 1e3, strict=True), start=1
    ):
        print(
            f"{number:5}  {rule.num_paths:5}  {rule.shape[2]:4}  {ours:12.2f}  {ours * 1e6 / graph.num_edges:7.0f}  "
            f"{more:16.2f}  {numpys:8.1f}  {numpys / ours:4.1f}x"
        )
