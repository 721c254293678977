"""Straight-line code in C or CUDA for an operation of a rule: a variable for each column, coefficients as constants.

Sums of terms that share a factor are formed first (factors.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..algebra import Operation
from ..calls.arrays import Array
from .factors import Combinations, Term, combined
from .sums import sums

PLANES = {1: ("",), 2: ("r", "i")}
"""What distinguishes the variables of a column: nothing, or real and imaginary part."""


def variable(name: str, column: int, plane: str = "") -> str:
    """Of a column of an operand, or of a plane of it."""
    return f"{name}_{column}{plane}"


def combinations(terms: Sequence[Array], operation: Operation, real: str, planes: int = 1) -> Combinations:
    """Arranges the `terms` (m1, m2, mu, with weights path, and C) of a (restricted) operation; `real` is the type."""
    columns = [c.tolist() for c in terms[:-1]]
    C = terms[-1].astype(np.float32 if real == "float" else np.float64).tolist()

    def of_input(i: int, column: int) -> str:
        return _real_variable(operation.inputs[i][0], column, planes)

    products: list[list[Term]] = []
    for product in operation.products:
        products.append([])
        for (first, second), outer, found in sums(operation, product, columns, C, planes):
            by = of_input(*outer) if outer else ""
            products[-1] += [
                ((product.output, out), by, of_input(first, a), of_input(second, b), c) for out, a, b, c in found
            ]
    return combined(products)


def variables(found: Combinations) -> set[str]:
    """Those of the inputs that are read."""
    return {
        name
        for total, uses in found.items()
        for name in [*(n for _, n in total), *(n for use in uses for n in (use.factor, use.outer))]
    }


def statements(
    found: Combinations, outputs: Sequence[str], real: str, fma: Callable[[str, str, str], str], planes: int = 1
) -> Iterator[str]:
    """Adds to the variables of the outputs, of which `outputs` are the names; the first addition sets one.

    Few variables are alive at a time, as a combination goes wherever it is needed at once. ``fma(a, b, c)`` is the text
    of ``a * b + c``.
    """
    begun: set[str] = set()

    def add(to: str, a: str, b: str) -> str:
        first = to not in begun
        begun.add(to)
        return f"{to} = {a} * {b};" if first else f"{to} = {fma(a, b, to)};"

    left = Counter((use.out, use.outer) for uses in found.values() for use in uses)
    for total, uses in found.items():
        (coefficient, name), *rest = total
        text = [f"{real} s = {name if coefficient == 1 else f'{literal(coefficient, real)} * {name}'};"]
        text += [f"s = {fma(literal(c, real), x, 's')};" for c, x in rest]
        finished = []
        for (o, column), factor, sign, outer in uses:
            out = _real_variable(outputs[o], column, planes)
            x = factor if sign > 0 else f"-{factor}"  # not -s, for which compilers multiply once more
            inner = f"{out}_by_{outer}" if outer else out
            if outer and inner not in begun:
                yield f"{real} {inner};"
            text.append(add(inner, "s", x))
            left[(o, column), outer] -= 1
            if outer and not left[(o, column), outer]:
                finished.append((out, inner, outer))
        yield "{ " + " ".join(text) + " }"
        yield from (add(*each) for each in finished)


def _real_variable(name: str, column: int, planes: int) -> str:
    """Of a real column: a component has as many as planes."""
    component, plane = divmod(column, planes)
    return variable(name, component, PLANES[planes][plane])


def literal(value: float, real: str) -> str:
    """A number in C, to the last bit; `value` has been rounded to `real`."""
    return f"{np.float32(value)!s}f" if real == "float" else repr(value)
