"""A graph as a value: which rows the edges of message passing read, and which they add to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from .calls import dlpack
from .calls.arrays import AnyArray, Array, as_index, check_kind, converted, is_cupy, is_foreign, is_on_device
from .calls.plans import Cache

_MOST = 2**48
"""Rows and edges of which there may not be more: so many times 64 bits can be counted in bytes."""


class Graph:
    """The edges of message passing: edge e reads row ``senders[e]`` of x and adds to row ``receivers[e]``.

    Checked once, and sorted once when it is first used; immutable and picklable. Edges may be in any order, repeat, and
    lead from a node to itself. An order that is already by receiver is faster.

    Parameters
    ----------
    senders : array_like of int, shape (num_edges,), or None
        The row of x that each edge reads. None: x has one row an edge.
    receivers : array_like of int, shape (num_edges,), or None
        The row of the result that each edge adds to. None: the result has one row an edge.
    num_nodes : int, optional
        Rows of the result. By default one more than the largest receiver; without receivers, the number of edges.
    rows_of_y : array_like of int, shape (num_edges,), optional
        The row of y that each edge reads, where edges share them. By default y has one row an edge.
    rows_of_weights : array_like of int, shape (num_edges,), optional
        The row of the weights that each edge reads, where edges share them. By default weights have one row an edge.

    Raises
    ------
    TypeError
        If indices are not integers, or arrays of two devices.
    ValueError
        If lengths differ, an array is not 1-D, an index is negative or a receiver is not below num_nodes; if no array
        is given, so that nothing says how many edges there are.

    Examples
    --------
    Two edges lead from node 0 to the nodes 1 and 2, and one from 2 to 1:

    >>> graph = sparseacc.Graph([0, 0, 2], [1, 2, 1])
    >>> graph
    Graph(num_edges=3, num_nodes=3)
    """

    num_edges: int
    num_nodes: int
    device: int | None
    kept: dict[Any, Any]
    _columns: tuple[bytes | None, bytes | None, bytes | None, bytes | None]
    __slots__ = {  # noqa: RUF023 - with what `help` shows
        "num_edges": "The number of edges.",
        "num_nodes": "The number of rows of the result.",
        "device": "The number of the GPU that the indices came from; None: the host.",
        "kept": "What engines have made of it: not a part of the value.",
        "_columns": "senders, receivers, rows_of_y and rows_of_weights: bytes, which nobody can change.",
        "__weakref__": None,
    }

    def __init__(
        self,
        senders: AnyArray | None,
        receivers: AnyArray | None,
        num_nodes: SupportsIndex | None = None,
        *,
        rows_of_y: AnyArray | None = None,
        rows_of_weights: AnyArray | None = None,
    ) -> None:
        if hasattr(self, "_columns"):
            raise TypeError("a Graph is immutable: make a new one instead of calling __init__ again")
        named = dict(zip(COLUMNS, (senders, receivers, rows_of_y, rows_of_weights), strict=True))
        given: dict[str, Array] = {}
        devices: dict[int | None, str] = {}
        for name, values in named.items():
            if values is not None:
                given[name], device = _indices(values, name)
                devices.setdefault(device, name)
        if not given:
            raise ValueError(
                "senders, receivers, rows_of_y and rows_of_weights are all None: how many edges are there?"
            )
        if len(devices) > 1:
            where = " and ".join(f"{n} on {'the host' if d is None else f'GPU {d}'}" for d, n in devices.items())
            raise ValueError(f"indices on two devices, {where}: move one of them first")
        first = next(iter(given))
        edges = len(given[first])
        for name, array in given.items():
            if len(array) != edges:
                raise ValueError(f"{first} has {edges} entries and {name} {len(array)}: each needs one for every edge")
        nodes = None if num_nodes is None else as_index(num_nodes, "num_nodes")
        if nodes is not None and not 0 <= nodes < _MOST:
            raise ValueError(f"num_nodes is {nodes}, but must be between 0 and 2**48 - 1")
        if receivers is None:
            if nodes not in (None, edges):
                raise ValueError(f"num_nodes is {nodes}, but without receivers the result has one row an edge: {edges}")
            nodes = edges
        elif nodes is None:
            nodes = int(given["receivers"].max(initial=-1)) + 1
        for name, array in given.items():
            most = nodes if name == "receivers" else _MOST
            bad = np.flatnonzero((array < 0) | (array >= most))
            if len(bad):
                reason = "num_nodes" if name == "receivers" else "at most"
                raise ValueError(
                    f"{name}[{bad[0]}] is {array[bad[0]]}, but must be between 0 and {most - 1} ({reason} is {most})"
                )
        columns = tuple(given[name].astype(np.int64).tobytes() if name in given else None for name in COLUMNS)
        for slot, value in (
            ("num_edges", edges),
            ("num_nodes", nodes),
            ("device", next(iter(devices))),
            ("kept", {}),
            ("_columns", columns),
        ):
            object.__setattr__(self, slot, value)

    @property
    def senders(self) -> npt.NDArray[np.int64] | None:
        """The row of x that each edge reads, shape (num_edges,): a read-only view; None: its own."""
        return self._column(0)

    @property
    def receivers(self) -> npt.NDArray[np.int64] | None:
        """The row of the result that each edge adds to, shape (num_edges,): a read-only view; None: its own."""
        return self._column(1)

    @property
    def rows_of_y(self) -> npt.NDArray[np.int64] | None:
        """The row of y that each edge reads, shape (num_edges,): a read-only view; None: its own."""
        return self._column(2)

    @property
    def rows_of_weights(self) -> npt.NDArray[np.int64] | None:
        """The row of the weights that each edge reads, shape (num_edges,): a read-only view; None: its own."""
        return self._column(3)

    def most(self, column: str) -> int:
        """The largest index in a column, -1 if it has none."""
        if column not in self.kept:
            self.kept[column] = int(getattr(self, column).max(initial=-1))
        largest: int = self.kept[column]
        return largest

    def _column(self, n: int) -> npt.NDArray[np.int64] | None:
        column = self._columns[n]
        return None if column is None else np.frombuffer(column, np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = [getattr(self, name) for name in COLUMNS]
        return _restored, (*arrays[:2], self.num_nodes, *arrays[2:])

    def __repr__(self) -> str:
        return f"Graph(num_edges={self.num_edges}, num_nodes={self.num_nodes})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Graph is immutable: make a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Graph is immutable: {name!r} cannot be deleted")


COLUMNS = ("senders", "receivers", "rows_of_y", "rows_of_weights")


def graph_of(columns: Sequence[Array | None], num_nodes: int) -> Graph:
    """The graph of index arrays that come anew with every call, in the order of COLUMNS.

    The last ones are kept, and found by what they hold: comparing takes less than sorting, and nothing that is changed
    afterwards is taken for what it was.
    """
    for graph in reversed(list(_recent.values())):
        kept = [getattr(graph, name) for name in COLUMNS]
        if graph.num_nodes == num_nodes and all(map(_same, columns, kept)):
            return graph
    senders, receivers, rows_of_y, rows_of_weights = columns
    graph = Graph(senders, receivers, num_nodes, rows_of_y=rows_of_y, rows_of_weights=rows_of_weights)
    return _recent.add(id(graph), graph)


def _same(column: Array | None, kept: Array | None) -> bool:
    if column is None or kept is None:
        return column is kept
    return column.dtype.kind in "iu" and column.shape == kept.shape and np.array_equal(column, kept)


_recent: Cache[Graph] = Cache(
    "graphs", 8, 2**28, lambda graph: 2 * sum(len(column or b"") for column in graph._columns)
)


def _restored(senders: Any, receivers: Any, num_nodes: int, rows_of_y: Any, rows_of_weights: Any) -> Graph:
    return Graph(senders, receivers, num_nodes, rows_of_y=rows_of_y, rows_of_weights=rows_of_weights)


def _indices(values: AnyArray, name: str) -> tuple[Array, int | None]:
    """One integer for each edge, on the host, and the GPU that they came from."""
    device = None
    check_kind(values, name)
    if is_cupy(values) or is_on_device(values) or (is_foreign(values) and dlpack.is_on_gpu(values, name)):
        on_device = values if is_cupy(values) else dlpack.as_cupy(values, name)
        device, array = int(cast(Any, on_device).device.id), cast(Any, on_device).get()
    else:
        array = dlpack.read(values, name) if is_foreign(values) else converted(cast("npt.ArrayLike", values), name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one entry for each edge, but its shape is {array.shape}")
    if array.size == 0:
        return np.zeros(0, np.int64), device
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, but its dtype is {array.dtype} ({name}[0] is {array[0]!r})")
    return array, device
