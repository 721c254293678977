"""The shape of a path of a rule: which rows m1 of x meet which rows mu of the result. edges.h says how it is written.

Of common shapes it is also written as straight-line C, which the build compiles (paths.h). Nothing but Python is needed
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

DEGREE = 3
"""The highest of a coupling whose path has straight-line code."""

Entry = tuple[int, int]
"""mu, m1."""


def pairs(entries: Iterable[Entry]) -> Iterator[tuple[int, int, list[int], list[int], list[int]]]:
    """Pairs of rows mu (the second -1: none), and the m1 that both have, only the first and only the second."""
    m1_of = {mu: {m1 for _, m1 in row} for mu, row in groupby(sorted(entries), itemgetter(0))}
    rows = sorted(m1_of, key=lambda mu: (sorted(m1_of[mu]), mu))  # those that have the same m1 side by side
    for i in range(0, len(rows), 2):
        first, second = rows[i], rows[i + 1] if i + 1 < len(rows) else -1
        a, b = m1_of[first], m1_of.get(second, set())
        yield first, second, sorted(a & b), sorted(a - b), sorted(b - a)


def code(entries: Iterable[Entry]) -> list[int]:
    """A shape as numbers."""
    found = list(pairs(entries))
    numbers = [len(found)]
    for first, second, both, of_first, of_second in found:
        numbers += [first, second, len(both), len(of_first), len(of_second), *both, *of_first, *of_second]
    return numbers


def order(entries: Iterable[Entry]) -> dict[Entry, int]:
    """The places of entries in the order of the code."""
    found: list[Entry] = []
    for first, second, both, of_first, of_second in pairs(entries):
        found += [(mu, m1) for m1 in both for mu in (first, second)]
        found += [*((first, m1) for m1 in of_first), *((second, m1) for m1 in of_second)]
    return {entry: place for place, entry in enumerate(found)}


def table(shapes: Sequence[Sequence[Entry]]) -> str:
    """A C header: the codes of shapes, and their lengths."""
    lines: list[str] = []
    rows: list[str] = []
    for i, shape in enumerate(shapes):
        numbers = code(shape)
        lines.append(f"static const int32_t path_{i}[] = {{{', '.join(map(str, numbers))}}};")
        rows.append(f"    {{{len(numbers)}, path_{i}}},")
    return "\n".join([*lines, "static const struct shape shapes[] = {", *rows, "    {0, 0},", "};\n"])


def bodies(shapes: Sequence[Sequence[Entry]]) -> str:
    """A C header: a function for each shape, and the list of them."""
    lines: list[str] = []
    for i, shape in enumerate(shapes):
        lines += [f"STRAIGHT_PATH({i})", "{"]
        for first, second, both, of_first, of_second in pairs(shape):
            lines.append(f"    TWO_ROWS({first}, {second})" if second >= 0 else f"    ONE_ROW({first})")
            for macro, m1s in (("BOTH", both), ("FIRST", of_first), ("SECOND", of_second)):
                first = macro == "BOTH" or not both
                lines += [f"    ENTRY_OF_{macro}({m1}, {int(first and i == 0)})" for i, m1 in enumerate(m1s)]
            lines.append("    END_OF_TWO" if second >= 0 else "    END_OF_ONE")
        lines.append("}")
    each = " ".join(f"EACH({i})" for i in range(len(shapes)))
    return "\n".join([*lines, f"#define EACH_STRAIGHT_PATH(EACH) {each}\n"])
