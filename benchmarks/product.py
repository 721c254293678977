"""Times the product beside NumPy's own ways and the machine's limits: python benchmarks/product.py [--help].

t_limit = max(time to stream the bytes that must move, 2 nnz multiply-adds a row / measured peak).
"""

from __future__ import annotations

import argparse
import statistics
import timeit

import limits
import numpy as np

import sparseacc


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


NUMPY_WAYS = {"loop over terms": loop_over_terms, "dense matmul": dense_matmul, "dense einsum": dense_einsum}


def medians(calls, repeats, slow_repeats=3):
    """Median seconds of each call, interleaved; the slow ones (all but the first) fewer times."""
    times = [[] for _ in calls]
    for call in calls:
        call()
    for turn in range(repeats):
        for i, call in enumerate(calls):
            if i == 0 or turn < slow_repeats:
                times[i].append(timeit.timeit(call, number=1))
    return [statistics.median(t) for t in times]


def one_case(degree, rows, dtype, threads, repeats):
    rule = sparseacc.clebsch_gordan(degree, degree, degree)
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(rows, n)).astype(dtype) for n in rule.shape[:2])
    out = np.empty((rows, rule.shape[2]), dtype)
    expected = dense_einsum(rule, x1.astype(float), x2.astype(float))
    np.testing.assert_allclose(rule(x1, x2), expected, atol=50 * np.finfo(dtype).eps * abs(expected).max())

    sparseacc.set_num_threads(threads)
    new, *numpy_times = medians(
        [lambda: rule(x1, x2), *(lambda way=way: way(rule, x1, x2) for way in NUMPY_WAYS.values())], repeats
    )
    (reused,) = medians([lambda: rule(x1, x2, out=out)], repeats)
    memory = limits.streaming_seconds(x1.nbytes + x2.nbytes, out.nbytes, threads)
    peak = limits.multiply_adds_per_second(dtype, sparseacc.cpu.instruction_set(), threads)
    arithmetic = 2 * rule.nnz * rows / peak
    limit = max(memory, arithmetic)
    best = min(range(len(numpy_times)), key=numpy_times.__getitem__)
    ns = 1e9 / rows
    print(
        f"{degree:2} {dtype:8} {threads:7} {rule.nnz:5} {new * ns:8.2f} {reused * ns:8.2f} {memory * ns:8.2f} "
        f"{arithmetic * ns:8.2f} {reused / limit:8.2f} {numpy_times[best] * ns:9.1f} {numpy_times[best] / new:6.0f}x  "
        f"{list(NUMPY_WAYS)[best]}"
    )


def call_overhead():
    rule = sparseacc.clebsch_gordan(5, 5, 5)
    x1, x2 = np.random.default_rng(0).normal(size=(2, 1, 11)).astype("f4")
    ours, add = ([], [])
    for _ in range(15):  # interleaved
        ours.append(timeit.timeit(lambda: rule(x1, x2), number=20_000) / 20_000)
        add.append(timeit.timeit(lambda: np.add(x1, x2), number=20_000) / 20_000)
    a, b = statistics.median(ours), statistics.median(add)
    print(f"\none row, l = 5: rule(x1, x2) {a * 1e9:.0f} ns, np.add(x1, x2) {b * 1e9:.0f} ns, ratio {a / b:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--degrees", type=int, nargs="*", default=[1, 2, 3, 5, 8])
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, sparseacc.get_num_threads()}))
    parser.add_argument("--repeats", type=int, default=25)
    arguments = parser.parse_args()

    instruction_set = sparseacc.cpu.instruction_set()
    print(f"sparseacc {sparseacc.__version__}, numpy {np.__version__}, {instruction_set}, medians, ns per row")
    for threads in arguments.threads:
        for dtype in arguments.dtypes:
            peak = limits.multiply_adds_per_second(dtype, instruction_set, threads)
            size = 2**26
            speed = 3 * size / limits.streaming_seconds(2 * size, size, threads)
            speeds = f"{peak / 1e9:.0f} G multiply-adds/s, {speed / 1e9:.1f} GB/s from memory"
            print(f"{threads} threads, {dtype}: {speeds}")
    print("\n l dtype    threads   nnz   result   out=   memory  2nnz fma  / limit     NumPy  faster")
    for degree in arguments.degrees:
        for dtype in arguments.dtypes:
            for threads in arguments.threads:
                one_case(degree, arguments.rows, dtype, threads, arguments.repeats)
    call_overhead()


if __name__ == "__main__":
    main()
