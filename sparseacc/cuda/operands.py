"""How kernels reach their operands: the text of addresses, reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..calls import dtypes
from . import geometry
from .geometry import pitch


class Stored(NamedTuple):
    """How a dtype is stored, and what it is computed in."""

    type: str
    size: int
    real: str
    planes: int


_REAL = {"float32": "float", "float64": "double"}
STORED = {name: Stored(d.cuda, d.itemsize, _REAL[d.real], d.planes) for name, d in dtypes.STORED.items()}

WIDE = {1: STORED["float64"], 2: STORED["complex128"]}
"""What sums over a batch are kept in, by planes."""

ROWS, DIRECT, CHANNELS, STRIDED = "rows", "direct", "channels", "strided"
"""How an operand is reached: contiguous rows through shared memory; contiguous rows without; the active axis before a
last axis of channels, contiguous; any strides."""


class Operand(NamedTuple):
    """One operand of a kernel."""

    name: str
    columns: int
    how: str
    stored: Stored
    written: bool

    @property
    def const(self) -> str:
        """What pointers to it are, before the type."""
        return "" if self.written else "const "

    @property
    def parameter(self) -> str:
        """Its declaration as a parameter."""
        return f"{self.const}{self.stored.type} *__restrict__ {self.name}"

    @property
    def row_bytes(self) -> int:
        """What a row of it takes in shared memory."""
        return pitch(self.columns) * self.stored.size

    def strides(self, dims: int) -> list[str]:
        """The integers that say where it is, in bytes."""
        return [f"{self.name}_step", *(f"{self.name}_by{d}" for d in range(dims))] if self.how == STRIDED else []

    def element(self, column: object) -> str:
        """A column of this thread's row: its address if strided, else itself."""
        if self.how == STRIDED:
            return f"at_{self.name} + {column} * {self.name}_step"
        return f"at_{self.name}[{column}{' * n1' if self.how == CHANNELS else ''}]"

    def read(self, column: object) -> str:
        """The expression that reads a column of this thread's row."""
        element = self.element(column)
        return f"at<{self.stored.type}>({element})" if self.how == STRIDED else element

    def write(self, column: object, *numbers: str) -> str:
        """The statement that writes a column of this thread's row."""
        element, values = self.element(column), ", ".join(numbers)
        return (
            f"put<{self.stored.type}>({element}, {values});" if self.how == STRIDED else f"store({element}, {values});"
        )

    def place(self, dims: int, mine: str) -> str:
        """The statement that says where this thread's row is: row number `row`, with indices i0, i1, ... in the batch,
        and number `mine` in its tile.
        """
        pointer = f"{self.const}{'char' if self.how == STRIDED else self.stored.type} *"
        where = {
            ROWS: f"tile_{self.name} + {mine} * {pitch(self.columns)}",
            DIRECT: f"{self.name} + row * {self.columns}",
            CHANNELS: f"{self.name} + i0 * {self.columns} * n1 + i1",
            STRIDED: f"({pointer}){self.name} + " + " + ".join(f"i{d} * {self.name}_by{d}" for d in range(dims)),
        }[self.how]
        return f"{pointer}const at_{self.name} = {where};"

    def stage(self, threads: int) -> str:
        """The statement that copies `count` rows from row number `first` on to its tile."""
        sizes = f"{threads}, {self.columns}, {pitch(self.columns)}"
        return f"stage<{sizes}>(tile_{self.name}, {self.name} + first * {self.columns}, count);"

    def unstage(self, threads: int) -> str:
        """The statement that copies its tile to them."""
        sizes = f"{threads}, {self.columns}, {pitch(self.columns)}"
        return f"unstage<{sizes}>({self.name} + first * {self.columns}, tile_{self.name}, count);"


def words(operands: Iterable[Operand], dtype: str) -> int:
    """Registers that a row of them takes."""
    stored = STORED[dtype]
    return sum(o.columns for o in operands) * stored.planes * (2 if stored.real == "double" else 1)


def tiled(operands: list[Operand], limit: int, more: int = 0) -> tuple[list[Operand], int, int]:
    """Leaves the widest operands out of shared memory until the others fit, `more` bytes a row besides.

    Returns the operands, the threads of a block and the bytes of shared memory for each; no threads if nothing fits.
    """
    operands = [o._replace(how=DIRECT) if o.how == ROWS and o.columns < 2 else o for o in operands]
    while True:
        staged = [o for o in operands if o.how == ROWS]
        row_bytes = more + sum(o.row_bytes for o in staged)
        threads = geometry.threads_for(row_bytes, limit)
        if threads or not staged:
            return operands, threads, row_bytes
        widest = max(staged, key=lambda o: o.columns)
        operands = [o._replace(how=DIRECT) if o is widest else o for o in operands]


def row(operands: Iterable[Operand], mine: str) -> Iterator[str]:
    """The statement that numbers this thread's row in the batch, `mine` after `first`, where an operand needs it."""
    if any(o.how != ROWS for o in operands):
        yield f"const long long row = first + {mine};"


def indices(operands: Iterable[Operand], dims: int) -> Iterator[str]:
    """The indices in the batch of row number `row`, where an operand needs them."""
    if all(o.how in (ROWS, DIRECT) for o in operands):
        return
    if dims > 1:
        yield "unsigned long long rest = row;"
        for d in range(dims - 1, 0, -1):
            yield f"const long long i{d} = rest % n{d};"
            yield f"rest /= n{d};"
    yield f"const long long i0 = {'rest' if dims > 1 else 'row'};"


def lengths(operands: Iterable[Operand], dims: int) -> list[str]:
    """The lengths of the batch that `indices` needs."""
    return [] if all(o.how in (ROWS, DIRECT) for o in operands) else [f"n{d}" for d in range(1, dims)]


def tiles(operands: Iterable[Operand], rows: int) -> Iterator[str]:
    """The tiles in shared memory, of so many rows, one after the other."""
    yield "SPARSEACC_SHARED(memory);"
    offset = 0
    for o in operands:
        if o.how == ROWS:
            yield f"{o.stored.type} *const tile_{o.name} = ({o.stored.type} *)(memory + {offset});"
            offset += rows * o.row_bytes


def stage(operands: Iterable[Operand], threads: int) -> Iterator[str]:
    """Copies the inputs' tiles from row number `first` on."""
    staged = [o for o in operands if o.how == ROWS and not o.written]
    for o in staged:
        yield o.stage(threads)
    if staged:
        yield "__syncthreads();"


def unstage(operands: Iterable[Operand], threads: int) -> Iterator[str]:
    """Copies the outputs' tiles."""
    staged = [o for o in operands if o.how == ROWS and o.written]
    if staged:
        yield "__syncthreads();"
    for o in staged:
        yield o.unstage(threads)


def parameters(operands: Iterable[Operand], tables: Iterable[tuple[str, str]], integers: Iterable[str]) -> list[str]:
    """The kernel's parameters, a line each."""
    declared = [o.parameter for o in operands]
    declared += [f"const {kind} *__restrict__ {name}" for name, kind in tables]
    declared += [f"const long long {name}" for name in integers]
    return [f"{each}," for each in declared[:-1]] + declared[-1:]
