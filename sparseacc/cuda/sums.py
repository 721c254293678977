"""The kernel of operations some of whose outputs sum over dimensions of the batch: a block computes a box of the batch,
sums over its turns in registers and over its threads in shared memory, and writes partial sums.

A partial sum is at the indices of its box in the dimensions that it sums over, and at those of the batch in the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..terms import Terms
from . import operands
from .geometry import pitch, resident_blocks
from .operands import STORED, Operand
from .rows import body
from .source import OPTIONS, Source, Spec, write
from .straight import Straight


class _Summed:
    """An output that sums over dimensions of the batch."""

    def __init__(self, operand: Operand, over: tuple[int, ...], spec: Spec, code: Straight) -> None:
        self.operand, self._over, self._dims, self._stored = operand, over, spec.dims, STORED[spec.dtype]
        self.turned = spec.turned in over
        self._names = [name for names in code.variables(operand) for name in names]
        self.mask, low = 0, 1
        for d in reversed(range(spec.dims)):
            if d in over:
                self.mask |= low * (spec.split[d] - 1)
            low *= spec.split[d]

    @property
    def row_bytes(self) -> int:
        """Shared memory for each thread."""
        size = self._stored.size // self._stored.planes if self._stored.size > 2 else 4
        return pitch(len(self._names)) * size if self.mask else 0

    def integers(self) -> list[str]:
        """Where the partial sums are, in numbers."""
        name = self.operand.name
        return [f"{name}_step", *(f"{name}_by{d}" for d in range(self._dims))]

    def totals(self) -> Iterator[str]:
        """The variables that sum over turns."""
        for name in self._names:
            yield f"{self._stored.real} total_{name} = 0;"

    def add(self) -> Iterator[str]:
        """Adds a turn."""
        for name in self._names:
            yield f"total_{name} += {name};"

    def write(self, threads: int, offset: int) -> Iterator[str]:
        """Sums over threads and writes; `offset` is where there is shared memory for it."""
        names = [f"total_{name}" for name in self._names] if self.turned else self._names
        real, name, n = self._stored.real, self.operand.name, len(names)
        yield "{"
        if self.mask:
            yield f"    {real} *const all = ({real} *)(memory + {offset});"
            yield f"    {real} *const mine = all + threadIdx.x * {pitch(n)};"
            yield from (f"    mine[{k}] = {each};" for k, each in enumerate(names))
            yield f"    sum_rows<{threads}, {self.mask}, {n}, {pitch(n)}>(all);"
            names = [f"mine[{k}]" for k in range(n)]
        conditions = [f"(threadIdx.x & {self.mask}) == 0"] if self.mask else []
        conditions += [f"i{d} < n{d}" for d in range(self._dims) if d not in self._over]
        at = " + ".join(f"{'b' if d in self._over else 'i'}{d} * {name}_by{d}" for d in range(self._dims))
        yield f"    if ({' && '.join(conditions) or 'true'}) {{"
        yield f"        double *const sum = (double *){name} + {at};"
        for k, each in enumerate(names):
            column, plane = divmod(k, self._stored.planes)
            yield f"        sum[{column} * {name}_step + {plane}] = {each};"
        yield "    }"
        if self.mask:
            yield "    __syncthreads();"
        yield "}"


def sums_kernel(rule: Terms, spec: Spec) -> Source | None:
    """Makes the kernel; None if the rule is too large for it."""
    code = body(rule, spec)
    found = spec.operands(rule)
    n_inputs = len(spec.inputs())
    if not isinstance(code, Straight):
        return None
    summed = [
        _Summed(operand, access.sums, spec, code)
        for operand, access in zip(found[n_inputs:], spec.accesses[n_inputs:], strict=True)
        if access.sums
    ]
    separate = {s.operand.name for s in summed}
    plain = [o for o in found if o.name not in separate]
    plain, threads, row_bytes = operands.tiled(plain, spec.limit, max(s.row_bytes for s in summed))
    if threads < math.prod(spec.split):
        return None
    threads = math.prod(spec.split)
    inputs, outputs = [o for o in plain if not o.written], [o for o in plain if o.written]
    integers = [f"{kind}{d}" for d in range(spec.dims) for kind in ("n", "tiles")]
    integers += [i for o in plain for i in o.strides(spec.dims)] + [i for s in summed for i in s.integers()]
    offset = threads * sum(o.row_bytes for o in plain if o.how == operands.ROWS)
    alive = operands.words([*found, *(s.operand for s in summed if s.turned)], spec.dtype)
    name = f"sparseacc_{spec.operation.name}_sums"
    text = write(
        f"{spec.operation.name} by a rule of shape {rule.shape} with {rule.nnz} terms, {spec.dtype}: {code.title}",
        ("numbers.cuh", "staging.cuh", "sums.cuh"),
        "sums.cu",
        spec.aligned,
        {"threads": threads, "blocks": resident_blocks(threads, alive), "name": name},
        parameters=operands.parameters(found, (), integers),
        tiles=operands.tiles(plain, threads),
        box=_box(spec),
        totals=[line for s in summed if s.turned for line in s.totals()],
        turn=_turn(spec),
        stage=operands.stage(plain, threads),
        outputs=code.declare(o for o in found if o.written),
        place=[
            *operands.row([o for o in plain if o.how == operands.DIRECT], "t0"),
            *(o.place(spec.dims, "threadIdx.x") for o in plain),
        ],
        terms=code.compute(inputs, outputs),
        unstage=operands.unstage(plain, threads),
        add=[line for s in summed for line in (s.add() if s.turned else s.write(threads, offset))],
        end=[line for s in summed if s.turned for line in s.write(threads, offset)],
    )
    return Source(text, name, OPTIONS, (*(o.name for o in found), *integers), (), threads, threads, threads * row_bytes)


def _box(spec: Spec) -> Iterator[str]:
    """The block's box, the thread's place in it, and its indices in the batch but for the dimension of turns."""
    yield "long long rest = blockIdx.x;"
    for d in range(spec.dims - 1, 0, -1):
        yield f"const long long b{d} = rest % tiles{d};"
        yield f"rest /= tiles{d};"
    yield "const long long b0 = rest;"
    low = 1
    t = spec.turned
    yield f"const long long turns = (n{t} + tiles{t} * {spec.split[t]} - 1) / (tiles{t} * {spec.split[t]});"
    for d in range(spec.dims - 1, -1, -1):
        yield f"const int t{d} = threadIdx.x / {low} % {spec.split[d]};"
        if d != t:
            yield f"const long long i{d} = b{d} * {spec.split[d]} + t{d};"
        low *= spec.split[d]


def _turn(spec: Spec) -> Iterator[str]:
    t = spec.turned
    if spec.dims == 1:
        yield f"const long long first = (b0 * turns + turn) * {spec.split[0]};"
        left = "n0 > first ? (int)(n0 - first) : 0"
        yield f"const int count = n0 - first < {spec.split[0]} ? ({left}) : {spec.split[0]};"
    yield f"const long long i{t} = (b{t} * turns + turn) * {spec.split[t]} + t{t};"
    yield f"const bool inside = {' && '.join(f'i{d} < n{d}' for d in range(spec.dims))};"
