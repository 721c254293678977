"""The kernel of the coefficients' gradient: threads own terms, and sum over rows that are staged in shared memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..terms import Terms
from . import geometry, operands
from .geometry import pitch
from .operands import DIRECT, ROWS, STORED, Operand, Stored
from .source import OPTIONS, Source, Spec, write

MOST_TERMS = 8
"""Terms of a thread: they share the addresses of a row, and their columns and sums fit in registers."""


def coefficients_kernel(rule: Terms, spec: Spec) -> Source:
    """Makes the kernel. Its output are partial sums, (blocks, nnz) in the wide dtype."""
    stored, threads, nnz = STORED[spec.dtype], geometry.THREADS, rule.nnz
    *inputs, output = spec.operands(rule)
    tile, staged = _staged(inputs)
    inputs = [o._replace(how=DIRECT) if o.how == ROWS and o not in staged else o for o in inputs]
    read = [o._replace(how=ROWS) if o in staged else o for o in inputs]  # from its tile
    each = min(MOST_TERMS, -(-nnz // threads))
    integers = ["rows", *operands.lengths(inputs, spec.dims), *(s for o in inputs for s in o.strides(spec.dims))]
    name = f"sparseacc_{spec.operation.name}"
    text = write(
        f"{spec.operation.name} by a rule of shape {rule.shape} with {nnz} terms, {spec.dtype}",
        ("numbers.cuh", "staging.cuh"),
        "coefficients.cu",
        spec.aligned,
        {"threads": threads, "name": name, "tile": tile},
        parameters=operands.parameters([*inputs, output], (("table", "int"),), integers),
        tiles=operands.tiles(read, tile),
        begin=_begin(inputs, nnz, each, stored),
        stage=_stage(inputs, staged, spec.dims, threads),
        place=[
            *operands.row(read, "r"),
            *operands.indices([o for o in read if o.how != ROWS], spec.dims),
            *(o.place(spec.dims, "r") for o in read),
        ],
        terms=_terms(read, each, stored),
        add=[line for e in range(each) for line in _add(e, stored)],
        end=_end(output, nnz, each, stored),
    )
    arguments = (*(o.name for o in inputs), output.name, "table", *integers)
    columns = (rule.m1, rule.m2, rule.mu, rule.path)
    table = np.concatenate([columns[column] for _, column in spec.operation.inputs])
    shared = tile * sum(o.row_bytes for o in staged)
    chunks = -(-nnz // (threads * each))
    return Source(text, name, OPTIONS, arguments, (table,), tile, threads, shared, chunks, geometry.MOST_PARTS)


def _staged(inputs: list[Operand]) -> tuple[int, list[Operand]]:
    """Rows of a tile, and the operands that it holds: without the widest where a single row would not fit."""
    staged = list(inputs)
    while True:
        row_bytes = sum(o.row_bytes for o in staged)
        tile = geometry.THREADS
        while tile > 1 and tile * row_bytes > geometry.SHARED:
            tile //= 2
        if tile * row_bytes <= geometry.SHARED:
            return tile, staged
        staged.remove(max(staged, key=lambda o: o.columns))


def _stage(inputs: list[Operand], staged: list[Operand], dims: int, threads: int) -> Iterator[str]:
    """Fills the tiles; of operands that are not contiguous rows a thread copies a row."""
    for o in staged:
        if o.how == ROWS:
            yield o.stage(threads)
    strided = [o for o in staged if o.how != ROWS]
    if strided:
        yield "if ((int)threadIdx.x < count) {"
        yield "    const long long row = first + threadIdx.x;"
        yield from (f"    {line}" for line in operands.indices(strided, dims))
        for o in strided:
            yield f"    {o.place(dims, 'threadIdx.x')}"
            yield f"    for (int c = 0; c < {o.columns}; ++c)"
            yield f"        tile_{o.name}[threadIdx.x * {pitch(o.columns)} + c] = {o.read('c')};"
        yield "}"
    yield "__syncthreads();"


def _begin(inputs: list[Operand], nnz: int, each: int, stored: Stored) -> Iterator[str]:
    for e in range(each):
        yield f"const int k{e} = (blockIdx.y * {each} + {e}) * blockDim.x + threadIdx.x;"
        yield f"const int known{e} = k{e} < {nnz} ? k{e} : {nnz - 1};"
        columns = [f"{o.name}_{e} = table[{n * nnz} + known{e}]" for n, o in enumerate(inputs)]
        yield f"const int {', '.join(columns)};"
        yield f"double {' = 0, '.join(_sums('all', e, stored))} = 0;"
        yield f"{stored.real} {' = 0, '.join(_sums('sum', e, stored))} = 0;"


def _sums(name: str, e: int, stored: Stored) -> list[str]:
    return [f"{name}{e}"] if stored.planes == 1 else [f"{name}{e}r", f"{name}{e}i"]


def _terms(read: list[Operand], each: int, stored: Stored) -> Iterator[str]:
    fma = "fmaf" if stored.real == "float" else "fma"
    for e in range(each):
        a, b, c, *weights = (o.read(f"{o.name}_{e}") for o in read)
        if stored.planes == 1:
            scaled = "".join(f" * real({weight})" for weight in weights)
            yield f"sum{e} = {fma}(real({a}) * real({b}){scaled}, real({c}), sum{e});"
        else:
            yield "{"
            yield f"    const {stored.type} a = {a}, b = {b}, c = {c};"
            yield f"    {stored.real} re = {fma}(-a.im, b.im, a.re * b.re), im = {fma}(a.im, b.re, a.re * b.im);"
            for weight in weights:
                yield f"    const {stored.type} w = {weight};"
                yield f"    const {stored.real} r = {fma}(-im, w.im, re * w.re);"
                yield f"    im = {fma}(im, w.re, re * w.im);"
                yield "    re = r;"
            yield f"    sum{e}r = {fma}(-im, c.im, {fma}(re, c.re, sum{e}r));"
            yield f"    sum{e}i = {fma}(im, c.re, {fma}(re, c.im, sum{e}i));"
            yield "}"


def _add(e: int, stored: Stored) -> Iterator[str]:
    """Adds a tile's sum to that of all, which is kept in double precision."""
    for part, total in zip(_sums("sum", e, stored), _sums("all", e, stored), strict=True):
        yield f"{total} += {part};"
        yield f"{part} = 0;"


def _end(output: Operand, nnz: int, each: int, stored: Stored) -> Iterator[str]:
    for e in range(each):
        yield f"if (k{e} < {nnz})"
        yield f"    store({output.name}[(long long)blockIdx.x * {nnz} + k{e}], {', '.join(_sums('all', e, stored))});"
