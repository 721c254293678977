"""Values in words, for people: what a rule or a polynomial holds, and what a row of it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .calls.arrays import Array
from .irreps import Segment, as_segments, rows
from .monomials import PolynomialTerms
from .racah import LIBRASCAL_OVER_E3NN, complex_terms, real_terms
from .terms import Terms

WIDTH = 100
"""The most characters in a line."""

_MOST_LINES = 20
_MOST_DEGREES = 100
"""The largest l1 + l2 + l3 of a coupling that is looked for: it takes a tenth of a second."""


class Meaning(NamedTuple):
    """What is known of a rule beyond its terms.

    Attributes
    ----------
    heading : str
        What it is.
    operands : tuple of 3 str
        What x1, x2 and the result are.
    blocks : tuple of 3 sequences of (str, int)
        The parts of x1, x2 and the result, one after the other: names, and how many rows each has.
    degrees : array, shape (num_paths, 3), or None
        l1, l2 and l3 of each path, where it couples angular momenta.
    parities : array, shape (num_paths,), or None
        1 or -1, of what each path adds to.
    """

    heading: str
    operands: tuple[str, str, str]
    blocks: tuple[Sequence[tuple[str, int]], ...]
    degrees: Array | None = None
    parities: Array | None = None


def meaning_of_terms(rule: Terms) -> Meaning:
    """What the terms of a rule say by themselves."""
    made_by = _coupling(rule)
    degrees = np.array([rule.shape]) // 2 if made_by else None
    heading = f"Rule: its terms are those of {made_by}" if made_by else "Rule"
    n1, n2, n_out = (f"{_count(n, 'component')}" for n in rule.shape)
    return Meaning(heading, (n1, n2, n_out), tuple([("", n)] for n in rule.shape), degrees)


def meaning_of_irreps(
    irreps: Sequence[str], channels: Sequence[int], degrees: Array, parities: Array, shape: Sequence[int]
) -> Meaning:
    """What irreps of x1, x2 and the result say of a tensor product."""
    held = [as_segments(text, "irreps") for text in irreps]
    x1, x2, out = (
        f"{_cut(text, 60)}: {_count(n, 'row')}{' of ' + _count(c, 'channel') if c > 1 else ''}"
        for text, c, n in zip(irreps, channels, shape, strict=True)
    )
    shared = ", which the channels of x1 share" if channels[1] < channels[0] else ""
    blocks = tuple([(_named(s), rows(s, c)) for s in segments] for segments, c in zip(held, channels, strict=True))
    return Meaning("TensorProduct", (x1, x2 + shared, out), blocks, degrees, parities)


def rule_in_words(rule: Terms, meaning: Meaning) -> str:
    """What `Rule.describe` returns."""
    lines = [meaning.heading, *_table([("  " + name, text) for name, text in _facts(rule, meaning)])]
    if rule.num_paths > 1 or meaning.degrees is not None:
        lines += ["", *_paths(rule, meaning)]
    return "\n".join(_cut(line, WIDTH) for line in lines)


def polynomial_in_words(polynomial: PolynomialTerms, heading: str) -> str:
    """What `Polynomial.describe` returns."""
    (n_in, n_out), number = polynomial.shape, polynomial.num_paths
    numbers = n_in + number + n_out
    facts = [
        ("shape", f"{_count(n_in, 'component')} of x, {n_out:,} of the result"),
        ("paths", f"{number:,}, each with a weight"),
        ("terms", f"{polynomial.nnz:,}, of up to {_count(polynomial.degree, 'factor')}"),
        ("a row", f"{_count(numbers, 'number')}, {4 * numbers:,} bytes in float32: x, weights and result"),
    ]
    table = [("degree", "paths", "terms", "C")]
    table += [
        (f"{nu:6}", f"{len(np.unique(of_degree.path)):5,}", f"{len(of_degree.C):5,}", _range(of_degree.C))
        for nu, of_degree in enumerate(polynomial.terms, start=1)
    ]
    lines = [heading, *_table([("  " + name, text) for name, text in facts]), "", *_table(table)]
    return "\n".join(_cut(line, WIDTH) for line in lines)


def _facts(rule: Terms, meaning: Meaning) -> list[tuple[str, str]]:
    entries = rule.shape[0] * rule.shape[1] * rule.shape[2]
    filled = _distinct(rule)
    share = f", {100 * filled / entries:.3g} % of the {entries:,} entries of C" if entries else ""
    repeated = f"; {_count(rule.nnz - filled, 'of them repeats', 'of them repeat')} others" * (filled < rule.nnz)
    weights = f", and {_count(rule.num_paths, 'weight')}" if rule.num_paths > 1 else ""
    numbers = sum(rule.shape)
    return [
        *zip(("x1", "x2", "result"), meaning.operands, strict=True),
        ("terms", f"{rule.nnz:,}{share}{repeated}"),
        ("paths", f"{rule.num_paths:,}"),
        ("C", _range(rule.C)),
        ("outputs", _unwritten(rule.mu, rule.shape[2])),
        ("a row", f"{2 * rule.nnz:,} multiply-adds; {numbers:,} numbers, {4 * numbers:,} bytes in float32{weights}"),
    ]


def _paths(rule: Terms, meaning: Meaning) -> list[str]:
    """A table with a line for each path, the middle left out if there are many."""
    names = ["path", "l1 x l2 -> l3", "parity", "rows of x1", "rows of x2", "rows of result", "terms", "C"]
    used = [True, meaning.degrees is not None, meaning.parities is not None, True, True, True, True, True]
    half = _MOST_LINES // 2
    shown = list(range(rule.num_paths))
    if rule.num_paths > _MOST_LINES:
        shown = [*range(half), *range(rule.num_paths - half, rule.num_paths)]
    path, C = rule.path, rule.C
    table = [tuple(names)]
    for number in shown:
        of_path = path == number
        l1, l2, l3 = (0, 0, 0) if meaning.degrees is None else meaning.degrees[number]
        even = meaning.parities is None or meaning.parities[number] == 1
        which = (_slice(column[of_path]) for column in (rule.m1, rule.m2, rule.mu))
        terms = f"{np.count_nonzero(of_path):5,}"
        row = (f"{number:4}", f"{l1} x {l2} -> {l3}", "even" if even else "odd", *which, terms, _range(C[of_path]))
        table.append(row)
    lines = _table([[text for text, use in zip(row, used, strict=True) if use] for row in table])
    if len(shown) < rule.num_paths:
        lines.insert(half + 1, f" ... {rule.num_paths - len(shown):,} more paths ...")
    return lines


def _coupling(rule: Terms) -> str | None:
    """The call of `clebsch_gordan` that makes these terms, if one does."""
    l1, l2, l3 = (n // 2 for n in rule.shape)
    couples = all(n % 2 for n in rule.shape) and abs(l1 - l2) <= l3 <= l1 + l2
    if not couples or rule.num_paths != 1 or l1 + l2 + l3 > _MOST_DEGREES:
        return None
    norms = np.bincount(rule.mu, rule.C**2, minlength=rule.shape[2])
    if not np.allclose(norms, 1, rtol=0, atol=1e-12):
        return None
    dense, call = rule.to_dense(), f"clebsch_gordan({l1}, {l2}, {l3}"
    real = np.zeros(rule.shape)
    for m3, m1, m2, C in real_terms(l1, l2, l3, 1):
        real[m1 + l1, m2 + l2, m3 + l3] = C
    if np.array_equal(dense, LIBRASCAL_OVER_E3NN[(l1 + l2 - l3) % 4] * real):
        return f"{call})"
    if np.array_equal(dense, real):
        return f'{call}, convention="e3nn")'
    standard = np.zeros(rule.shape)
    for m3, m1, m2, C in complex_terms(l1, l2, l3):
        standard[m1 + l1, m2 + l2, m3 + l3] = C
    return f'{call}, basis="complex")' if np.array_equal(dense, standard) else None


def _distinct(rule: Terms) -> int:
    """How many entries of the dense tensor the terms fill."""
    columns = (rule.m1, rule.m2, rule.mu)
    order = np.lexsort(columns)
    steps = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    return int(np.count_nonzero(steps)) + (rule.nnz > 0)


def _unwritten(mu: Array, n_out: int) -> str:
    written = np.unique(mu)
    missing = n_out - len(written)
    if not missing:
        return "each is written" if n_out else "none"
    most = 8
    first = np.setdiff1d(np.arange(min(n_out, len(written) + most)), written)[:most]
    rest = ", ..." if missing > len(first) else ""
    verb = "is" if missing == 1 else "are"
    return f"{missing:,} of {n_out:,} {verb} never written: {', '.join(map(str, first))}{rest}"


def _slice(index: Array) -> str:
    """The rows that occur, as a slice if they are evenly spaced."""
    found = np.unique(index)
    if not len(found):
        return "none"
    first, last = int(found[0]), int(found[-1])
    steps = np.unique(np.diff(found))
    if len(steps) > 1:
        return f"{len(found):,} in {first}:{last + 1}"
    step = int(steps[0]) if len(steps) else 1
    return f"{first}:{last + 1}" + (f":{step}" if step > 1 else "")


def _range(C: Array) -> str:
    if not len(C):
        return "none"
    low, high = f"{C.min():.6g}", f"{C.max():.6g}"
    return low if low == high else f"{low} .. {high}"


def _named(segment: Segment) -> str:
    return str(segment).partition("x")[2]


def _count(n: int, one: str, several: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def _cut(text: str, most: int) -> str:
    """Text of which the middle is left out where it is longer."""
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def _table(rows_of_texts: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows_of_texts, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows_of_texts]
