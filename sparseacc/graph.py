"""A graph as a value: which rows the edges of message passing read, and which they add to."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from itertools import compress
from typing import Any, NoReturn, SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from .calls import dlpack
from .calls.arrays import AnyArray, Array, as_index, check_kind, converted, is_cupy, is_foreign, is_on_device
from .calls.plans import Cache
from .checks import no_integers

_MOST = 2**48
"""Rows and edges of which there may not be more: so many times 64 bits can be counted in bytes."""


_MOST_KEPT = 128
"""Of orders and plans: a model has some rules, and some operations of each."""


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
        Rows of the result. By default one more than the largest receiver; without receivers, the number of edges. Where
        the indices are JAX's, edges whose receiver is num_nodes are padding, and count for nothing.
    rows_of_y : array_like of int, shape (num_edges,), optional
        The row of y that each edge reads, where edges share them. By default y has one row an edge.
    rows_of_weights : array_like of int, shape (num_edges,), optional
        The row of the weights that each edge reads, where edges share them. By default weights have one row an edge.

    Attributes
    ----------
    num_edges, num_nodes : int
        The numbers of edges and of rows of the result.
    senders, receivers, rows_of_y, rows_of_weights : ndarray of int64, shape (num_edges,), or None
        The indices, as read-only views.
    device : int or None
        The number of the GPU that the indices came from; None: the host.
    padded : bool
        Whether there are edges that count for nothing.

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
    >>> graph.senders.tolist(), graph.receivers.tolist(), graph.rows_of_y
    ([0, 0, 2], [1, 2, 1], None)
    """

    num_edges: int
    num_nodes: int
    device: int | None
    padded: bool
    kept: dict[Any, Any]
    _columns: tuple[Any, ...]
    __slots__ = {  # noqa: RUF023 - with what `help` shows
        "num_edges": "The number of edges.",
        "num_nodes": "The number of rows of the result.",
        "device": "The number of the GPU that the indices came from; None: the host.",
        "padded": "Whether there are edges whose receiver is num_nodes, which are none: of JAX's arrays alone.",
        "kept": "What engines have made of it: not a part of the value.",
        "_columns": "senders, receivers, rows_of_y and rows_of_weights: bytes, which nobody can change; or, in a graph "
        "that JAX has made of the leaves of one, whatever they are.",
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
        columns = senders, receivers, rows_of_y, rows_of_weights
        jax = sys.modules.get("jax")
        kind = getattr(jax, "Array", ())  # not there while another thread imports JAX
        of_jax = any(isinstance(column, kind) for column in columns)
        if of_jax and any(isinstance(column, cast(Any, jax).core.Tracer) for column in columns):
            self._fill_unseen(columns, num_nodes)
        else:
            self._fill(columns, num_nodes, of_jax)

    def _fill_unseen(self, columns: tuple[Any, ...], num_nodes: Any) -> None:
        """Of columns that nobody can look at before they are computed, which sparseacc.jax does then."""
        lengths = [shape[0] for shape in (getattr(column, "shape", ()) for column in columns) if shape]
        _set(
            self,
            num_edges=lengths[0] if lengths else 0,
            num_nodes=num_nodes,
            device=None,
            padded=False,
            kept={},
            _columns=columns,
        )

    def _fill(self, columns: tuple[Any, ...], num_nodes: SupportsIndex | None, may_be_padded: bool) -> None:
        named = dict(zip(COLUMNS, columns, strict=True))
        given: dict[str, Array] = {}
        devices: dict[int | None, str] = {}
        for name, values in named.items():
            if values is not None:
                given[name], device = row_indices(values, name)
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
        receivers = given.get("receivers")
        if receivers is None:
            if nodes not in (None, edges):
                raise ValueError(f"num_nodes is {nodes}, but without receivers the result has one row an edge: {edges}")
            nodes = edges
        elif nodes is None:
            nodes = int(receivers.max()) + 1 if edges else 0
        padding = receivers == nodes if may_be_padded and receivers is not None else np.zeros(edges, bool)
        for name, array in given.items():
            most = nodes if name == "receivers" else _MOST
            bad = np.flatnonzero(((array < 0) | (array >= most)) & ~padding)
            if len(bad):
                first = array[bad[0]]
                needed = f"be between 0 and {most - 1}" if first >= most else "not be negative"
                if name == "receivers":
                    needed = f"be between 0 and {most - 1} (num_nodes is {most}{', which is padding' * may_be_padded})"
                    needed += _of_receivers(array, given.get("senders"), nodes) * bool(first >= most)
                raise ValueError(f"{name}[{bad[0]}] is {first}, but must {needed}")
        _set(
            self,
            num_edges=edges,
            num_nodes=nodes,
            device=next(iter(devices)),
            padded=bool(padding.any()),
            kept={},
            _columns=tuple(given[name].astype(np.int64).tobytes() if name in given else None for name in COLUMNS),
        )

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

    def describe(self) -> str:
        """What the graph is, in words: its edges, how many of them a node receives, their order, and their indices.

        Returns
        -------
        str
            Of short lines.

        Raises
        ------
        TypeError
            If the indices are not known yet, as in a function that JAX traces.

        Examples
        --------
        >>> print(sparseacc.Graph([0, 0, 2], [1, 2, 1]).describe())
        Graph
          edges            3, of which 0 lead from a node to itself
          nodes            3, of which 1 receives nothing
          edges of a node  0 .. 2, 1 on average
          order            not by receiver: they are sorted when the graph is first used
          senders          2 rows, 0 .. 2
          receivers        2 rows, 1 .. 2
          rows_of_y        each edge has a row of its own
          rows_of_weights  each edge has a row of its own
          indices from     the host
        """
        if not self.is_seen:
            raise TypeError("the graph's indices are not known yet: describe it outside of functions that JAX traces")
        real = self.real_edges()
        columns = {name: getattr(self, name) for name in COLUMNS}
        columns = {n: c if c is None or real is None else c[real] for n, c in columns.items()}
        edges = self.num_edges if real is None else len(real)
        senders, receivers = columns["senders"], columns["receivers"]
        own = np.count_nonzero(senders == receivers) if senders is not None and receivers is not None else 0
        degrees = np.unique(receivers, return_counts=True)[1] if receivers is not None else np.ones(edges, int)
        none = self.num_nodes - len(degrees)
        fewest = 0 if none else degrees.min(initial=edges)
        mean = edges / self.num_nodes if self.num_nodes else 0
        padding = f", and {self.num_edges - edges:,} of padding" if edges < self.num_edges else ""
        is_sorted = receivers is None or bool(np.all(receivers[1:] >= receivers[:-1]))
        facts = {
            "edges": f"{edges:,}, of which {own:,} lead{'s' * bool(own == 1)} from a node to itself{padding}",
            "nodes": f"{self.num_nodes:,}, of which {none:,} receive{'s' * (none == 1)} nothing",
            "edges of a node": f"{fewest:,} .. {degrees.max(initial=0):,}, {mean:.3g} on average",
            "order": f"{'' if is_sorted else 'not '}by receiver"
            + (": they are sorted when the graph is first used" if not is_sorted else ""),
            **{name: _rows_in_words(column) for name, column in columns.items()},
            "indices from": "the host" if self.device is None else f"GPU {self.device}",
        }
        return "\n".join(["Graph", *(f"  {name:15}  {text}" for name, text in facts.items())])

    def keep(self, key: Any, value: Any) -> Any:
        """Keeps what has been made of it, and returns it: what has a name for as long as the graph is there, of the
        rest, whose keys are tuples, the newest.
        """
        self.kept[key] = value
        if len(self.kept) > _MOST_KEPT:
            oldest = next((key for key in list(self.kept) if isinstance(key, tuple)), None)
            self.kept.pop(oldest, None)
        return value

    def real_edges(self) -> Array | None:
        """The edges that are no padding; None: all."""
        if not self.padded:
            return None
        real: Array | None = self.kept.get("real")
        if real is None:
            real = self.keep("real", np.flatnonzero(cast(Array, self.receivers) < self.num_nodes))
        return real

    def first_beyond(self, column: str, rows: int) -> int | None:
        """The first edge whose index in a column is not one of so many rows, None if all are."""
        largest, real = self.kept.get(column), self.real_edges()
        if largest is None:
            index = getattr(self, column)
            largest = self.keep(column, int((index if real is None else index[real]).max(initial=-1)))
        if largest < rows:
            return None
        beyond = np.flatnonzero(getattr(self, column) >= rows)
        return int(beyond[0] if real is None else np.intersect1d(beyond, real)[0])

    def _column(self, n: int) -> npt.NDArray[np.int64] | None:
        column = self._columns[n]
        return np.frombuffer(column, np.int64) if isinstance(column, bytes) else cast(Any, column)

    @property
    def is_seen(self) -> bool:
        """Whether it is a value, not what JAX has of one while it traces a function."""
        return all(column is None or isinstance(column, bytes) for column in self._columns)

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = [getattr(self, name) for name in COLUMNS]
        return _restored, (arrays, self.num_nodes, self.padded, self.device)

    def __repr__(self) -> str:
        given = [column is not None for column in self._columns]
        more = [f", {name}=None" for name in compress(COLUMNS[:2], map(operator.not_, given))]
        more += [f", {name}=[...]" for name in compress(COLUMNS[2:], given[2:])]
        more += [", padded=True"] * self.padded + [f", device={self.device}"] * (self.device is not None)
        return f"Graph(num_edges={self.num_edges}, num_nodes={self.num_nodes}{''.join(more)})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Graph is immutable: make a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Graph is immutable: {name!r} cannot be deleted")


