"""Times the product and its gradients beside the machine's limits and NumPy: python benchmarks/product.py [--help].

The limit is the larger of the time to stream the bytes that must move and of 2 nnz multiply-adds a row (4 nnz for vjp,
8 nnz for vjp_vjp) in registers. Both are timed in turn with the product, in the same process, since a shared machine is
not equally fast at all times; all figures are medians. Every result is a new array.
"""

from __future__ import annotations

import argparse
import statistics
import timeit
from functools import partial
from itertools import product

import limits
import numpy as np

import sparseacc
from sparseacc.bench import all_couplings, record


def loop_over_terms(rule, x1, x2):
    out = np.zeros((len(x1), rule.shape[2]), x1.dtype)
    C = rule.C.astype(x1.dtype)
    for k in range(rule.nnz):
        out[:, rule.mu[k]] += C[k] * x1[:, rule.m1[k]] * x2[:, rule.m2[k]]
    return out


def dense_matmul(rule, x1, x2):
    dense = rule.to_dense().reshape(-1, rule.shape[2]).astype(x1.dtype)
    return (x1[:, :, None] * x2[:, None, :]).reshape(len(x1), -1) @ dense


def dense_einsum(rule, x1, x2):
    return np.einsum("ra,rb,abc->rc", x1, x2, rule.to_dense().astype(x1.dtype), optimize=True)


CHANNELS = 128
OPERATIONS = ("forward", "vjp", "vjp_vjp")
NUMPY_WAYS = {"loop over terms": loop_over_terms, "dense matmul": dense_matmul, "dense einsum": dense_einsum}


def medians(calls, repeats, slow=(), slow_repeats=3, warm=False):
    """Median seconds of each call, interleaved; the slow ones fewer times. If warm, each right after itself."""
    times = [[] for _ in (*calls, *slow)]
    for turn in range(-1, repeats):
        for i, call in enumerate([*calls, *slow] if turn < slow_repeats else calls):
            if warm:
                call()
            seconds = timeit.timeit(call, number=1)
            if turn >= 0:
                times[i].append(seconds)
    return [statistics.median(t) for t in times]


