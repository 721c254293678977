"""What a kernel of message passing computes: outputs, as sums over the edges of a row or for each edge, of products of
the operands' rows.

Slots are the operands x, y and w and the result, out. The gradients of slots are called dx, dy, dw; along a cotangent
zx, zy or zw, a product has that in place of the operand. The double backward is a sum of such products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..terms import Terms
from .operands import STORED, Stored

THREADS = 256
"""Channels of a block, at most; more are shared out among blocks."""


class Pass(NamedTuple):
    """All that a kernel depends on besides the rule.

    Attributes
    ----------
    outputs : tuple of str
        Slots.
    column : str or None
        The slot by whose rows the edges are sorted: an output of that slot is a sum over them, one of another slot has
        a row an edge. None: every output has.
    along : tuple of str
        The slots that have a cotangent; none: the product itself, and its gradients.
    dtype : str
    channels : int
    apart : tuple of str
        Those of y and w that have numbers of their own for every channel.
    indexed : tuple of str
        The slots whose rows are named by an index. Others have a row an edge.
    weighted : bool
        Whether there are weights.
    pieces : bool
        Whether sums over edges are to be added to others, and so are kept in the dtype of the computation.
    """

    outputs: tuple[str, ...]
    column: str | None
    along: tuple[str, ...]
    dtype: str
    channels: int
    apart: tuple[str, ...]
    indexed: tuple[str, ...]
    weighted: bool
    pieces: bool = False

    @property
    def shares(self) -> int:
        """Blocks that share the channels."""
        return -(-self.channels // THREADS)

    @property
    def threads(self) -> int:
        """Of a block: whole warps."""
        return -(-self.channels // (32 * self.shares)) * 32

    def has_channels(self, slot: str) -> bool:
        """Whether rows of a slot have channels; else a number is for all of them, and its gradient a sum over them."""
        return slot in ("x", "out") or slot in self.apart

    def stored(self, slot: str) -> Stored:
        """How an output is stored."""
        stored = STORED[self.dtype]
        partial = (self.pieces and slot == self.column) or (self.shares > 1 and not self.has_channels(slot))
        return STORED["float32" if stored.real == "float" else "float64"] if partial else stored

    def products(self, slot: str) -> list[dict[str, str]]:
        """The products that an output is the sum of: the operand for each slot but its own."""
        slots = {name: name for name in ("x", "y", "w") if name != "w" or self.weighted}
        found = [slots | {name: f"z{name}"} for name in self.along if name != slot] if self.along else [slots]
        others = [{name: operand for name, operand in product.items() if name != slot} for product in found]
        return [product | ({} if slot == "out" else {"out": "dout"}) for product in others]

    def inputs(self) -> list[str]:
        """The operands that are read."""
        read = {operand for slot in self.outputs for product in self.products(slot) for operand in product.values()}
        return [name for name in ("zx", "zy", "zw", "dout", "x", "y", "w") if name in read]

    def rows(self) -> list[str]:
        """The slots of which it takes the rows in the order of edges."""
        touched = {slot_of(name) for name in self.inputs()}
        return [slot for slot in ("x", "y", "w", "out") if slot in touched and slot in self.indexed]

    def arguments(self) -> tuple[str, ...]:
        """The names of the arrays that it takes."""
        outputs = (gradient(slot) for slot in self.outputs)
        return (*self.inputs(), *outputs, "begins", "order", *(f"{slot}_rows" for slot in self.rows()))

    def parameters(self, tables: tuple[tuple[str, str], ...] = ()) -> Iterator[str]:
        """Their declarations, a line each, and those of tables and integers."""
        stored = STORED[self.dtype].type
        for name in self.inputs():
            yield f"const {stored} *__restrict__ {name},"
        for slot in self.outputs:
            yield f"{self.stored(slot).type} *__restrict__ {gradient(slot)},"
        for name in ("begins", "order", *(f"{slot}_rows" for slot in self.rows())):
            yield f"const long long *__restrict__ {name},"
        for name, kind in tables:
            yield f"const {kind} *__restrict__ {name},"
        yield "const long long segments,"
        yield "const long long edges"

    def row(self, slot: str, place: str, edge: str) -> str:
        """The row of a slot that the edge in a place has."""
        return f"{slot}_rows[{place}]" if slot in self.indexed else edge

    def address(self, name: str, row: str, columns: int) -> str:
        """Where a thread's numbers are in a row of an array."""
        if self.has_channels(slot_of(name)):
            return f"{name} + {row} * {columns * self.channels}LL + channel"
        return f"{name} + {row} * {columns}LL"

    def step(self, slot: str) -> int:
        """From a component to the next."""
        return self.channels if self.has_channels(slot) else 1

    def sums(self, slot: str) -> bool:
        """Whether an output is a sum over the edges of a row."""
        return slot == self.column


def slot_of(name: str) -> str:
    """The slot of an operand, a cotangent or a gradient."""
    return "out" if name in ("out", "dout") else name[-1]


def gradient(slot: str) -> str:
    """The name of an output."""
    return "out" if slot == "out" else f"d{slot}"


def widths(rule: Terms) -> dict[str, int]:
    """The components of each slot."""
    return dict(zip(("x", "y", "out", "w"), (*rule.shape, rule.num_paths), strict=True))