def _of_receivers(receivers: Array, senders: Array | None, num_nodes: int) -> str:
    """What may have been meant by receivers that are not below num_nodes."""
    needed = int(receivers.max()) + 1
    larger = f": pass num_nodes={needed} or more" if needed <= _MOST else ""
    exchanged = senders is not None and int(senders.max()) < num_nodes
    return larger + (", or are senders and receivers exchanged?" if exchanged else "")


def _rows_in_words(index: Array | None) -> str:
    if index is None:
        return "each edge has a row of its own"
    if not len(index):
        return "no rows"
    found = len(np.unique(index))
    return f"{found:,} row{'s' * (found > 1)}, {index.min():,} .. {index.max():,}"


COLUMNS = ("senders", "receivers", "rows_of_y", "rows_of_weights")


def graph_of(columns: Sequence[Array | None], num_nodes: int, may_be_padded: bool = False) -> Graph:
    """The graph of index arrays that come anew with every call, in the order of COLUMNS.

    The last ones are kept, and found by what they hold: comparing takes less than sorting, and nothing that is changed
    afterwards is taken for what it was.
    """
    for graph in reversed(list(_recent.values())):
        kept = [getattr(graph, name) for name in COLUMNS]
        if graph.num_nodes == num_nodes and graph.padded <= may_be_padded and all(map(_same, columns, kept)):
            return graph
    graph = _restored(columns, num_nodes, may_be_padded)
    return _recent.add(id(graph), graph)


