"""Times the operations on a GPU beside its limits and what else is installed: python benchmarks/gpu.py [--help].

The limit is the larger of the time to copy the bytes that must move (each input read once, each output written once)
at the speed of a copy of as many bytes, and that of the multiply-adds at the card's peak. Every result is a new array.
Times are of the device, between two events, interleaved; medians. Every way is compared with float64 on the host first.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import chain, product
from typing import NamedTuple

import cupy
import cupyx
import numpy as np

import sparseacc
from sparseacc.bench.messages import crystal

CHANNELS = 128
BYTES_TO_CLEAR = 256 * 2**20  # more than any second-level cache holds


class Case(NamedTuple):
    """Arrays of an operation, and what it has to move and to compute."""

    name: str
    rule: sparseacc.Rule
    axis: int
    operation: str
    arrays: tuple[cupy.ndarray, ...]
    read: int
    written: int
    multiply_adds: int

    def ours(self):
        if self.operation == "forward":
            return (self.rule(*self.arrays, axis=self.axis),)
        return getattr(self.rule, self.operation)(*self.arrays, axis=self.axis)

    def expected(self):
        host = self._replace(arrays=tuple(array.get().astype("f8") for array in self.arrays))
        return host.ours()

    @property
    def rows(self):
        return self.arrays[-2].size // self.rule.shape[0]

    @property
    def ways(self):
        return WAYS if self.operation == "forward" else {}


class Messages(NamedTuple):
    """Message passing: the last arrays are x, y and weights."""

    name: str
    rule: sparseacc.Rule
    graph: sparseacc.Graph
    operation: str
    arrays: tuple[cupy.ndarray, ...]
    read: int
    written: int
    multiply_adds: int

    def ours(self):
        if self.operation == "forward":
            return (sparseacc.message_passing(self.rule, self.graph, *self.arrays),)
        function = {"vjp": sparseacc.message_passing_vjp, "vjp_vjp": sparseacc.message_passing_vjp_vjp}
        return function[self.operation](self.rule, self.graph, *self.arrays)

    def expected(self):
        graph = sparseacc.Graph(self.graph.senders, self.graph.receivers, self.graph.num_nodes)
        return self._replace(graph=graph, arrays=tuple(a.get().astype("f8") for a in self.arrays)).ours()

    @property
    def rows(self):
        return self.graph.num_edges

    @property
    def ways(self):
        return {"cupy.einsum, scatter_add": einsum_and_scatter} if self.operation == "forward" else {}


MODELS = {
    "NequIP, l = 2": ("64x0e+64x1o+64x2e", "0e+1o+2e", "0e+1o+2e"),
    "MACE, medium": ("128x0e+128x1o", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "MACE, large": ("128x0e+128x1o+128x2e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
}


def messages(model, cells, dtype):
    rng, rule = np.random.default_rng(0), sparseacc.tensor_product(*MODELS[model])
    senders, receivers, nodes = crystal(cells)
    edges, channels = len(senders), rule.channels
    graph = sparseacc.Graph(cupy.asarray(senders), cupy.asarray(receivers), nodes)
    shapes = ((nodes, rule.shape[0], channels), (edges, rule.shape[1]), (edges, rule.num_paths, channels))
    dout_shape = (nodes, rule.shape[2], channels)
    zx, zy, zw, dout, x, y, w = (cupy.asarray(rng.normal(size=s).astype(dtype)) for s in (*shapes, dout_shape, *shapes))
    inputs, indices = x.nbytes + y.nbytes + w.nbytes, 16 * edges
    rows = len(set(zip(rule.path.tolist(), rule.mu.tolist(), strict=True)))
    entries = len(set(zip(rule.path.tolist(), rule.mu.tolist(), rule.m1.tolist(), strict=True)))
    work = (rows + entries) * channels * edges
    name = f"messages, {model}"
    yield Messages(name, rule, graph, "forward", (x, y, w), inputs + indices, dout.nbytes, work)
    yield Messages(name, rule, graph, "vjp", (dout, x, y, w), inputs + dout.nbytes + indices, inputs, 4 * work)
    arrays = (zx, zy, zw, dout, x, y, w)
    read = 2 * inputs + dout.nbytes + indices
    yield Messages(name, rule, graph, "vjp_vjp", arrays, read, inputs + dout.nbytes, 11 * work)


def einsum_and_scatter(case):
    x, y, w = case.arrays
    dense = cupy.asarray(case.rule.to_dense().astype(x.dtype))
    path = np.zeros(case.rule.shape[2], int)
    path[case.rule.mu] = case.rule.path
    products = cupy.einsum("eau,eb,abc->ecu", x[cupy.asarray(case.graph.senders)], y, dense) * w[:, cupy.asarray(path)]
    out = cupy.zeros((case.graph.num_nodes, *products.shape[1:]), x.dtype)
    cupyx.scatter_add(out, cupy.asarray(case.graph.receivers), products)
    return (out,)


def cases(degrees, rows, dtype):
    for degree, layout in product(degrees, ("last", "middle", "middle, x2 for all channels")):
        yield from cases_of(degree, layout, rows, np.random.default_rng(0), dtype)


def cases_of(degree, layout, rows, rng, dtype):
    rule = sparseacc.clebsch_gordan(degree, degree, degree)
    n, batch = 2 * degree + 1, max(rows // CHANNELS, 1)
    shape = (rows, n) if layout == "last" else (batch, n, CHANNELS)
    shapes = [shape, (batch, n, 1) if layout.endswith("all channels") else shape, shape]
    x1, x2, dy, z1, z2 = (cupy.asarray(rng.normal(size=s).astype(dtype)) for s in (*shapes, *shapes[:2]))
    inputs, work, axis = x1.nbytes + x2.nbytes, rule.nnz * (x1.size // n), -1 if layout == "last" else -2
    name = f"l = {degree}, {layout}"
    yield Case(name, rule, axis, "forward", (x1, x2), inputs, dy.nbytes, 2 * work)
    yield Case(name, rule, axis, "vjp", (dy, x1, x2), inputs + dy.nbytes, inputs, 4 * work)
    arrays = (z1, z2, dy, x1, x2)
    yield Case(name, rule, axis, "vjp_vjp", arrays, 2 * inputs + dy.nbytes, inputs + dy.nbytes, 8 * work)


def einsum(case):
    x1, x2 = case.arrays
    dense = cupy.asarray(case.rule.to_dense().astype(x1.dtype))
    letters = "ra,rb,abc->rc" if case.axis == -1 else "rau,rbu,abc->rcu"
    return (cupy.einsum(letters, x1, cupy.broadcast_to(x2, (*x2.shape[:-1], x1.shape[-1])), dense),)


def loop_over_terms(case):
    x1, x2 = (cupy.moveaxis(x, case.axis, 0) for x in case.arrays)
    out = cupy.zeros((case.rule.shape[2], *x1.shape[1:]), x1.dtype)
    rule = case.rule
    for m1, m2, mu, C in zip(rule.m1, rule.m2, rule.mu, rule.C.astype(x1.dtype), strict=True):
        out[mu] += C * x1[m1] * x2[m2]
    return (cupy.moveaxis(out, 0, case.axis),)


def scatter_add(case):
    x1, x2 = (cupy.moveaxis(x, case.axis, -1) for x in case.arrays)
    m1, m2, mu, C = (cupy.asarray(column) for column in (case.rule.m1, case.rule.m2, case.rule.mu, case.rule.C))
    out = cupy.zeros((*x1.shape[:-1], case.rule.shape[2]), x1.dtype)
    cupyx.scatter_add(out, (..., mu), C.astype(x1.dtype) * x1[..., m1] * x2[..., m2])
    return (cupy.moveaxis(out, -1, case.axis),)


def torch_index_add(case):
    import torch

    x1, x2 = (torch.from_dlpack(x).movedim(case.axis, 0) for x in case.arrays)
    m1, m2, mu = (
        torch.as_tensor(column, dtype=torch.long, device=x1.device)
        for column in (case.rule.m1, case.rule.m2, case.rule.mu)
    )
    C = torch.as_tensor(case.rule.C, dtype=x1.dtype, device=x1.device).reshape(-1, *[1] * (x1.ndim - 1))
    out = torch.zeros((case.rule.shape[2], *x1.shape[1:]), dtype=x1.dtype, device=x1.device)
    return (cupy.from_dlpack(out.index_add_(0, mu, C * x1[m1] * x2[m2]).movedim(0, case.axis)),)


WAYS = {
    "cupy.einsum": einsum,
    "CuPy loop over terms": loop_over_terms,
    "CuPy scatter_add": scatter_add,
    "torch.index_add": torch_index_add,
}


def agrees(results, expected, dtype):
    return all(
        np.allclose(result.get(), right, rtol=0, atol=100 * np.finfo(dtype).eps * max(abs(right).max(), 1))
        for result, right in zip(results, expected, strict=True)
    )


def medians(calls, repeats):
    """Median seconds on the device of each call, interleaved, the caches cleared before each."""
    flush = cupy.empty(BYTES_TO_CLEAR // 4, "f4")
    times = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            flush.fill(turn)
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            call()
            end.record()
            end.synchronize()
            if turn:
                times[name].append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return {name: statistics.median(t) for name, t in times.items()}


def multiply_adds_per_second(dtype):
    """Measured with chains of multiply-adds in registers."""
    real = "float" if np.dtype(dtype) == np.float32 else "double"
    fma = "fmaf" if real == "float" else "fma"
    chains = 16
    lines = "\n".join(f"            x[{k}] = {fma}(x[{k}], a, b);" for k in range(chains))
    declared = ", ".join(f"{k}.0f + threadIdx.x" for k in range(chains))
    kernel = cupy.RawKernel(
        f"""extern "C" __global__ void peak({real} *out, {real} a, {real} b, int turns)
        {{
            {real} x[{chains}] = {{{declared}}};
            for (int turn = 0; turn < turns; ++turn) {{
{lines}
            }}
            {real} sum = 0;
            for (int k = 0; k < {chains}; ++k) sum += x[k];
            if (sum == 12345) out[0] = sum;
        }}""",
        "peak",
    )
    processors = cupy.cuda.Device().attributes["MultiProcessorCount"]
    grid, block, turns = processors * 8, 256, 4096
    scalar = np.dtype(dtype).type
    arguments = (cupy.zeros(1, dtype), scalar(0.999), scalar(0.001), np.int32(turns))
    seconds = medians({"peak": lambda: kernel((grid,), (block,), arguments)}, 5)["peak"]
    return grid * block * turns * chains / seconds


def measure(case, peak, repeats):
    """A dictionary of seconds, and of the ways that could not be run and why."""
    expected, dtype = case.expected(), case.arrays[0].dtype
    source, target = (cupy.zeros((case.read + case.written) // 2, "u1") for _ in range(2))
    calls = {"sparseacc": case.ours, "copy": lambda: cupy.copyto(target, source)}
    failed = {}
    if not agrees(case.ours(), expected, dtype):
        raise SystemExit(f"sparseacc is wrong: {case.name}, {case.operation}")
    for name, way in case.ways.items():
        try:
            if not agrees(way(case), expected, dtype):
                failed[name] = "wrong"
                continue
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[:100]
            continue
        calls[name] = lambda way=way: way(case)
    seconds = medians(calls, repeats)
    limit = max(seconds.pop("copy"), case.multiply_adds / peak)
    return {"case": case.name, "operation": case.operation, "limit": limit, "seconds": seconds, "not run": failed}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--degrees", type=int, nargs="*", default=[1, 2, 3, 5, 8])
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="of message passing")
    parser.add_argument("--cells", type=int, default=8, help="of copper along each axis: 4 cells**3 atoms")
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()

    card = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    versions = f"{card}, CuPy {cupy.__version__}, sparseacc {sparseacc.__version__}"
    print(f"{versions}; {arguments.rows} rows, medians, ps a row or edge")
    found = []
    for dtype in arguments.dtypes:
        peak = multiply_adds_per_second(dtype)
        print(f"\n{dtype}: {peak / 1e12:.2f} T multiply-adds/s\n")
        print(f"{'case':34} {'operation':9} {'ours':>8} {'limit':>8} {'/limit':>6}  others")
        of_messages = (case for model in arguments.models for case in messages(model, arguments.cells, dtype))
        for case in chain(cases(arguments.degrees, arguments.rows, dtype), of_messages):
            result = {"card": card, "dtype": dtype, **measure(case, peak, arguments.repeats)}
            found.append(result)
            ours, ps = result["seconds"]["sparseacc"], 1e12 / case.rows
            others = [f"{name} {s / ours:.1f}x" for name, s in result["seconds"].items() if name != "sparseacc"]
            others += [f"{name} ({why})" for name, why in result["not run"].items()]
            print(
                f"{case.name:34} {case.operation:9} {ours * ps:8.0f} {result['limit'] * ps:8.0f} "
                f"{ours / result['limit']:6.2f}  {', '.join(others)}",
                flush=True,
            )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
