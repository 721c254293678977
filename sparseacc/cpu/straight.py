"""Writes the arithmetic of common rules as straight-line C, which the build compiles.

The loop that reads its instructions (product.h) is for every rule, but keeps columns in the L1 cache. Where a row's
columns fit the registers, code without loops keeps them there: rows go from memory to registers and back, and no tile
is made. The numbers are bitwise those of the loop, as the operations and their order are.

Of each operation there are two functions: `rows` for operands that are contiguous rows, and `columns` for columns in a
tile or in place. straight.h has the macros that they are made of, and build.py chooses the rules. Nothing but Python
is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

DEGREE = 5
"""The highest of a coupling that has it."""


class Straight(NamedTuple):
    """One operation of one rule: a name, `code` of instructions.py, and the columns of all operands, inputs first."""

    name: str
    code: list[int]
    inputs: Sequence[int]
    outputs: Sequence[int]

    def functions(self) -> Iterator[str]:
        """Their C text. An instruction set compiles those of operands of up to so many columns (isa_*.h)."""
        reads, writes = list(enumerate(self.inputs)), list(enumerate(self.outputs, len(self.inputs)))
        columns = sum(self.inputs) + sum(self.outputs)
        yield f"#if {columns} <= MOST_STRAIGHT_ROWS\nSTRAIGHT_ROWS({self.name})\n{{"
        yield from (f"    ROWS_IN({o}, {n})" for o, n in reads)
        yield from (f"    ROWS_OUT({o}, {n})" for o, n in writes)
        yield "    EACH_BLOCK {"
        yield from (f"        READ_ROWS({o}, {n})" for o, n in reads)
        yield from (f"        VEC x{o}[{n}];" for o, n in writes)
        yield from self._sums("x{}[{}] = {};")
        yield from (f"        WRITE_ROWS({o}, {n})" for o, n in writes)
        yield f"    }}\n}}\n#else\n#define rows_{self.name} 0\n#endif"
        yield f"#if {columns} <= MOST_STRAIGHT_COLUMNS\nSTRAIGHT_COLUMNS({self.name})\n{{"
        yield "    EACH_VECTOR {"
        yield from (f"        READ_COLUMNS({o}, {n})" for o, n in reads)
        yield from (f"        FIND_COLUMNS({o})" for o, _ in writes)
        yield from self._sums("WRITE_COLUMN({}, {}, {})")
        yield f"    }}\n}}\n#else\n#define columns_{self.name} 0\n#endif"

    def _sums(self, write: str) -> Iterator[str]:
        """In the order of product.h: of each pair of outputs, group after group."""
        code, coefficients = iter(self.code), 0
        spare = len(self.inputs) + len(self.outputs)
        for _ in range(next(code)):
            outputs = (next(code), next(code)), (next(code), next(code))
            yield "        PAIR"
            for _ in range(next(code)):
                a, b, quads, negated, firsts, seconds = (next(code) for _ in range(6))
                for i in range(quads + negated):
                    factors = [f"x{operand}[{next(code)}]" for operand in (a, a, b, b)]
                    yield f"        QUAD_TERMS({', '.join(factors)}, {coefficients}, {int(i >= quads)})"
                    coefficients += 2
                for i in range(firsts + seconds):
                    factors = [f"x{operand}[{next(code)}]" for operand in (a, b)]
                    total = "first" if i < firsts else "second"
                    yield f"        SINGLE_TERM({total}, {', '.join(factors)}, {coefficients})"
                    coefficients += 1
            for (operand, column), value in zip(outputs, ("first", "second"), strict=True):
                if operand != spare:
                    yield f"        {write.format(operand, column, value)}"

    def row(self) -> str:
        """Its line of the table by which programs are recognised."""
        columns = [*self.inputs, *self.outputs]
        return f"{{{len(self.code)}, {len(columns)}, {{{', '.join(map(str, columns))}}}, code_{self.name}}},"


def table(functions: Sequence[Straight]) -> str:
    """A C header: `code` and columns of all."""
    codes = [f"static const int32_t code_{f.name}[] = {{{', '.join(map(str, f.code))}}};" for f in functions]
    rows = [f"    {f.row()}" for f in functions]
    return "\n".join([*codes, "static const struct straight straights[] = {", *rows, "};\n"])


def bodies(functions: Sequence[Straight]) -> str:
    """A C header: the functions, and the list of them."""
    each = " ".join(f"EACH({f.name})" for f in functions)
    lines = [line for f in functions for line in f.functions()]
    return "\n".join([*lines, f"#define EACH_STRAIGHT(EACH) {each}\n"])
