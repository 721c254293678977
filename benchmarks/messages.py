"""Times message passing beside the machine's limits and what users have: python benchmarks/messages.py [--help].

Cu in the fcc structure: every atom sends to those within a cutoff. The limit is the larger of the time to stream the
bytes that must move (weights, y and indices once an edge, rows of x and of the result once a node; weights twice for
gradients) and of the multiply-adds: rows m1 x mu of the rule contracted with y, and rows of the result, times channels;
four times that for the gradient, and for the double backward that of three sums and two gradients with their weights
three times. Both are timed in turn with the call, as all medians are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import limits
import numpy as np

import sparseacc
from sparseacc.bench import record
from sparseacc.bench.messages import crystal, e3nns_product

CASES = {
    "l = 1": ("64x0e + 64x1o", "0e + 1o", "0e + 1o"),
    "l = 2": ("64x0e + 64x1o + 64x2e", "0e + 1o + 2e", "0e + 1o + 2e"),
    "l = 3": ("64x0e + 64x1o + 64x2e + 64x3o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
    "MACE medium": ("128x0e + 128x1o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
    "MACE large": ("128x0e + 128x1o + 128x2e", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
    "NequIP": ("128x0e + 64x1o + 32x2e + 32x3o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o"),
    "SevenNet": ("128x0e + 64x1e + 32x2e + 32x3e", "0e + 1e + 2e + 3e", "0e + 1e + 2e + 3e"),
    "Allegro": ("64x0e + 64x1o + 64x2e", "0e + 1o + 2e", "0e + 1o + 2e"),
}
OPERATIONS = ("forward", "vjp", "vjp_vjp")


def medians(calls, seconds, least=5, most=50):
    """Median seconds of each call, interleaved, for about so long in all."""
    times = [[] for _ in calls]
    end = time.perf_counter() + seconds
    for turn in range(-1, most):
        for own, call in zip(times, calls, strict=True):
            begin = time.perf_counter()
            call()
            if turn >= 0:
                own.append(time.perf_counter() - begin)
        if turn >= least and time.perf_counter() > end:
            break
    return [statistics.median(own) for own in times]


def arrays_of(name, rule, graph, dtype, nodes):
    """x, y and weights."""
    rng = np.random.default_rng(0)
    rows = {"x": graph.num_edges if name == "Allegro" else nodes, "y": graph.num_edges, "w": graph.num_edges}
    if name == "Allegro":
        rows["y"], rows["w"] = nodes, 1
    shapes = ((rows["x"], rule.shape[0], rule.channels), (rows["y"], rule.shape[1]))
    shapes = (*shapes, (rows["w"], rule.num_paths, rule.channels))
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def multiply_adds(rule):
    """Of one edge: entries of the matrix from m1 to mu, and rows that each path adds to, times channels."""
    entries = {*zip(rule.path.tolist(), rule.mu.tolist(), rule.m1.tolist(), strict=True)}
    return (len(entries) + len({entry[:2] for entry in entries})) * rule.channels


def one_case(name, operation, dtype, threads, cells, seconds):
    irreps = CASES[name]
    rule = sparseacc.tensor_product(*irreps, sum_paths=name == "Allegro")
    senders, receivers, nodes = crystal(cells)
    if name == "Allegro":  # every edge has a row of its own, and meets what its first atom sums up
        shared = np.zeros(len(senders), int)
        graph = sparseacc.Graph(None, None, rows_of_y=receivers, rows_of_weights=shared)
    else:
        graph = sparseacc.Graph(senders, receivers, nodes)
    x, y, w = arrays_of(name, rule, graph, dtype, nodes)
    out = sparseacc.message_passing(rule, graph, x, y, w)
    calls = {
        "forward": partial(sparseacc.message_passing, rule, graph, x, y, w),
        "vjp": partial(sparseacc.message_passing_vjp, rule, graph, out, x, y, w),
        "vjp_vjp": partial(sparseacc.message_passing_vjp_vjp, rule, graph, x, y, w, out, x, y, w),
    }
    sparseacc.set_num_threads(threads)
    sizes = {"x": x.nbytes, "y": y.nbytes + 8 * graph.num_edges, "w": w.nbytes, "out": out.nbytes}
    inputs = sum(sizes.values())
    read, written, times = {
        "forward": (inputs - sizes["out"], sizes["out"], 1),
        "vjp": (inputs, inputs - sizes["out"], 4),
        "vjp_vjp": (2 * inputs - sizes["out"], inputs, 11),
    }[operation]
    peak, numbers = limits.multiply_adds(dtype, sparseacc.cpu.instruction_set(), threads)
    ours, peaked, *streams = medians([calls[operation], peak, *limits.streaming(read, written, threads)], seconds)
    arithmetic = peaked * times * multiply_adds(rule) * graph.num_edges / numbers
    memory, ns = min(streams), 1e9 / graph.num_edges
    print(
        f"{name:12} {operation:8} {dtype:8} {threads:7} {ours * ns:9.0f} {memory * ns:8.0f} {arithmetic * ns:8.0f} "
        f"{ours / max(memory, arithmetic):8.2f}",
        flush=True,
    )
    case = {"case": name, "operation": operation, "dtype": dtype, "threads": threads, "edges": graph.num_edges}
    figures = {"ns_an_edge": ours * ns, "memory": memory * ns, "arithmetic": arithmetic * ns}
    return case | figures | {"over_limit": ours / max(memory, arithmetic)}


def e3nns(name, senders, receivers, nodes, arrays, compiled):
    """Calls of e3nn's TensorProduct on gathered rows with index_add: the result, and with its gradients."""
    import torch

    tp = e3nns_product(*CASES[name])
    s, r, width = torch.from_numpy(senders), torch.from_numpy(receivers), tp.irreps_out.dim

    def convolution(x, y, w):
        return torch.zeros(nodes, width).index_add(0, r, tp(x[s], y, w))

    x, y, w = (torch.from_numpy(a.reshape(len(a), -1)).requires_grad_() for a in arrays)
    function = torch.compile(convolution, fullgraph=True) if compiled else convolution
    cotangent = torch.ones(nodes, width)

    def forward():
        with torch.no_grad():
            return function(x, y, w)

    return forward, lambda: torch.autograd.grad(function(x, y, w), (x, y, w), cotangent)


