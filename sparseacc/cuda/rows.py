"""The kernel of operations whose outputs have a row for every row of the batch: one thread computes one."""

from __future__ import annotations

from ..terms import Terms, distinct_terms, lengths
from . import operands
from .geometry import resident_blocks
from .operands import STORED
from .source import OPTIONS, Source, Spec, write
from .straight import Straight, straight
from .table import Table

MOST_OPERATIONS = 20_000
"""Operations up to which straight-line code is made of a rule. An operation takes 16 bytes of machine code, so that as
much is read from the second-level cache by all blocks in turn; and a second of compilation."""


def body(rule: Terms, spec: Spec) -> Straight | Table:
    """The arithmetic of a row: straight-line code, or loops over a table where that would be too long."""
    stored = STORED[spec.dtype]
    terms = distinct_terms(rule, spec.dtype, spec.operation.weighted)
    factors = 3 if spec.operation.weighted else 2
    if len(terms[0]) * len(spec.operation.products) * stored.planes**factors <= MOST_OPERATIONS:
        code = straight(terms, spec.operation, spec.operation.output_names, stored)
        if code.operations <= MOST_OPERATIONS:
            return code
    return Table(terms, lengths(rule), spec.operation, spec.operation.output_names, stored)


def rows_kernel(rule: Terms, spec: Spec) -> Source:
    """Makes the kernel."""
    found, threads, row_bytes = operands.tiled(spec.operands(rule), spec.limit)
    inputs, outputs = [o for o in found if not o.written], [o for o in found if o.written]
    computed = body(rule, spec)
    integers = ["rows", *operands.lengths(found, spec.dims), *(s for o in found for s in o.strides(spec.dims))]
    name = f"sparseacc_{spec.operation.name}"
    code = write(
        f"{spec.operation.name} by a rule of shape {rule.shape} with {rule.nnz} terms, {spec.dtype}: {computed.title}",
        ("numbers.cuh", "staging.cuh"),
        "rows.cu",
        spec.aligned,
        {"threads": threads, "blocks": resident_blocks(threads, operands.words(found, spec.dtype)), "name": name},
        parameters=operands.parameters(found, computed.tables, integers),
        tiles=operands.tiles(found, threads),
        stage=operands.stage(found, threads),
        place=[
            *operands.row(found, "threadIdx.x"),
            *operands.indices(found, spec.dims),
            *(o.place(spec.dims, "threadIdx.x") for o in found),
        ],
        terms=[*computed.declare(outputs), *computed.compute(inputs, outputs)],
        unstage=operands.unstage(found, threads),
    )
    arguments = (*(o.name for o in found), *(t for t, _ in computed.tables), *integers)
    return Source(code, name, OPTIONS, arguments, computed.arrays, threads, threads, threads * row_bytes)
