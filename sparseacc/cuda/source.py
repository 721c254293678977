"""A kernel as text, and what it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import Any, NamedTuple

import numpy.typing as npt

from ..algebra import Operation
from ..terms import Terms, lengths
from . import geometry
from .geometry import Launch
from .operands import STORED, WIDE, Operand

OPTIONS = ("-std=c++17", "--fmad=false")
"""Multiply-adds are written as such; the compiler makes no others."""


class Access(NamedTuple):
    """How an operand is reached (see `operands`), and for outputs whether they are kept in the wide dtype, and which
    dimensions of the batch they sum over within the kernel.
    """

    how: str
    wide: bool = False
    sums: tuple[int, ...] = ()


class Spec(NamedTuple):
    """All that a kernel depends on besides the rule.

    `operation` is restricted to the products that are computed; `dims` counts the dimensions of the batch; `aligned` is
    whether addresses are multiples of the dtype's size; `limit` the shared memory that a block can have.
    For sums: how the threads of a block are split among the dimensions, and which one is gone through turn by turn.
    """

    operation: Operation
    wanted: tuple[bool, ...]
    dtype: str
    accesses: tuple[Access, ...]
    dims: int = 1
    aligned: bool = True
    limit: int = geometry.SHARED
    split: tuple[int, ...] = ()
    turned: int = 0

    def inputs(self) -> tuple[int, ...]:
        """The operation's inputs that are read."""
        return self.operation.reads

    def outputs(self) -> tuple[int, ...]:
        """The operation's outputs that are written."""
        return tuple(o for o, asked in enumerate(self.wanted) if asked)

    def operands(self, rule: Terms) -> list[Operand]:
        """The kernel's operands: inputs, then outputs."""
        stored, sizes = STORED[self.dtype], lengths(rule)
        described = [(*self.operation.inputs[i], False) for i in self.inputs()]
        described += [(self.operation.output_names[o], self.operation.outputs[o], True) for o in self.outputs()]
        return [
            Operand(name, sizes[column], access.how, WIDE[stored.planes] if access.wide else stored, written)
            for (name, column, written), access in zip(described, self.accesses, strict=True)
        ]


@dataclass(frozen=True)
class Source:
    """A kernel as CUDA C++, for NVRTC, nvcc or hiprtc.

    Attributes
    ----------
    code : str
        The source; it includes nothing.
    name : str
        The kernel's name in it (``extern "C"``).
    options : tuple of str
        For the compiler.
    arguments : tuple of str
        What the kernel takes, in this order: arrays; `tables`, if there are any; then 64-bit integers.
    tables : tuple of ndarray
        Constants to be copied to the device once; none for rules of ordinary size.
    rows_per_block, threads, shared_mem, chunks, most_blocks : int
        See `launch`: rows that a block computes at a time, threads of a block, bytes of its dynamic shared memory,
        blocks that share the rule's terms, and how many may share the batch.
    """

    code: str
    name: str
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    tables: tuple[npt.NDArray[Any], ...]
    rows_per_block: int
    threads: int
    shared_mem: int
    chunks: int = 1
    most_blocks: int = 2**31 - 1

    def launch(self, rows: int) -> Launch:
        """The launch geometry for a batch of `rows` rows; with channels last, of that many times the channels.

        Examples
        --------
        >>> sparseacc.cuda.source(sparseacc.clebsch_gordan(2, 2, 2)).launch(1_000_000)
        Launch(grid=(7813, 1), block=(128,), shared_mem=7680)
        """
        blocks = min(-(-rows // self.rows_per_block), self.most_blocks)
        return Launch((blocks, self.chunks), (self.threads,), self.shared_mem)


def write(
    title: str, texts: Iterable[str], kernel: str, aligned: bool, words: dict[str, Any], **lines: Iterable[str]
) -> str:
    """The whole source: a title, the texts that the kernel uses, and the kernel with words and lines filled in.

    Lines stand where their name stands alone on a line.
    """
    source = [f"// {title}", f"#define SPARSEACC_ALIGNED {int(aligned)}", "", *map(_text, texts)]
    return "\n".join([*source, *filled(kernel, words, **lines)])


def filled(text: str, words: dict[str, Any], **lines: Iterable[str]) -> Iterator[str]:
    """The lines of a text with words and lines filled in."""
    for line in _text(text).split("\n"):
        alone = re.fullmatch(r"( *)\$(\w+)", line)
        if alone:
            yield from (alone[1] + each for each in lines[alone[2]])
        else:
            yield Template(line).substitute(words)


@cache
def _text(name: str) -> str:
    return (resources.files(__package__) / "text" / name).read_text()