def _same(column: Array | None, kept: Array | None) -> bool:
    if column is None or kept is None:
        return column is kept
    return column.dtype.kind in "iu" and column.shape == kept.shape and np.array_equal(column, kept)


_recent: Cache[Graph] = Cache(
    "graphs", 8, 2**28, lambda graph: 2 * sum(len(column or b"") for column in graph._columns)
)


def _restored(columns: Sequence[Any], num_nodes: int, padded: bool, device: int | None = None) -> Graph:
    if len(columns) != len(COLUMNS) or not isinstance(padded, bool):
        raise ValueError(f"a graph is made of {len(COLUMNS)} columns, not of {len(columns)}, and padded is {padded!r}")
    graph = object.__new__(Graph)
    graph._fill(tuple(columns), num_nodes, padded)
    if device is not None:  # of arrays that were on a GPU; a graph keeps its indices on the host
        if as_index(device, "device") < 0:
            raise ValueError(f"device is {device}, but must not be negative")
        _set(graph, device=device)
    return graph


def of_leaves(columns: Sequence[Any], num_nodes: int) -> Graph:
    """A graph with anything in the place of its columns, as trees of JAX need it."""
    graph = object.__new__(Graph)
    graph._fill_unseen(tuple(columns), num_nodes)
    return graph


def _set(graph: Graph, **slots: Any) -> None:
    for slot, value in slots.items():
        object.__setattr__(graph, slot, value)


def row_indices(values: AnyArray, name: str) -> tuple[Array, int | None]:
    """One integer for each edge, on the host, and the GPU that they came from."""
    device = None
    check_kind(values, name)
    if is_cupy(values) or is_on_device(values) or (is_foreign(values) and dlpack.is_on_gpu(values, name)):
        on_device = values if is_cupy(values) else dlpack.as_cupy(values, name)
        device, array = int(cast(Any, on_device).device.id), cast(Any, on_device).get()
    else:
        array = dlpack.read(values, name) if is_foreign(values) else converted(cast("npt.ArrayLike", values), name)
    if array.ndim != 1:
        is_pair = name == "senders" and array.shape[:1] == (2,)
        raise ValueError(
            f"{name} must be 1-D, one entry for each edge, but its shape is {array.shape}"
            + (": make Graph(*senders) of its two rows, if these are senders and receivers" if is_pair else "")
        )
    if array.size == 0:
        return np.zeros(0, np.int64), device
    if array.dtype.kind not in "iu":
        raise no_integers(array, name)
    return array.copy(), device  # what is checked is what is kept, whatever other threads write
