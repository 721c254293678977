"""Message passing by a rule too large for straight-line code: the terms are a table in device memory, and a thread adds
up one component of the output at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..calls.dtypes import computed_in
from ..terms import Terms, distinct_terms
from .operands import STORED
from .passes import Pass, gradient, slot_of, widths
from .source import OPTIONS, Source, write


def table_kernel(rule: Terms, spec: Pass) -> Source:
    """Makes the kernel of a pass with one output, whose rows are the segments."""
    (slot,) = spec.outputs
    stored, sizes = STORED[spec.dtype], widths(rule)
    m1, m2, mu, path, C = distinct_terms(rule, spec.dtype, weighted=True)
    columns = {"x": m1, "y": m2, "out": mu, "w": path}
    order = np.argsort(columns[slot], kind="stable")
    begins = np.searchsorted(columns[slot][order], np.arange(sizes[slot] + 1))
    others = [name for name in columns if name != slot]
    table = np.concatenate([begins, *(columns[name][order] for name in others)]).astype(np.int32)
    first = {name: sizes[slot] + 1 + n * len(C) for n, name in enumerate(others)}
    name = f"sparseacc_message_passing_{gradient(slot)}_table"
    code = write(
        f"message passing by a rule of shape {rule.shape} with {rule.nnz} terms, {spec.dtype}: from a table",
        ("numbers.cuh",),
        "messages_table.cu",
        True,
        {
            "threads": spec.threads,
            "name": name,
            "channels": spec.channels,
            "columns": sizes[slot],
            "real": stored.real,
        },
        shared=()
        if spec.has_channels(slot)
        else ("SPARSEACC_SHARED(memory);", f"{stored.real} *const all = ({stored.real} *)memory;"),
        parameters=spec.parameters((("table", "int"), ("coefficients", stored.real))),
        place=[_pointer(spec, operand, sizes) for operand in spec.inputs()],
        terms=_terms(spec, slot, first),
        finish=_finish(spec, slot, sizes[slot]),
    )
    tables = (table, C[order].astype(computed_in(spec.dtype)))
    arguments = (*spec.arguments(), "table", "coefficients", "segments", "edges")
    shared = 0 if spec.has_channels(slot) else spec.threads * (4 if stored.real == "float" else 8)
    return Source(code, name, OPTIONS, arguments, tables, 1, spec.threads, shared, spec.shares)


def _pointer(spec: Pass, operand: str, sizes: dict[str, int]) -> str:
    slot = slot_of(operand)
    address = spec.address(operand, spec.row(slot, "place", "edge"), sizes[slot])
    return f"const {STORED[spec.dtype].type} *const at_{operand} = {address};"


def _terms(spec: Pass, slot: str, first: dict[str, int]) -> Iterator[str]:
    fma = "fmaf" if STORED[spec.dtype].real == "float" else "fma"
    for product in spec.products(slot):
        *factors, last = (
            f"real(at_{operand}[table[{first[name]} + k] * {spec.step(name)}LL])" for name, operand in product.items()
        )
        yield f"sum = {fma}({' * '.join(['coefficients[k]', *factors])}, {last}, sum);"


def _finish(spec: Pass, slot: str, n: int) -> Iterator[str]:
    name = gradient(slot)
    if spec.has_channels(slot):
        yield "if (lane < lanes)"
        yield f"    store({name}[(segment * {n} + column) * {spec.channels} + channel], sum);"
        return
    yield "all[lane] = sum;"
    yield "__syncthreads();"
    yield "if (lane == 0) {"
    yield "    for (int c = 1; c < lanes; ++c)"
    yield "        sum += all[c];"
    yield f"    store({name}[(share * segments + segment) * {n} + column], sum);"
    yield "}"
    yield "__syncthreads(); // before it is written again"
