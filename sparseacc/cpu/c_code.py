"""The text of a C function that computes an operation of a rule, for those who compile it themselves.

A block of rows, LANES of them, is copied into local arrays, a column after the other, with rows along the lanes. The
terms run over the lanes, in loops of so many turns that compilers make vector instructions of them, and the results are
copied back. Terms are straight-line code, or a table where that would be long; where the columns of a block are too
many for a stack, they are read and written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..algebra import Operation, Product
from ..calls.arrays import Array
from ..schedule.factors import Combinations, operations
from ..schedule.statements import combinations, literal, statements, variable, variables
from ..terms import Terms, distinct_terms, lengths

REAL = {"float32": "float", "float64": "double"}
MOST_OPERATIONS = 2000
"""Operations up to which straight-line code is written: a compiler takes a few seconds for as many."""
MOST_BYTES = 2**15
"""Of local arrays: they fit in L1 caches, and with what compilers add in the smallest stacks that threads are given."""
_LANES = (16, 8, 4)
_SPILLED = 0.25
"""Numbers that compilers keep on the stack for each operation of straight-line code, and lane: more than was seen."""


class Operand(NamedTuple):
    """An array of the operation: its name, the length of its active axis, and which column of the rule addresses it."""

    name: str
    columns: int
    column: int


class Function:
    """One operation of one rule; `channels` is whether they are behind the active axis.

    Attributes
    ----------
    inputs, outputs : list of Operand
    arguments : tuple of str
        The names of the parameters.
    parameters : list of str
        Their declarations.
    """

    def __init__(self, rule: Terms, operation: Operation, dtype: str, channels: bool) -> None:
        self._operation, self._channels, self._real = operation, channels, REAL[dtype]
        sizes = lengths(rule)
        self.inputs = [Operand(name, sizes[column], column) for name, column in operation.inputs]
        named = zip(operation.output_names, operation.outputs, strict=True)
        self.outputs = [Operand(name, sizes[column], column) for name, column in named]
        integers = ("rows", "n1") if channels else ("rows",)
        self.arguments = (*(o.name for o in (*self.inputs, *self.outputs)), *integers)
        to = "double" if operation.contraction else self._real
        self.parameters = [f"const {self._real} *{o.name}" for o in self.inputs]
        self.parameters += [f"{to} *{o.name}" for o in self.outputs] + [f"int64_t {n}" for n in integers]

        self._copied = [*self.inputs, *([] if operation.contraction else self.outputs)]
        columns = sum(o.columns for o in self._copied)
        self._lanes = self._lanes_for(columns)
        weights = [rule.path] if operation.weighted else []
        terms: Sequence[Array] = (rule.m1, rule.m2, rule.mu, *weights)
        self._straight: Combinations | None = None
        if not operation.contraction:
            *terms, C = distinct_terms(rule, dtype, operation.weighted)
            if self._lanes and len(C) * len(operation.products) <= MOST_OPERATIONS:
                straight = combinations((*terms, C), operation, self._real)
                lanes = self._lanes_for(columns + int(_SPILLED * operations(straight)))
                if operations(straight) <= MOST_OPERATIONS and lanes:
                    self._straight, self._lanes = straight, lanes
            self._C = [literal(c, self._real) for c in C.astype(dtype).tolist()]
        self._terms = list(zip(*(column.tolist() for column in terms), strict=True))

    def _lanes_for(self, columns: int) -> int:
        """How many rows of so many columns fit on the stack; 0 if not even few do."""
        row = columns * (4 if self._real == "float" else 8)
        return next((lanes for lanes in _LANES if lanes * row <= MOST_BYTES), 0)

    def signature(self, name: str) -> str:
        """The function's first line."""
        return f"void {name}({', '.join(p.replace('*', '*restrict ') for p in self.parameters)})"

    def body(self) -> Iterator[str]:
        """The other lines."""
        yield "{"
        if self._lanes:
            yield f"    enum {{ LANES = {self._lanes} }};"
        if self._straight is None:
            yield from self._tables()
        if self._operation.contraction:
            yield f"    for (int k = 0; k < {len(self._terms)}; ++k)"
            yield "        out[k] = 0;"
        yield from self._blocks() if self._lanes else self._in_place()
        yield "}"

    def _tables(self) -> Iterator[str]:
        rows = (f"{{{', '.join(map(str, term))}}}" for term in self._terms)
        yield f"    static const int terms[][{len(self._terms[0])}] = {{"
        yield from _wrapped(rows)
        yield "    };"
        if not self._operation.contraction:
            yield f"    static const {self._real} coefficients[] = {{"
            yield from _wrapped(self._C)
            yield "    };"

    def _blocks(self) -> Iterator[str]:
        """The loop over blocks, whose lanes are rows, or channels."""
        total, at = ("n1", "        ") if self._channels else ("rows", "    ")
        if self._channels:
            yield "    for (int64_t row = 0; n1 > 0 && row <= rows - n1; row += n1) {"
        yield f"{at}for (int64_t first = 0; first < {total}; first += LANES) {{"
        yield f"{at}    const int count = {total} - first < LANES ? (int)({total} - first) : LANES;"
        yield f"{at}    {self._real} {', '.join(f'{o.name}_at[{o.columns}][LANES]' for o in self._copied)};"
        inner = at + "    "
        yield from (inner + line for line in self._whole_or_part(self._load))
        if self._straight is not None:
            yield from (inner + line for line in self._statements(self._straight))
        else:
            if not self._operation.contraction:
                yield from (inner + line for o in self.outputs for line in self._copy(o, "LANES", o.name + "_at", "0"))
            local = ((o, f"{o.name}_at[term[{n}]]") for o, n in self._places())
            yield from (inner + line for line in self._loop(local, "int", "LANES"))
        if not self._operation.contraction:
            yield from (inner + line for line in self._whole_or_part(self._store))
        yield f"{at}}}"
        if self._channels:
            yield "    }"

    def _whole_or_part(self, copies: Callable[[bool], Iterator[str]]) -> Iterator[str]:
        """Loops of a constant number of turns for a whole block."""
        yield "if (count == LANES) {"
        yield from (f"    {line}" for line in copies(True))
        yield "} else {"
        yield from (f"    {line}" for line in copies(False))
        yield "}"

    def _load(self, whole: bool) -> Iterator[str]:
        """Copies the inputs; lanes that have no row are zero."""
        for o in self.inputs:
            number = self._number(o)
            yield from self._copy(o, "LANES", f"{o.name}_at", number if whole else f"i < count ? {number} : 0")

    def _store(self, whole: bool) -> Iterator[str]:
        for o in self.outputs:
            yield from self._copy(o, "LANES" if whole else "count", "", f"{o.name}_at[c][i]")

    def _copy(self, o: Operand, lanes: str, to: str, value: str) -> Iterator[str]:
        """Into a local array, or without one into an output; neighbours in memory follow each other."""
        loops = [f"for (int c = 0; c < {o.columns}; ++c)", f"for (int i = 0; i < {lanes}; ++i)"]
        yield from (f"{'    ' * n}{loop}" for n, loop in enumerate(loops if self._channels else reversed(loops)))
        yield f"        {f'{to}[c][i]' if to else self._number(o)} = {value};"

    def _number(self, o: Operand) -> str:
        """That of column c and lane i, in memory."""
        return (
            f"{o.name}[row * {o.columns} + c * n1 + first + i]"
            if self._channels
            else (f"{o.name}[(first + i) * {o.columns} + c]")
        )

    def _statements(self, straight: Combinations) -> Iterator[str]:
        """Straight-line code, for all lanes."""
        read = variables(straight)
        yield "for (int i = 0; i < LANES; ++i) {"
        for o in self.inputs:
            for c in range(o.columns):
                if variable(o.name, c) in read:
                    yield f"    const {self._real} {variable(o.name, c)} = {o.name}_at[{c}][i];"
        for o in self.outputs:
            yield f"    {self._real} {', '.join(f'{variable(o.name, c)} = 0' for c in range(o.columns))};"
        names = [o.name for o in self.outputs]
        for line in statements(straight, names, self._real, lambda a, b, c: f"{c} + {a} * {b}"):
            yield f"    {line}"
        for o in self.outputs:
            yield from (f"    {o.name}_at[{c}][i] = {variable(o.name, c)};" for c in range(o.columns))
        yield "}"

    def _in_place(self) -> Iterator[str]:
        """The loop over the rows, or over those that have their channels in common."""
        if not self._channels:
            yield "    const int64_t n1 = 1;"
        yield "    for (int64_t row = 0; n1 > 0 && row <= rows - n1; row += n1) {"
        if not self._operation.contraction:
            for o in self.outputs:
                yield f"        for (int64_t i = 0; i < {o.columns} * n1; ++i)"
                yield f"            {o.name}[row * {o.columns} + i] = 0;"
        there = ((o, f"{o.name} + row * {o.columns} + term[{n}] * n1") for o, n in self._places())
        yield from ("        " + line for line in self._loop(there, "int64_t", "n1"))
        yield "    }"

    def _places(self) -> Iterator[tuple[Operand, int]]:
        """The operands that terms address, and the place of their column in a term."""
        return ((o, o.column) for o in self._copied)

    def _loop(self, pointers: Iterable[tuple[Operand, str]], index: str, lanes: str) -> Iterator[str]:
        """The terms, from a table."""
        yield f"for (int k = 0; k < {len(self._terms)}; ++k) {{"
        yield "    const int *const term = terms[k];"
        for o, where in pointers:
            yield f"    {'const ' if o in self.inputs else ''}{self._real} *const {o.name}_k = {where};"
        each = f"    for ({index} i = 0; i < {lanes}; ++i)"
        if not self._operation.contraction:
            yield f"    const {self._real} C = coefficients[k];"
            yield f"{each} {{"
            for n, o in enumerate(self.outputs):
                products = [self._product(p) for p in self._operation.products if p.output == n]
                yield f"        {o.name}_k[i] += {' + '.join(f'C * {product}' for product in products)};"
            yield "    }"
        elif self._lanes:
            yield "    double sums[LANES];"
            yield each
            yield f"        sums[i] = {self._product(self._operation.products[0])};"
            # In turns that are counted as it runs: compilers unroll others before they look for vectors.
            yield "    for (int half = LANES / 2; half > 0; half /= 2)"
            yield "        for (int i = 0; i < half; ++i)"
            yield "            sums[i] += sums[i + half];"
            yield "    out[k] += sums[0];"
        else:
            yield each
            yield f"        out[k] += {self._product(self._operation.products[0])};"
        yield "}"

    def _product(self, product: Product) -> str:
        return " * ".join(f"{self.inputs[i].name}_k[i]" for i in product.inputs)

    @property
    def title(self) -> str:
        """How much it computes."""
        if self._straight is not None:
            return f"{operations(self._straight)} operations a row"
        return f"a table of {len(self._terms)} terms"


def _wrapped(items: Iterable[str], width: int = 110) -> Iterator[str]:
    """Items of a list as lines."""
    line = ""
    for item in items:
        if len(line) + len(item) > width:
            yield f"       {line}"
            line = ""
        line += f" {item},"
    yield f"       {line}"
