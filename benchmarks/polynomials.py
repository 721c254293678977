"""Times the symmetric contraction beside the machine's limits, and others': python benchmarks/polynomials.py [--help].

From 0e + 1o + 2e + 3o with 64 channels, of atoms of four species. The limit is the larger of the time to stream the
bytes that must move (x, the rows of weights and the result once) and of the multiply-adds of the best scheme that is
known here, that of the package: products of components from a table, times sums of coefficients. Three times that for
the gradient, and six times for the double backward along x. Both are timed in turn with the call, as all medians are.
"""

from __future__ import annotations

import argparse
from functools import partial

import limits
import numpy as np
from messages import medians

import sparseacc
from sparseacc.bench import record
from sparseacc.schedule.polynomials import scheduled

INPUT, SPECIES = "64x0e + 64x1o + 64x2e + 64x3o", 4
CASES = {"l = 0": "64x0e", "l = 1": "64x0e + 64x1o", "l = 2": "64x0e + 64x1o + 64x2e"}
OPERATIONS = ("forward", "vjp", "vjp_vjp")
DEGREE = 3


def arrays_of(polynomial, atoms, dtype):
    """x, weights, dy, zx and the row of weights of each atom."""
    rng, channels = np.random.default_rng(0), polynomial.channels
    n_in, n_out = polynomial.shape
    shapes = (atoms, n_in, channels), (SPECIES, polynomial.num_paths, channels), (atoms, n_out, channels)
    x, weights, dy, zx = (rng.normal(size=shapes[i]).astype(dtype) for i in (0, 1, 2, 0))
    return x, weights, dy, zx, rng.integers(SPECIES, size=atoms)


def one_case(name, operation, dtype, threads, atoms, seconds):
    polynomial = sparseacc.symmetric_contraction(INPUT, CASES[name], DEGREE)
    x, weights, dy, zx, rows = arrays_of(polynomial, atoms, dtype)
    call, read, written, times = {
        "forward": (partial(polynomial, x, weights), x.nbytes, dy.nbytes, 1),
        "vjp": (partial(polynomial.vjp, dy, x, weights), x.nbytes + dy.nbytes, x.nbytes, 3),
        "vjp_vjp": (
            partial(polynomial.vjp_vjp, zx, None, dy, x, weights),
            2 * x.nbytes + dy.nbytes,
            x.nbytes + dy.nbytes,
            6,
        ),
    }[operation]
    sparseacc.set_num_threads(threads)
    peak, numbers = limits.multiply_adds(dtype, sparseacc.cpu.instruction_set(), threads)
    streams = limits.streaming(read + weights.nbytes, written, threads)
    ours, peaked, *streamed = medians([partial(call, rows_of_weights=rows), peak, *streams], seconds)
    work = scheduled(polynomial).work * polynomial.channels
    arithmetic, memory = peaked * times * work * atoms / numbers, min(streamed)
    us = 1e6 / atoms
    print(
        f"{name:6} {operation:8} {dtype:8} {threads:7} {ours * us:9.2f} {memory * us:8.2f} {arithmetic * us:8.2f} "
        f"{ours / max(memory, arithmetic):8.2f}",
        flush=True,
    )
    case = {"case": name, "operation": operation, "dtype": dtype, "threads": threads, "atoms": atoms}
    figures = {"us_an_atom": ours * us, "memory": memory * us, "arithmetic": arithmetic * us}
    return case | figures | {"over_limit": ours / max(memory, arithmetic)}


def beside(name, dtype, threads, atoms, seconds):
    """Prints and returns microseconds an atom of the contraction, of MACE's and of cuequivariance's for CPUs, forward
    and with the gradient of x.
    """
    import cuequivariance as cue
    import torch
    from cuequivariance_torch import SymmetricContraction as OfCuequivariance
    from e3nn import o3
    from mace.modules.symmetric_contraction import SymmetricContraction

    import sparseacc.torch

    torch.set_num_threads(threads)
    sparseacc.set_num_threads(threads)
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(0)
    theirs = SymmetricContraction(o3.Irreps(INPUT), o3.Irreps(CASES[name]), DEGREE, num_elements=SPECIES)
    irreps = (cue.Irreps("O3", text) for text in (INPUT, CASES[name]))
    other = OfCuequivariance(*irreps, DEGREE, SPECIES, layout=cue.ir_mul, dtype=getattr(torch, dtype), method="naive")
    x = torch.randn(atoms, 64, 16, requires_grad=True)
    species = torch.randint(SPECIES, (atoms,))
    of_mace = x, torch.nn.functional.one_hot(species, SPECIES).to(x)
    of_other = x.detach().mT.flatten(1).requires_grad_(), species
    modules = {
        "": (sparseacc.torch.SymmetricContraction(theirs), of_mace),
        "mace_": (theirs, of_mace),
        "cuequivariance_": (other, of_other),
    }

    def forward(module, given):
        with torch.no_grad():
            module(*given)

    def with_gradient(module, given):
        torch.autograd.grad(module(*given).sum(), given[0])

    calls = {
        f"{who}{call.__name__}": partial(call, *of_who)
        for who, of_who in modules.items()
        for call in (forward, with_gradient)
    }
    times = [time * 1e6 / atoms for time in medians(list(calls.values()), seconds, least=3)]
    case = {"case": name, "dtype": dtype, "threads": threads, "atoms": atoms} | dict(zip(calls, times, strict=True))
    print(*(f"{key} {value:.5g}" if isinstance(value, float) else value for key, value in case.items()), flush=True)
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=2000)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--operations", nargs="*", default=OPERATIONS, choices=OPERATIONS)
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, sparseacc.get_num_threads()}))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case")
    parser.add_argument("--json", metavar="FILE", help="write the medians, the machine and the versions")
    parser.add_argument(
        "--beside", action="store_true", help="compare with MACE's and cuequivariance's modules instead"
    )
    a = parser.parse_args()
    each = [(name, dtype, threads) for name in a.cases for dtype in a.dtypes for threads in a.threads]
    if a.beside:
        found = {"others": [beside(*case, a.atoms, a.seconds) for case in each]}
    else:
        print(f"sparseacc {sparseacc.__version__}, {sparseacc.cpu.instruction_set()}, medians, us per atom")
        print("case   operation dtype   threads      ours   memory  arithm.  / limit")
        found = {
            "polynomials": [
                one_case(name, operation, dtype, threads, a.atoms, a.seconds)
                for name, dtype, threads in each
                for operation in a.operations
            ]
        }
    if a.json:
        record.write(a.json, **found)


if __name__ == "__main__":
    main()
