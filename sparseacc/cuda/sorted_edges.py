"""Edges in the order in which kernels of message passing go through them, and which outputs a kernel computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..graph import Graph

COLUMNS = {"x": "senders", "y": "rows_of_y", "w": "rows_of_weights", "out": "receivers"}
"""The columns of a graph that name the rows of slots."""

LONG = 1024
"""Edges that are added up one after the other: longer rows are sums of such pieces, which blocks share."""

RUN = 16
"""Edges of a segment where none are added up."""

Index = npt.NDArray[np.int64]


class SortedEdges(NamedTuple):
    """Edges sorted by rows.

    Attributes
    ----------
    begins : ndarray
        Where segments begin in the order, and its end. A segment is a row, a piece of one or, where nothing is added
        up, a run of edges.
    order : ndarray
        The edges.
    rows : dict
        The row of each edge in that order, by slots that have an index.
    pieces : ndarray or None
        Where the segments of each row begin; None if all rows are in one piece.
    """

    begins: Index
    order: Index
    rows: dict[str, Index]
    pieces: Index | None


def indexed(graph: Graph) -> tuple[str, ...]:
    """The slots whose rows the graph names."""
    return tuple(slot for slot, column in COLUMNS.items() if getattr(graph, column) is not None)


def sort_edges(graph: Graph, slot: str | None, rows: int, run: int = RUN) -> SortedEdges:
    """The edges by the rows of a slot, of which there are so many; without one as they are, in runs."""
    columns = {name: getattr(graph, column) for name, column in COLUMNS.items()}
    pieces = None
    if slot is None:
        order = np.arange(graph.num_edges)
        begins = np.append(np.arange(0, graph.num_edges, run), graph.num_edges)
    else:
        order = np.argsort(columns[slot], kind="stable")
        begins, pieces = _cut(np.searchsorted(columns[slot][order], np.arange(rows + 1)))
    return SortedEdges(
        begins, order, {name: index[order] for name, index in columns.items() if index is not None}, pieces
    )


def _cut(begins: Index) -> tuple[Index, Index | None]:
    """Rows that are too long in pieces: where these begin among the edges, and where those of each row among them."""
    numbers = np.maximum(-(-np.diff(begins) // LONG), 1)
    if not numbers.size or numbers.max() == 1:
        return begins, None
    pieces = np.append(0, np.cumsum(numbers))
    within = np.arange(pieces[-1]) - np.repeat(pieces[:-1], numbers)
    return np.append(np.repeat(begins[:-1], numbers) + within * LONG, begins[-1]), pieces


def kernels_for(slots: Iterable[str], graph: Graph) -> list[tuple[str | None, tuple[str, ...]]]:
    """Which outputs are computed together, and the slot by whose rows the edges are sorted for them.

    Those that have a row an edge go along with the first that has not.
    """
    named = indexed(graph)
    sums = [slot for slot in slots if slot in named]
    each = tuple(slot for slot in slots if slot not in named)
    if not sums:
        return [(None, each)] if each else []
    return [(slot, (slot, *(each if slot == sums[0] else ()))) for slot in sums]
