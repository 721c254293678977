"""The kernels of polynomials as text."""

from __future__ import annotations

from typing import NamedTuple

from . import geometry
from .operands import STORED
from .source import OPTIONS, Source, write


class Evaluation(NamedTuple):
    """All that a kernel depends on besides tables: what is computed, along which tangents, and sizes."""

    dtype: str
    wanted: tuple[str, ...]
    along_x: bool
    along_w: bool
    n_in: int
    n_out: int
    coefs: int
    threads: int


_BYTES = 16
"""Of the numbers that a thread reads from shared memory at once: one for each atom that it computes at a time."""

_WORDS = 100
"""Registers that numbers take, about."""


def evaluation_code(spec: Evaluation) -> Source:
    """The kernel that evaluates a polynomial, or its gradients; a block has some channels of a unit of atoms."""
    stored = STORED[spec.dtype]
    gradients = "x" in spec.wanted or "w" in spec.wanted
    size = 8 if stored.real == "double" else 4
    kept = ["x"] + ["z"] * spec.along_x + ["d"] * ("x" in spec.wanted)
    # Components are in shared memory, of as many atoms at a time as its accesses are wide, or of one; or else in local
    # memory, in which threads have no neighbours.
    for atoms in (_BYTES // size, 1):
        row_bytes = len(kept) * spec.n_in * atoms * size
        threads = min(geometry.threads_for(row_bytes), spec.threads)
        if threads:
            break
    shared = threads * row_bytes
    threads = threads or spec.threads
    number, real = f"{stored.type} *", f"{stored.real} *"
    pointers = (
        ("x_rows", f"const {number}", True),
        ("dout", f"const {number}", gradients),
        ("zx_rows", f"const {number}", spec.along_x),
        ("coefs", f"const {real}", True),
        ("zcoefs", f"const {real}", spec.along_w),
        ("code", "const int *", True),
        ("order", "const long long *", True),
        ("begins", "const long long *", True),
        ("row_of_unit", "const long long *", True),
        ("out", number, "out" in spec.wanted),
        ("dx", number, "x" in spec.wanted),
        ("dcoefs", real, "w" in spec.wanted),
    )
    sizes = ("units", "channels")
    parameters = [f"{kind}__restrict__ {name}" for name, kind, there in pointers if there]
    parameters += [f"const long long {name}" for name in sizes]
    if shared:
        begins = {name: i * spec.n_in * threads for i, name in enumerate(kept)}
        arrays = ["SPARSEACC_SHARED(memory);"]
        arrays += [f"Few *const {name} = (Few *)memory + {begin};" for name, begin in begins.items()]
    else:
        arrays = [f"Few {name}[{spec.n_in}];" for name in kept]
    code = write(
        f"a polynomial from {spec.n_in} components to {spec.n_out}, {spec.dtype}: from a table",
        ("numbers.cuh",),
        "polynomial.cu",
        True,
        {
            "threads": threads,
            "blocks": geometry.resident_blocks(threads, _WORDS),
            "name": NAME,
            "real": stored.real,
            "fma": _fma(stored.real),
            "computed": sum(bit for name, bit in _BITS.items() if name in spec.wanted),
            "along": spec.along_x + 2 * spec.along_w,
            "n_in": spec.n_in,
            "n_out": spec.n_out,
            "coefs": spec.coefs,
            "atoms": atoms,
            "bytes": atoms * size,
            "index": f"(m) * {threads} + threadIdx.x" if shared else "m",
        },
        parameters=[*(f"{parameter}," for parameter in parameters[:-1]), parameters[-1]],
        absent=[f"{kind}const {name} = 0;" for name, kind, there in pointers if not there],
        arrays=[*arrays, *(f"Few *const {name} = x;" for name in ("z", "d") if name not in kept)],
    )
    arguments = (*(name for name, _, there in pointers if there), *sizes)
    return Source(code, NAME, OPTIONS, arguments, (), 1, threads, shared)


NAME = "sparseacc_polynomial"
_BITS = {"out": 1, "x": 2, "w": 4}


def sums_code(dtype: str, channels: bool) -> Source:
    """The kernel of sums of weights, which may have no channels, or of gradients of coefficients."""
    stored = STORED[dtype]
    words = {
        "threads": geometry.THREADS,
        "name": f"{NAME}_sums",
        "type": stored.type,
        "real": stored.real,
        "fma": _fma(stored.real),
        "place": "* channels + channel" if channels else "",
    }
    code = write(f"sums of {dtype}", ("numbers.cuh",), "polynomial_sums.cu", True, words)
    return Source(code, f"{NAME}_sums", OPTIONS, (), (), geometry.THREADS, geometry.THREADS, 0)


def _fma(real: str) -> str:
    return "fmaf" if real == "float" else "fma"