def one_case(name, rule, operation, layout, rows, dtype, threads, repeats, given_out, warm):
    """Prints one row of the table and returns it; the first case of a rule is also compared with NumPy's ways."""
    rng = np.random.default_rng(0)

    def array(n, channels=CHANNELS):
        shape = (rows, n) if layout == "last" else (rows // CHANNELS, n, channels)
        return rng.normal(size=shape).astype(dtype)

    axis = -1 if layout == "last" else 1
    shared = 1 if layout == "shared" else CHANNELS
    n1, n2, n_out = rule.shape
    x1, z1, dy = array(n1), array(n1), array(n_out)
    x2, z2 = array(n2, shared), array(n2, shared)
    out = np.empty_like(dy) if given_out else None
    call, read, written, multiply_adds = {
        "forward": (lambda: rule(x1, x2, axis=axis, out=out), (x1, x2), (dy,), 2),
        "vjp": (lambda: rule.vjp(dy, x1, x2, axis=axis), (dy, x1, x2), (x1, x2), 4),
        "vjp_vjp": (lambda: rule.vjp_vjp(z1, z2, dy, x1, x2, axis=axis), (z1, z2, dy, x1, x2), (dy, x1, x2), 8),
    }[operation]
    read, written = (sum(a.nbytes for a in arrays) for arrays in (read, written))
    rows = x1.size // n1
    compared = operation == "forward" and layout == "last" and rule.shape[2] < 100
    if compared:
        expected = dense_einsum(rule, x1.astype(float), x2.astype(float))
        np.testing.assert_allclose(call(), expected, atol=50 * np.finfo(dtype).eps * abs(expected).max())

    sparseacc.set_num_threads(threads)
    ways = [partial(way, rule, x1, x2) for way in NUMPY_WAYS.values()] if compared else []
    peak, numbers = limits.multiply_adds(dtype, sparseacc.cpu.instruction_set(), threads)
    ours, peaked, *rest = medians([call, peak, *limits.streaming(read, written, threads)], repeats, ways, warm=warm)
    memory, numpys = min(rest[:2]), rest[2:]
    arithmetic = peaked * multiply_adds * rule.nnz * rows / numbers
    ns = 1e9 / rows
    best = min(range(len(numpys)), key=numpys.__getitem__) if compared else None
    compare = "" if best is None else f"{numpys[best] * ns:8.1f} {numpys[best] / ours:5.0f}x  {list(NUMPY_WAYS)[best]}"
    print(
        f"{rule.nnz:5} {operation:8} {layout:7} {dtype:8} {threads:7} {ours * ns:8.2f} {memory * ns:8.2f} "
        f"{arithmetic * ns:8.2f} {ours / max(memory, arithmetic):8.2f} {compare}",
        flush=True,
    )
    case = {"rule": name, "nnz": rule.nnz, "operation": operation, "layout": layout, "dtype": dtype, "threads": threads}
    times = {"ns_a_row": ours * ns, "memory": memory * ns, "arithmetic": arithmetic * ns}
    return case | {"rows": rows, "over_limit": ours / max(memory, arithmetic)} | times


def call_overhead():
    rule = sparseacc.clebsch_gordan(5, 5, 5)
    x1, x2 = np.random.default_rng(0).normal(size=(2, 1, 11)).astype("f4")
    ours, add = ([], [])
    for _ in range(15):  # interleaved
        ours.append(timeit.timeit(lambda: rule(x1, x2), number=20_000) / 20_000)
        add.append(timeit.timeit(lambda: np.add(x1, x2), number=20_000) / 20_000)
    a, b = statistics.median(ours), statistics.median(add)
    print(f"\none row, l = 5: rule(x1, x2) {a * 1e9:.0f} ns, np.add(x1, x2) {b * 1e9:.0f} ns, ratio {a / b:.1f}")
    return {"microseconds": a * 1e6, "over_np_add": a / b}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--degrees", type=int, nargs="*", default=[1, 2, 3, 5, 8])
    parser.add_argument("--all-couplings", type=int, nargs="*", default=[3], help="up to these degrees, in one rule")
    parser.add_argument("--layouts", nargs="*", default=["last", "middle", "shared"])
    parser.add_argument("--operations", nargs="*", default=OPERATIONS)
    parser.add_argument("--given-out", action="store_true", help="give the product an array for its result")
    parser.add_argument("--warm", action="store_true", help="time every call right after itself, in the caches it left")
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, sparseacc.get_num_threads()}))
    parser.add_argument("--instruction-set", choices=sparseacc.cpu.instruction_sets())
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--json", metavar="FILE", help="write the medians, the machine and the versions")
    arguments = parser.parse_args()

    if arguments.instruction_set:
        sparseacc.cpu.set_instruction_set(arguments.instruction_set)
    instruction_set = sparseacc.cpu.instruction_set()
    print(f"sparseacc {sparseacc.__version__}, numpy {np.__version__}, {instruction_set}, medians, ns per row")
    peaks, cases = [], []
    for threads in arguments.threads:
        for dtype in arguments.dtypes:
            size = 2**26
            peak, numbers = limits.multiply_adds(dtype, instruction_set, threads)
            seconds, *streams = medians([peak, *limits.streaming(2 * size, size, threads)], 9)
            giga = numbers / seconds / 1e9, 3 * size / min(streams) / 1e9
            print(f"{threads} threads, {dtype}: {giga[0]:.0f} G multiply-adds/s, {giga[1]:.1f} GB/s from memory")
            measured = {"giga_multiply_adds_a_second": giga[0], "gigabytes_a_second": giga[1]}
            peaks.append({"threads": threads, "dtype": dtype} | measured)
    print("\n  nnz operation axis   dtype    threads     ours   memory   arithm.  / limit    NumPy")
    rules = {f"l = {degree}": sparseacc.clebsch_gordan(degree, degree, degree) for degree in arguments.degrees}
    rules |= {f"all to {degree}": all_couplings(degree) for degree in arguments.all_couplings}
    for name, rule in rules.items():
        for layout, operation, dtype, threads in product(
            arguments.layouts, arguments.operations, arguments.dtypes, arguments.threads
        ):
            settings = arguments.repeats, arguments.given_out, arguments.warm
            cases.append(one_case(name, rule, operation, layout, arguments.rows, dtype, threads, *settings))
    one_row = call_overhead()
    if arguments.json:
        settings = {"repeats": arguments.repeats, "given_out": arguments.given_out, "warm": arguments.warm}
        record.write(arguments.json, settings=settings, one_row=one_row, peaks=peaks, cases=cases)


if __name__ == "__main__":
    main()
