"""Kernels of message passing: a block for a row, to which its edges add in their order, and threads for channels.

A batch of edges at a time, the block contracts the rule with each edge's y in shared memory; every thread multiplies
the matrices that come of it by the rows of its channel. Gradients that sum over channels are added up in shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..schedule.statements import literal
from ..terms import Terms
from . import rows
from .geometry import pitch, resident_blocks
from .message_code import Code
from .message_table import table_kernel
from .message_terms import MOST_SUMS, Entry, entries, parts
from .operands import STORED
from .passes import Pass, gradient, slot_of, widths
from .source import OPTIONS, Source, filled, write

_SHARED = 12 * 1024
"""Bytes of shared memory of a block, about: then many blocks are resident."""
_MOST_SHARED = 48 * 1024
_MOST_BATCH = 16
"""Edges between barriers."""
_AHEAD = 8
"""Numbers of an operand that are read before they are needed."""


def messages_kernel(rule: Terms, spec: Pass) -> Source | None:
    """Makes the kernel of a pass; None if the rule is too large for straight-line code, so that outputs have to be
    computed one by one.
    """
    found = entries(rule, spec.dtype)
    work = sum(len(entry.terms) + 2 for entry in found) * sum(len(spec.products(slot)) for slot in spec.outputs)
    kernel = _Kernel(rule, spec, found) if work <= rows.MOST_OPERATIONS else None
    if kernel is None or kernel.shared > _MOST_SHARED:
        return table_kernel(rule, spec) if len(spec.outputs) == 1 else None
    return kernel.source(work)


class _Kernel:
    def __init__(self, rule: Terms, spec: Pass, found: Sequence[Entry]) -> None:
        self._rule, self._spec = rule, spec
        self._stored, self._widths = STORED[spec.dtype], widths(rule)
        self._real = self._stored.real
        self._size = 4 if self._real == "float" else 8
        if spec.outputs == ("out",):
            shared_out = parts(found, self._widths["out"], MOST_SUMS * 4 // self._size)
            self._parts = [Code(spec, of_part, {"out": mus}) for mus, of_part in shared_out]
        else:
            self._parts = [Code(spec, found, {slot: range(self._widths[slot]) for slot in spec.outputs})]
        self._matrices, self._staged = self._parts[0].matrices, self._parts[0].staged
        self._summed = [slot for slot in spec.outputs if not spec.has_channels(slot)]
        self._pitch = max(code.pitch for code in self._parts)
        each = [self._pitch + self._widths["y"]] * len(self._staged)
        each += [self._widths[slot] * pitch(spec.threads) for slot in self._summed]
        terms = [sum(len(entry.terms) for entry in code.entries) for code in self._parts]
        self._terms = max(terms) if self._staged else 0
        self._table_bytes = (
            (self._terms * (self._size + 4) + (self._pitch + 1) * 4 + 15) // 16 * 16 if self._terms else 0
        )
        self.edge_bytes = sum(each) * self._size + 8 * (1 + len(spec.rows()))
        self._batch = max(1, min(_MOST_BATCH, (_SHARED - self._table_bytes) // self.edge_bytes))
        self.shared = self._table_bytes + self._batch * self.edge_bytes

    def source(self, work: int) -> Source:
        """The kernel as text."""
        spec, name = self._spec, "sparseacc_message_passing" + "".join(f"_{gradient(s)}" for s in self._spec.outputs)
        number, words = len(self._parts), max(map(self._words, self._parts))
        bodies = [line for p, code in enumerate(self._parts) for line in self._body(p, code)]
        text = write(
            f"message passing by a rule of shape {self._rule.shape} with {self._rule.nnz} terms, {spec.dtype}: "
            f"{work} operations an edge and channel",
            ("numbers.cuh", "edges.cuh"),
            "messages.cu",
            True,
            {
                "threads": spec.threads,
                "blocks": min(32, resident_blocks(spec.threads, words)),
                "name": name,
                "parts": number,
                "channels": spec.channels,
            },
            tables=[line for p, code in enumerate(self._parts) for line in self._tables(p, code)],
            parameters=spec.parameters(),
            shared=self._shared(),
            bodies=bodies,
        )
        arguments = (*spec.arguments(), "segments", "edges")
        return Source(text, name, OPTIONS, arguments, (), 1, spec.threads, self.shared, number * spec.shares)

    def _words(self, code: Code) -> int:
        """Registers for the sums and the rows of x; and some for what is read ahead of every operand."""
        numbers = sum(len(code.variables(slot)) for slot in self._spec.outputs if self._kept(slot))
        numbers += sum(len(code.used(name)) for name in self._spec.inputs() if name in ("x", "zx"))
        if not self._staged:
            numbers += sum(len(code.used(name)) for name in self._matrices)
        return (numbers + _AHEAD * len(self._spec.inputs())) * self._size // 4

    def _kept(self, slot: str) -> bool:
        """Whether sums of an output stay in registers until all of an edge is computed."""
        return slot != "w" or self._spec.sums(slot)

    def _tables(self, p: int, code: Code) -> Iterator[str]:
        """The terms of the entries that the block contracts."""
        if not self._staged or not code.entries:
            return
        begins, m2, c = [0], [], []
        for entry in code.entries:
            m2 += [str(m) for m, _ in entry.terms]
            c += [literal(value, self._real) for _, value in entry.terms]
            begins.append(len(m2))
        begins += [len(m2)] * (code.pitch - len(code.entries))  # whole quads are read
        yield f"static __device__ const int begin_of_entry{p}[] = {{{', '.join(map(str, begins))}}};"
        yield f"static __device__ const int m2_of_term{p}[] = {{{', '.join(m2)}}};"
        yield f"static __device__ const {self._real} c_of_term{p}[] = {{{', '.join(c)}}};"

    def _shared(self) -> Iterator[str]:
        """Shared memory: matrices, rows in the order of edges, rows of y, and numbers to be summed over channels."""
        at = self._table_bytes
        if at:
            yield f"{self._real} *const c_of = ({self._real} *)memory;"
            yield f"int *const m2_of = (int *)(c_of + {self._terms}), *const begin_of = m2_of + {self._terms};"
        for name in self._staged:
            yield f"{self._real} *const entries_{name} = ({self._real} *)(memory + {at});"
            at += self._batch * self._pitch * self._size
        for index in ("edge", *(f"{slot}_row" for slot in self._spec.rows())):
            yield f"long long *const {index}_of = (long long *)(memory + {at});"
            at += self._batch * 8
        for name in self._staged:
            yield f"{self._real} *const staged_{name} = ({self._real} *)(memory + {at});"
            at += self._batch * self._widths["y"] * self._size
        for slot in self._summed:
            yield f"{self._real} *const sums_{slot} = ({self._real} *)(memory + {at});"
            at += self._batch * self._widths[slot] * pitch(self._spec.threads) * self._size

    def _body(self, p: int, code: Code) -> Iterator[str]:
        spec = self._spec
        own = [name for name in ("x", "zx") if name in spec.inputs() and spec.column == "x"]
        return filled(
            "messages_part.cu",
            {"parts": len(self._parts), "part": p, "batch": self._batch},
            table=list(self._copy_tables(p, code)),
            sums=list(code.declare(slot for slot in spec.outputs if spec.sums(slot))),
            own=list(self._own(code, own)),
            stage=list(self._stage()),
            contract=list(self._contract(code)),
            edge=list(self._edge(code, own)),
            each=[line for slot in self._summed if not spec.sums(slot) for line in self._sum_each(slot)],
            finish=[line for slot in spec.outputs if spec.sums(slot) for line in self._finish(code, slot)],
        )

    def _own(self, code: Code, names: Sequence[str]) -> Iterator[str]:
        """Reads what all edges of a segment share."""
        for name in names:
            used = code.used(name)
            if used:
                yield f"{self._real} {', '.join(f'{name}_{m} = 0' for m in used)};"
        if names:
            yield "if (begin < end && lane < lanes) {"
            for name in names:
                yield f"    {self._pointer(name, 'x_rows[begin]')}"
                yield from (f"    {line}" for line in code.loads(name, const=False))
            yield "}"

    def _pointer(self, name: str, row: str) -> str:
        slot = slot_of(name)
        return f"const {self._stored.type} *const at_{name} = {self._spec.address(name, row, self._widths[slot])};"

    def _stage(self) -> Iterator[str]:
        """Copies the rows in the order of edges, and rows of y."""
        spec, n2 = self._spec, self._widths["y"]
        yield "if (lane < count) {"
        yield "    edge_of[lane] = order[first + lane];"
        yield from (f"    {slot}_row_of[lane] = {slot}_rows[first + lane];" for slot in spec.rows())
        yield "}"
        if self._staged:
            row = spec.row("y", f"first + i / {n2}", f"order[first + i / {n2}]")
            yield f"for (int i = lane; i < count * {n2}; i += {spec.threads}) {{"
            yield f"    const long long at = {row} * {n2} + i % {n2};"
            yield from (f"    staged_{name}[i] = real({name}[at]);" for name in self._staged)
            yield "}"

    def _copy_tables(self, p: int, code: Code) -> Iterator[str]:
        """Copies the terms to shared memory."""
        if self._staged and code.entries:
            terms = sum(len(entry.terms) for entry in code.entries)
            yield f"for (int i = lane; i < {terms}; i += {self._spec.threads}) {{"
            yield f"    c_of[i] = c_of_term{p}[i];"
            yield f"    m2_of[i] = m2_of_term{p}[i];"
            yield "}"
            yield f"for (int i = lane; i < {code.pitch + 1}; i += {self._spec.threads})"
            yield f"    begin_of[i] = begin_of_entry{p}[i];"

    def _contract(self, code: Code) -> Iterator[str]:
        """The matrices of the batch's edges."""
        n, fma = code.pitch, "fmaf" if self._real == "float" else "fma"
        if not self._staged or not n:
            return
        yield f"for (int i = lane; i < count * {n}; i += {self._spec.threads}) {{"
        yield f"    const int e = i / {n}, k = i % {n};"
        yield f"    {self._real} {', '.join(f'sum_{name} = 0' for name in self._staged)};"
        yield "    for (int t = begin_of[k]; t < begin_of[k + 1]; ++t) {"
        for name in self._staged:
            y = f"staged_{name}[e * {self._widths['y']} + m2_of[t]]"
            yield f"        sum_{name} = {fma}(c_of[t], {y}, sum_{name});"
        yield "    }"
        yield from (f"    entries_{name}[i] = sum_{name};" for name in self._staged)
        yield "}"
        yield "__syncthreads();"

    def _edge(self, code: Code, own: Sequence[str]) -> Iterator[str]:
        """One edge."""
        spec = self._spec
        each = [slot for slot in spec.outputs if not spec.sums(slot)]
        reached = [name for name in spec.inputs() if name not in own and name not in self._staged]
        slots = {slot_of(name) for name in reached} - set(spec.indexed) | {s for s in each if spec.has_channels(s)}
        if slots:
            yield "const long long edge = edge_of[e];"
        for name in reached:
            slot = slot_of(name)
            yield self._pointer(name, f"{slot}_row_of[e]" if slot in spec.indexed else "edge")
        for name in self._staged:
            quads = f"(const quad<{self._real}> *)(entries_{name} + e * {code.pitch})"
            yield f"const quad<{self._real}> *const at_entries_{name} = {quads};"
        for name in spec.inputs():
            if (name in ("x", "zx") and name not in own) or (name in self._matrices and not self._staged):
                yield from code.loads(name)
        yield from code.declare(each)
        for slot in each:
            yield from self._place(slot, "edge")
        weights = "w" in each
        written = set()
        for path, lines in code.statements():
            yield from lines
            if weights:  # at once, so that few of them are alive
                yield self._write("w", path, "e")
                written.add(path)
        for slot in each:
            for m in code.rows[slot]:
                if slot != "w" or m not in written:
                    yield self._write(slot, m, "e")

    def _place(self, slot: str, row: str) -> Iterator[str]:
        """Says where a row of an output is that has channels."""
        if self._spec.has_channels(slot):
            name, address = gradient(slot), self._spec.address(gradient(slot), row, self._widths[slot])
            yield f"{self._spec.stored(slot).type} *const to_{name} = {address};"

    def _write(self, slot: str, m: int, row: str) -> str:
        """Writes a component of this thread's channel: to an output, or to be summed over channels, of a row there."""
        name = gradient(slot)
        if self._spec.has_channels(slot):
            return f"store(to_{name}[{m * self._spec.channels}], {name}_{m});"
        return f"sums_{slot}[({row} * {self._widths[slot]} + {m}) * {pitch(self._spec.threads)} + lane] = {name}_{m};"

    def _over_channels(self, slot: str, number: str, row: str) -> Iterator[str]:
        """Sums numbers over channels, in their order."""
        n = self._widths[slot]
        yield "__syncthreads();"
        yield f"for (int i = lane; i < {number}; i += {self._spec.threads}) {{"
        yield f"    {self._real} sum = 0;"
        yield "    for (int c = 0; c < lanes; ++c)"
        yield f"        sum += sums_{slot}[i * {pitch(self._spec.threads)} + c];"
        yield f"    store({gradient(slot)}[{row} * {n} + i % {n}], sum);"
        yield "}"

    def _sum_each(self, slot: str) -> Iterator[str]:
        n = self._widths[slot]
        yield from self._over_channels(slot, f"count * {n}", f"(share * edges + edge_of[i / {n}])")

    def _finish(self, code: Code, slot: str) -> Iterator[str]:
        """Writes a sum over edges."""
        apart = self._spec.has_channels(slot)
        if not apart:
            yield "__syncthreads(); // before what is still read is written"
        yield "if (lane < lanes) {"
        yield from (f"    {line}" for line in self._place(slot, "segment"))
        yield from (f"    {self._write(slot, m, '0')}" for m in code.rows[slot])
        yield "}"
        if not apart:
            yield from self._over_channels(slot, str(self._widths[slot]), "(share * segments + segment)")