def beside(name, threads, cells, seconds, compiled):
    """Prints and returns nanoseconds an edge of message passing and of e3nn's, forward and backward."""
    import torch

    torch.set_num_threads(threads)
    sparseacc.set_num_threads(threads)
    rule = sparseacc.tensor_product(*CASES[name])
    senders, receivers, nodes = crystal(cells)
    graph = sparseacc.Graph(senders, receivers, nodes)
    arrays = arrays_of(name, rule, graph, "float32", nodes)
    out = sparseacc.message_passing(rule, graph, *arrays)

    def ours():
        sparseacc.message_passing(rule, graph, *arrays)
        sparseacc.message_passing_vjp(rule, graph, out, *arrays)

    calls = (partial(sparseacc.message_passing, rule, graph, *arrays), ours)
    theirs = e3nns(name, senders, receivers, nodes, arrays, compiled)
    forward, both, e3nn_forward, e3nn_both = medians([*calls, *theirs], seconds, least=3)
    times = {"forward": forward, "backward": both - forward}
    times |= {"e3nn_forward": e3nn_forward, "e3nn_backward": e3nn_both - e3nn_forward}
    case = {"case": name, "threads": threads, "compiled": compiled, "edges": graph.num_edges}
    case |= {key: time * 1e9 / graph.num_edges for key, time in times.items()}
    text = f"{name:12} e3nn{' compiled' * compiled:9} {threads:2} threads"
    for part in ("forward", "backward"):
        ours, other = case[part], case[f"e3nn_{part}"]
        text += f"; {part} {other:8.0f} to {ours:6.0f} ns, {other / ours:5.1f} times"
    print(text, flush=True)
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=8, help="cells an edge of the crystal, of 4 atoms each")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--operations", nargs="*", default=OPERATIONS, choices=OPERATIONS)
    parser.add_argument("--dtypes", nargs="*", default=["float32"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, sparseacc.get_num_threads()}))
    parser.add_argument("--seconds", type=float, default=5.0, help="for each case")
    parser.add_argument("--json", metavar="FILE", help="write the medians, the machine and the versions")
    parser.add_argument("--e3nn", action="store_true", help="compare with e3nn instead, eager and compiled")
    arguments = parser.parse_args()
    if arguments.e3nn:
        found = {
            "e3nn": [  # but Allegro's, whose edges have a row of x each
                beside(name, threads, arguments.cells, arguments.seconds, compiled)
                for name in arguments.cases
                if name != "Allegro"
                for threads in arguments.threads
                for compiled in (False, True)
            ]
        }
    else:
        found = {"cases": limited(arguments)}
    if arguments.json:
        record.write(arguments.json, **found)


def limited(arguments):
    print(f"sparseacc {sparseacc.__version__}, {sparseacc.cpu.instruction_set()}, medians, ns per edge")
    print("case         operation dtype   threads      ours   memory  arithm.  / limit")
    return [
        one_case(name, operation, dtype, threads, arguments.cells, arguments.seconds)
        for name in arguments.cases
        for operation in arguments.operations
        for dtype in arguments.dtypes
        for threads in arguments.threads
    ]


if __name__ == "__main__":
    main()
