"""Irreps as text and as segments: which representations of O(3) an array holds, how often, and in which order."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

Irreps: TypeAlias = str | Iterable[Any]
"""Text, or pairs (mul, ir) where ir has .l and .p."""

_TERM = re.compile(r"(?:([0-9]{1,9})\s*x\s*)?([0-9]{1,9})([eoy])")


class Segment(NamedTuple):
    """So many copies of the irrep of a degree l and a parity, 1 or -1."""

    mul: int
    degree: int
    parity: int

    @property
    def dim(self) -> int:
        """The number of components of one copy, 2 l + 1."""
        return 2 * self.degree + 1

    def __str__(self) -> str:
        return f"{self.mul}x{self.degree}{'e' if self.parity == 1 else 'o'}"


def as_segments(irreps: Irreps, name: str) -> tuple[Segment, ...]:
    """The segments of irreps in any form that a user may pass, in their order."""
    if isinstance(irreps, str):
        return tuple(_of_text(term, name) for term in irreps.split("+")) if irreps.strip() else ()
    if hasattr(type(irreps), "__dlpack__"):
        numbers: Any = irreps
        if getattr(numbers.dtype, "kind", "") != "O":
            raise TypeError(
                f"{name} must be text, such as '8x0e + 8x1o', or pairs (mul, ir), but is an array of shape "
                f"{tuple(numbers.shape)}: are arguments exchanged?"
            )
    try:
        entries = list(irreps)
    except Exception as error:
        raise TypeError(
            f"{name} must be text, such as '8x0e + 8x1o', or pairs (mul, ir), but is {irreps!r} "
            f"({type(irreps).__name__})"
        ) from error
    return tuple(_of_pair(entry, f"{name}[{i}]") for i, entry in enumerate(entries))


def _of_text(term: str, name: str) -> Segment:
    match = _TERM.fullmatch(term.strip())
    if not match:
        raise ValueError(
            f"{name}: {term.strip()!r} is no irrep: write multiplicity, x, degree and parity (e or o), joined by +, "
            "such as '8x0e + 8x1o'"
        )
    mul, degree, parity = match.groups()
    even = parity == "e" or (parity == "y" and int(degree) % 2 == 0)
    return Segment(1 if mul is None else int(mul), int(degree), 1 if even else -1)


def _of_pair(entry: Any, name: str) -> Segment:
    try:
        mul, ir = entry
        segment = Segment(operator.index(mul), operator.index(ir.l), operator.index(ir.p))
    except Exception as error:
        raise TypeError(f"{name} must be a pair (mul, ir) where ir has .l and .p, but is {entry!r}") from error
    for what, value, allowed in (
        ("multiplicity", segment.mul, segment.mul >= 0),
        ("degree", segment.degree, segment.degree >= 0),
        ("parity", segment.parity, segment.parity in (1, -1)),
    ):
        if not allowed:
            raise ValueError(
                f"{name} has {what} {value}, but must {'be 1 or -1' if what == 'parity' else 'not be negative'}"
            )
    return segment


def as_text(segments: Iterable[Segment]) -> str:
    """Segments in e3nn's notation."""
    return "+".join(map(str, segments))


def common_channels(*of: Sequence[Segment]) -> int:
    """The greatest common divisor of all multiplicities; 1 if there are none."""
    return math.gcd(*(segment.mul for segments in of for segment in segments)) or 1


def rows(segment: Segment, channels: int) -> int:
    """How many rows a segment has in an array of so many channels."""
    return segment.dim * (segment.mul // channels)
