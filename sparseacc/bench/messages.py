"""Layers of message passing: rows gathered, multiplied, and summed at the atoms that receive them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..channels import from_channels, to_channels
from ..graph import Graph
from ..messages import message_passing, message_passing_vjp
from ..tensor_products import TensorProduct, tensor_product
from .cases import LAYERS, Layer
from .limits import least_seconds
from .measuring import OURS, Result, Timed, ready, time_all
from .ways import default_dtype

QUICK = ("64 channels, l to 1", "MACE medium")
LATTICE, CUTOFF = 3.61, 5.0  # Angstrom, of copper


def cases(full: bool, dtype: str) -> list[Layer]:
    """All layers on 864 atoms, or two on 108."""
    return [layer(name, 6) for name in LAYERS] if full else [layer(name, 3) for name in QUICK]


def layer(name: str, cells: int) -> Layer:
    """A layer of LAYERS on so many cells of four atoms in each direction."""
    senders, _, atoms = crystal(cells)
    return Layer(name, atoms, len(senders))


def positions_of(cells: int) -> Array:
    """The atoms of so many cells (fcc) in each direction, in lattice constants."""
    corners = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    return (grid + corners).reshape(-1, 3)


def crystal(cells: int) -> tuple[Array, Array, int]:
    """Senders and receivers, sorted by receiver, and the atoms of so many cells in each direction, which repeat."""
    positions = positions_of(cells)
    near = []
    for number, position in enumerate(positions):
        apart = positions - position
        apart -= cells * np.round(apart / cells)
        near.append(np.flatnonzero(np.linalg.norm(apart, axis=1) * LATTICE < CUTOFF))
        near[-1] = near[-1][near[-1] != number]
    receivers = np.repeat(np.arange(len(positions)), [len(each) for each in near])
    return np.concatenate(near), receivers, len(positions)


class Problem:
    """A rule, edges, and arrays of random numbers: x, y, weights and the gradient of the result."""

    def __init__(self, case: Layer, dtype: str) -> None:
        features, harmonics = LAYERS[case.name]
        self.rule: TensorProduct = tensor_product(features, harmonics, harmonics, convention="e3nn")
        self.senders, self.receivers, self.atoms = crystal(round((case.atoms / 4) ** (1 / 3)))
        rows, channels = self.rule.shape, self.rule.channels
        of_edges = ((case.edges, rows[1]), (case.edges, self.rule.num_paths, channels))
        shapes = ((self.atoms, rows[0], channels), *of_edges, (self.atoms, rows[2], channels))
        rng = np.random.default_rng(0)
        self.x, self.y, self.w, self.dout = (rng.normal(size=shape).astype(dtype) for shape in shapes)

    def in_double(self) -> Problem:
        """The same with the same numbers in float64."""
        found = copy(self)
        found.x, found.y, found.w, found.dout = (a.astype(np.float64) for a in (self.x, self.y, self.w, self.dout))
        return found


def sparseacc(problem: Problem) -> Timed:
    """The package itself, on NumPy arrays; the gradient with the result."""
    rule, x, y, w = problem.rule, problem.x, problem.y, problem.w
    graph = Graph(problem.senders, problem.receivers, problem.atoms)
    forward = partial(message_passing, rule, graph, x, y, w)

    def gradient() -> Sequence[Any]:
        forward()
        return message_passing_vjp(rule, graph, problem.dout, x, y, w)

    return Timed(forward, gradient)


def numpy_add_at(problem: Problem) -> Timed:
    """Path by path: y times the dense tensor is a matrix for each edge, which multiplies the rows of x."""
    x, y, w, dout = problem.x, problem.y, problem.w, problem.dout
    paths = list(_paths(problem.rule, x.dtype))

    def forward() -> Array:
        out, sent = np.zeros_like(dout), x[problem.senders]
        for number, (rows1, rows2, rows_out, C) in enumerate(paths):
            matrix = np.tensordot(y[:, rows2], C, axes=(1, 1)).transpose(0, 2, 1)
            np.add.at(out[:, rows_out], problem.receivers, matrix @ sent[:, rows1] * w[:, number, None])
        return out

    def gradient() -> Sequence[Array]:
        forward()
        sent, received = x[problem.senders], dout[problem.receivers]
        dx, dy, dw = np.zeros_like(x), np.zeros_like(y), np.zeros_like(w)
        for number, (rows1, rows2, rows_out, C) in enumerate(paths):
            matrix = np.tensordot(y[:, rows2], C, axes=(1, 1))
            weighted = w[:, number, None] * received[:, rows_out]
            np.add.at(dx[:, rows1], problem.senders, matrix @ weighted)
            dw[:, number] = (matrix.transpose(0, 2, 1) @ sent[:, rows1] * received[:, rows_out]).sum(axis=1)
            dy[:, rows2] += np.tensordot(sent[:, rows1] @ weighted.transpose(0, 2, 1), C, axes=((1, 2), (0, 2)))
        return dx, dy, dw

    return Timed(forward, gradient)


def jax_segment_sum(problem: Problem) -> Timed:
    """jax.jit of the same, with segment_sum."""
    import jax
    import jax.numpy as jnp

    if problem.x.dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    paths = list(_paths(problem.rule, problem.x.dtype))
    senders, receivers, *arrays = map(
        jnp.asarray, (problem.senders, problem.receivers, problem.x, problem.y, problem.w)
    )

    def passed(x: Any, y: Any, w: Any) -> Any:
        sent, out = x[senders], jnp.zeros(problem.dout.shape, x.dtype)
        for number, (rows1, rows2, rows_out, C) in enumerate(paths):
            messages = jnp.einsum("eac,eb,abm->emc", sent[:, rows1], y[:, rows2], C) * w[:, number, None]
            out = out.at[:, rows_out].set(jax.ops.segment_sum(messages, receivers, problem.atoms))
        return out

    def both(x: Any, y: Any, w: Any) -> Any:
        out, vjp = jax.vjp(passed, x, y, w)
        return out, vjp(jnp.asarray(problem.dout))

    forward, with_gradient = jax.jit(passed), jax.jit(both)
    return Timed(
        lambda: jax.block_until_ready(forward(*arrays)), lambda: jax.block_until_ready(with_gradient(*arrays))[1]
    )


def e3nns_product(irreps1: Any, irreps2: Any, wanted: Any) -> Any:
    """A TensorProduct of e3nn to the wanted irreps, with a block for every path, and weights for every edge."""
    from e3nn import o3

    first, second, wanted = map(o3.Irreps, (irreps1, irreps2, wanted))
    blocks: list[Any] = []
    instructions: list[Any] = []
    for i, (mul, one) in enumerate(first):
        for j, (_, two) in enumerate(second):
            for out in (out for out in one * two if out in wanted):
                instructions.append((i, j, len(blocks), "uvu", True))
                blocks.append((mul, out))
    irreps_out, place, _ = o3.Irreps(blocks).sort()
    instructions = [(i, j, place[k], mode, learned) for i, j, k, mode, learned in instructions]
    return o3.TensorProduct(first, second, irreps_out, instructions, shared_weights=False, internal_weights=False)


def e3nn_index_add(problem: Problem) -> Timed:
    """index_add of e3nn's TensorProduct of gathered rows, with autograd, in e3nn's layout."""
    import torch

    rule = problem.rule
    with default_dtype(problem.x.dtype):
        product = e3nns_product(rule.irreps1, rule.irreps2, rule.irreps2)
    first, irreps_out = product.irreps_in1, product.irreps_out
    senders, receivers = torch.from_numpy(problem.senders), torch.from_numpy(problem.receivers)
    flat = (from_channels(problem.x, first), problem.y, problem.w.reshape(len(senders), -1))
    arrays = [torch.from_numpy(np.ascontiguousarray(array)) for array in flat]
    leaves = [array.clone().requires_grad_() for array in arrays]
    cotangent = torch.from_numpy(np.ascontiguousarray(from_channels(problem.dout, irreps_out)))

    def passed(x: Any, y: Any, w: Any) -> Any:
        return x.new_zeros(problem.atoms, irreps_out.dim).index_add(0, receivers, product(x[senders], y, w))

    def forward() -> Any:
        with torch.no_grad():
            return passed(*arrays)

    in_channels = [partial(_in_channels, irreps=irreps, like=rule.channels) for irreps in (irreps_out, first)]
    as_weights = partial(np.reshape, shape=problem.w.shape)
    return Timed(
        forward, lambda: torch.autograd.grad(passed(*leaves), leaves, cotangent), [*in_channels, np.asarray, as_weights]
    )


def _in_channels(array: Any, irreps: Any, like: int) -> Array:
    return np.asarray(to_channels(np.asarray(array), irreps, channels=like))


def _paths(rule: TensorProduct, dtype: Any) -> Iterator[tuple[slice, slice, slice, Array]]:
    """Of each path: the rows of x, of y and of the result, and the dense tensor."""
    dense = rule.to_dense().astype(dtype)
    for path in rule.paths:
        rows = [slice(*map(int, which)) for which in (path.rows1, path.rows2, path.rows_out)]
        yield rows[0], rows[1], rows[2], dense[tuple(rows)]


WAYS: dict[str, Callable[[Problem], Timed]] = {
    OURS: sparseacc,
    "NumPy add.at": numpy_add_at,
    "JAX segment_sum": jax_segment_sum,
    "e3nn index_add": e3nn_index_add,
}


def measure(
    case: Layer, names: Sequence[str], dtype: str, seconds: float, quick: bool, step: Callable[[str], None]
) -> Iterator[Result]:
    """The layer, then its gradient with the layer; `step` is called before each way is made, and before each result."""
    problem = Problem(case, dtype)
    rule, channels = problem.rule, problem.rule.channels
    exact = numpy_add_at(problem.in_double())
    forward, backward = (Result(case, operation, rule.nnz) for operation in ("forward", "gradient"))
    ways = {name: partial(WAYS[name], problem) for name in names}
    assert exact.gradient is not None
    calls = ready(ways, (exact.result(), exact.gradient()), (forward, backward), dtype, step)
    entries = len({*zip(rule.path.tolist(), rule.mu.tolist(), rule.m1.tolist(), strict=True)})
    inputs, output = problem.x.nbytes + problem.y.nbytes + problem.w.nbytes, problem.dout.nbytes
    indices = problem.senders.nbytes + problem.receivers.nbytes
    for result, own, moved, held, n in (
        (forward, calls[0], inputs + indices + output, inputs + indices + output, 1),
        (backward, calls[1], 3 * inputs + 2 * (indices + output), 2 * (inputs + output) + indices, 3),
    ):
        step(result.operation)
        result.limit = least_seconds(moved, held, n * entries * channels * case.edges, dtype) / case.edges * 1e9
        time_all(result, own, case.edges, seconds)
        yield result
