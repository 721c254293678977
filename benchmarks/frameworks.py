"""Times the bridges beside the plain NumPy call on the same numbers: python benchmarks/frameworks.py [--help].

Medians of calls that are interleaved in one process, in turns of many calls: short ones mostly time how other libraries
drive code out of the caches (--turn 0.001). What a compiled framework needs to call anything, an addition of the two
inputs, is timed as well.
"""

from __future__ import annotations

import argparse
import statistics
import timeit
from functools import lru_cache

import numpy as np

import sparseacc
from sparseacc.bench import record


def numpy_ways(rule, x1, x2, dy):
    return {
        ("forward", "NumPy"): lambda: rule(x1, x2),
        ("gradient", "NumPy"): lambda: rule.vjp(dy, x1, x2),
    }


def torch_ways(rule, x1, x2, dy):
    import torch

    import sparseacc.torch

    def forward(a, b):
        return sparseacc.torch.product(rule, a, b)

    def accumulate(a, b):
        return sparseacc.torch.accumulate(a, b, mu, rule.shape[2], m1, m2, C)

    def gradient(function):
        def call():
            y = function(leaf1, leaf2)
            return torch.autograd.grad(y, (leaf1, leaf2), t)

        return call

    a, b, t = (torch.from_numpy(x) for x in (x1, x2, dy))
    leaf1, leaf2 = (x.clone().requires_grad_() for x in (a, b))
    m1, m2, mu, C = (torch.from_numpy(np.array(x)) for x in (rule.m1, rule.m2, rule.mu, rule.C))
    compiled = torch.compile(forward, fullgraph=True)
    add = torch.compile(lambda a, b: a[..., :1] + b[..., :1], fullgraph=True)
    return {
        ("forward", "torch through DLPack"): lambda: rule(a, b),
        ("forward", "torch product"): lambda: forward(a, b),
        ("forward", "torch accumulate"): lambda: accumulate(a, b),
        ("forward", "torch.compile product"): lambda: compiled(a, b),
        ("forward", "torch.compile addition"): lambda: add(a, b),
        ("both", "torch product"): gradient(forward),
        ("both", "torch accumulate"): gradient(accumulate),
        ("both", "torch empty operator"): gradient(empty_operator()),
        ("both", "torch empty Function"): gradient(empty_function()),
        ("both", "torch multiplication"): gradient(lambda a, b: a[..., : rule.shape[2]] * b[..., : rule.shape[2]]),
        ("both", "torch.compile product"): gradient(compiled),
    }


@lru_cache(1)
def empty_operator():
    """What torch takes for any operator of Python's with derivatives."""
    import torch

    torch.library.define("benchmark::empty", "(Tensor a, Tensor b) -> Tensor")
    torch.library.impl("benchmark::empty", "cpu", lambda a, b: torch.empty_like(a))
    torch.library.register_autograd("benchmark::empty", lambda ctx, dy: (torch.empty_like(dy), torch.empty_like(dy)))
    return torch.ops.benchmark.empty.default


def empty_function():
    """What torch takes for any autograd.Function."""
    import torch

    class Empty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return torch.empty_like(a)

        @staticmethod
        def backward(ctx, dy):
            a, b = ctx.saved_tensors
            return torch.empty_like(a), torch.empty_like(b)

    return Empty.apply


def jax_ways(rule, x1, x2, dy):
    import jax

    import sparseacc.jax

    def forward(a, b):
        return sparseacc.jax.product(rule, a, b)

    def callback(a, b):
        shape = jax.ShapeDtypeStruct((*a.shape[:-1], rule.shape[2]), a.dtype)
        return jax.pure_callback(lambda a, b: rule(np.asarray(a), np.asarray(b)), shape, a, b)

    a, b, t = (jax.numpy.array(x) for x in (x1, x2, dy))
    compiled = jax.jit(forward)
    gradient = jax.jit(lambda a, b, t: jax.vjp(forward, a, b)[1](t))
    add = jax.jit(lambda a, b: a[..., :1] + b[..., :1])
    called_back = jax.jit(callback)
    return {
        ("forward", "jax through DLPack"): lambda: rule(a, b),
        ("forward", "jax product"): lambda: forward(a, b).block_until_ready(),
        ("forward", "jax.jit product"): lambda: compiled(a, b).block_until_ready(),
        ("forward", "jax.jit addition"): lambda: add(a, b).block_until_ready(),
        ("forward", "jax.jit pure_callback"): lambda: called_back(a, b).block_until_ready(),
        ("gradient", "jax.jit product"): lambda: jax.block_until_ready(gradient(a, b, t)),
    }


def medians(ways, seconds, turn):
    """Median seconds of a call of each, in turns of about `turn` seconds each."""
    counts = {}
    for name, call in ways.items():
        call(), call()  # compiles
        counts[name] = max(1, round(turn / timeit.timeit(call, number=1)))
    times = {name: [] for name in ways}
    end = timeit.default_timer() + seconds
    while timeit.default_timer() < end:
        for name, call in ways.items():
            call()
            times[name].append(timeit.timeit(call, number=counts[name]) / counts[name])
    return {name: statistics.median(t) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 100_000])
    parser.add_argument("--l", type=int, default=3)
    parser.add_argument("--threads", type=int, default=sparseacc.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20, help="for each number of rows")
    parser.add_argument("--turn", type=float, default=0.03, help="seconds of calls of one way in a row")
    parser.add_argument("--json", metavar="FILE", help="write the medians, the machine and the versions")
    arguments = parser.parse_args()
    sparseacc.set_num_threads(arguments.threads)
    rule = sparseacc.clebsch_gordan(arguments.l, arguments.l, arguments.l)
    print(f"{rule}, float32, axis last, threads: {arguments.threads}")
    calls = []
    for rows in arguments.rows:
        x1, x2, dy = np.random.default_rng(0).normal(size=(3, rows, 2 * arguments.l + 1)).astype(np.float32)
        ways = {}
        for make in (numpy_ways, torch_ways, jax_ways):
            try:
                ways |= make(rule, x1, x2, dy)
            except ImportError as error:
                print(f"left out: {error}")
        times = medians(ways, arguments.seconds, arguments.turn)
        forward, gradient = times["forward", "NumPy"], times["gradient", "NumPy"]
        limits = {"forward": forward, "gradient": gradient, "both": forward + gradient}
        print(f"\n{rows} rows\n{'':38} microseconds   above NumPy   / NumPy")
        for (operation, name), time in sorted(times.items(), key=lambda item: list(limits).index(item[0][0])):
            plain = limits[operation]
            print(f"{operation:9} {name:28} {time * 1e6:12.1f} {(time - plain) * 1e6:13.1f} {time / plain:9.2f}")
            call = {"rows": rows, "operation": operation, "way": name}
            calls.append(call | {"microseconds": time * 1e6, "over_numpy": time / plain})
    if arguments.json:
        record.write(arguments.json, degree=arguments.l, threads=arguments.threads, calls=calls)


if __name__ == "__main__":
    main()
