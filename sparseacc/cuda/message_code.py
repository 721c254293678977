"""The arithmetic of an edge in kernels of message passing, as statements for one channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ..schedule.statements import literal
from .message_terms import Entry
from .operands import STORED
from .passes import Pass, gradient

_Key = tuple[int, int, int]
"""Path, mu and m1 of an entry."""


class Code:
    """Of a pass, for some entries of the rule.

    Parameters
    ----------
    rows : dict
        For each output the components that are computed.
    """

    def __init__(self, spec: Pass, entries: Sequence[Entry], rows: dict[str, Sequence[int]]) -> None:
        self.spec, self.entries, self.rows = spec, entries, rows
        self.real = STORED[spec.dtype].real
        self._fma = "fmaf" if self.real == "float" else "fma"
        self.a_quad = 4 if self.real == "float" else 2
        self.matrices = [name for name in ("y", "zy") if name in spec.inputs()]
        self.staged = [] if "y" in spec.apart else self.matrices
        self._products = {slot: spec.products(slot) for slot in spec.outputs}
        self._begun: set[str] = set()

    @property
    def pitch(self) -> int:
        """Numbers from an edge's entries in shared memory to the next one's."""
        return -(-len(self.entries) // self.a_quad) * self.a_quad

    def used(self, name: str) -> list[int]:
        """The components of x, zx or, where it has channels, of y or zy that are read."""
        if name in ("x", "zx"):
            return sorted({entry.m1 for entry in self.entries})
        return sorted({m2 for entry in self.entries for m2, _ in entry.terms})

    def variables(self, slot: str) -> list[str]:
        """The sums of an output."""
        return [f"{gradient(slot)}_{m}" for m in self.rows[slot]]

    def declare(self, slots: Iterable[str]) -> Iterator[str]:
        """The sums, zero."""
        for slot in slots:
            for name in self.variables(slot):
                yield f"{self.real} {name} = 0;"

    def loads(self, name: str, const: bool = True) -> Iterator[str]:
        """Reads an operand into variables."""
        for m in self.used(name):
            value = f"real(at_{name}[{m * self.spec.step(name[-1])}])"
            yield f"const {self.real} {name}_{m} = {value};" if const else f"{name}_{m} = {value};"

    def statements(self) -> Iterator[tuple[int, list[str]]]:
        """What adds an edge's products to the sums, path by path."""
        number = {entry[:3]: k for k, entry in enumerate(self.entries)}
        quads: set[int] = set()
        for path, of_path in groupby(self.entries, key=lambda entry: entry.path):
            yield path, list(self._path(path, list(of_path), number, quads))

    def _path(self, path: int, entries: Sequence[Entry], number: dict[_Key, int], quads: set[int]) -> Iterator[str]:
        """The entries of one path; `quads` are those that have been read."""
        for name in ("w", "zw"):
            if name in self.spec.inputs():
                yield f"const {self.real} {name}_{path} = real(at_{name}[{path * self.spec.step('w')}]);"
        for mu, row in groupby(entries, key=lambda entry: entry.mu):
            of_row = list(row)
            if self.staged:
                for quad in sorted({number[entry[:3]] // self.a_quad for entry in of_row} - quads):
                    quads.add(quad)
                    for name in self.staged:
                        yield f"const quad<{self.real}> {name}_q{quad} = at_entries_{name}[{quad}];"
            yield "{"
            yield from (f"    {line}" for line in self._row(path, mu, of_row, number))
            yield "}"

    def _row(self, path: int, mu: int, entries: Sequence[Entry], number: dict[_Key, int]) -> Iterator[str]:
        """The entries of one row mu. A sum over them is s_w or s_zw where a weight multiplies it, s for that weight."""
        products, real = self._products, self.real
        self._begun = set()
        if any(slot != "out" for slot in products):
            yield f"const {real} d = real(at_dout[{mu * self.spec.channels}]);"
        for w in _weights(products, "x", "y"):
            yield f"const {real} u_{w} = {w}_{path} * d;"
        weights = _weights(products, "out")
        for name in [f"s_{w}" for w in weights] + ["s"] * ("w" in products):
            yield f"{real} {name};"
        for entry in entries:
            yield "{"
            yield from (f"    {line}" for line in self._entry(entry, number[entry[:3]]))
            yield "}"
        for w in weights:
            yield self._add(f"out_{mu}", f"{w}_{path}", f"s_{w}")
        if "w" in products:
            yield self._add(f"dw_{path}", "d", "s")

    def _entry(self, entry: Entry, k: int) -> Iterator[str]:
        """What one entry adds to every output."""
        products, real = self._products, self.real
        for name in self.matrices:
            if any(product.get("y") == name for found in products.values() for product in found):
                yield f"const {real} a_{name} = {self._matrix(name, entry, k)};"
        for p in products.get("out", ()):
            total = f"s_{p['w']}" if "w" in p else f"out_{entry.mu}"
            yield self._add(total, f"a_{p['y']}", f"{p['x']}_{entry.m1}")
        for p in products.get("x", ()):
            yield self._add(f"dx_{entry.m1}", f"a_{p['y']}", _times_weight(p))
        for p in products.get("w", ()):
            yield self._add("s", f"a_{p['y']}", f"{p['x']}_{entry.m1}")
        if products.get("y"):
            yield f"{real} t;"
            self._begun.discard("t")
            for p in products["y"]:
                yield self._add("t", f"{p['x']}_{entry.m1}", _times_weight(p))
            for m2, c in entry.terms:
                yield self._add(f"dy_{m2}", literal(c, real), "t")

    def _matrix(self, name: str, entry: Entry, k: int) -> str:
        """An entry of the matrix by y or zy."""
        if self.staged:
            return f"{name}_q{k // self.a_quad}.v[{k % self.a_quad}]"
        (m, c), *rest = entry.terms
        text = f"{literal(c, self.real)} * {name}_{m}"
        for m, c in rest:
            text = f"{self._fma}({literal(c, self.real)}, {name}_{m}, {text})"
        return text

    def _add(self, total: str, a: str, b: str) -> str:
        """A product added to a sum, which begins with it unless it was zero before."""
        if total[0] in "st" and total not in self._begun:
            self._begun.add(total)
            return f"{total} = {a} * {b};"
        return f"{total} = {self._fma}({a}, {b}, {total});"


def _weights(products: dict[str, list[dict[str, str]]], *slots: str) -> list[str]:
    """The operands that weigh the products of some outputs."""
    return sorted({product["w"] for slot in slots for product in products.get(slot, ()) if "w" in product})


def _times_weight(product: dict[str, str]) -> str:
    """The gradient of the result times the weight of a product."""
    return f"u_{product['w']}" if "w" in product else "d"
