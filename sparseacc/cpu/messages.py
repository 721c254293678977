"""Runs the passes of message passing on NumPy arrays of one real dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..calls.arrays import Array
from ..calls.layout import c_strides
from ..graph import Graph
from ..terms import Terms
from . import memory
from ._kernel import ffi, lib
from .execution import pointer
from .matrix import matrix
from .programs import STORED_AS
from .turns import in_turns

_SENDERS_OF_BLOCK = 32
"""Rows of x whose gradients are summed at once. Neighbours send to the same nodes, whose rows are then found in the
cache. It is the same for all rules, so that a graph is sorted once."""
_ROWS_OF_BLOCK = 16
"""Rows of a result that has one an edge."""
_WORK_PER_THREAD, _PARTS_PER_THREAD, _LONG, _LARGE_PART = 4 * 10**6, 8, 10**9, 2 * 10**8
"""Multiply-adds that are worth a thread more, and parts for each; of a call that is done in turns, and of its parts."""
_PAST_CACHE = 2**24
"""Bytes of a result that would not be found in a cache later, and is not put there."""
_BITS = {"x": 1, "y": 2, "w": 4}


class Order(NamedTuple):
    """Edges sorted by blocks of rows: their order (None: as they are), and where each block begins."""

    order: Array | None
    begin: Array
    rows_of_block: int


def _order(graph: Graph, column: str, rows: int, rows_of_block: int) -> Order:
    """The edges by the rows in a column of the graph, of which there are so many; sorted once."""
    rows_of_block = max(1, min(rows_of_block, rows))
    key = column, rows, rows_of_block
    found: Order | None = graph.kept.get(key)
    if found is not None:
        return found
    index, real = getattr(graph, column), graph.real_edges()
    blocks = -(-rows // rows_of_block)
    if index is None and real is None:
        begin = np.minimum(np.arange(blocks + 1) * rows_of_block, graph.num_edges)
        found = Order(None, begin, rows_of_block)
    else:
        index = np.arange(graph.num_edges) if index is None else index
        index = index if real is None else index[real]
        order, begin = np.empty(len(index), np.int64), np.empty(blocks + 1, np.int64)
        bad = lib.sa_sort_edges(_integers(index), len(index), rows, rows_of_block, _integers(order), _integers(begin))
        if bad >= 0:
            raise AssertionError(f"{column}[{bad}] is out of range")
        order = order if real is None else real[order]
        found = Order(None if np.array_equal(order, np.arange(len(order))) else order, begin, rows_of_block)
    graph.keep(key, found)
    return found


def _integers(array: Array | None) -> Any:
    return ffi.NULL if array is None else ffi.from_buffer("int64_t[]", array)


INPUTS = ("x", "y", "w", "dout", "zx", "zy", "zw")
"""Of a call of message passing, in the order of `sa_messages`: w are the weights. All but x and y may be None."""
_OPERANDS = (*INPUTS, "out", "dx", "dy", "dw")


def _block(index: Array | None, rows: int) -> int:
    """Rows of a block: so many, or as suits a result that has one row an edge."""
    return _ROWS_OF_BLOCK if index is None else rows


class Plan:
    """Everything about a call that does not depend on addresses: a pass, or two."""

    def __init__(
        self,
        wanted: tuple[str, ...],
        rule: Terms,
        graph: Graph,
        axis: int,
        arrays: Mapping[str, Array],
        outs: Mapping[str, Array],
    ) -> None:
        x = arrays["x"]
        self._axis, self._dtype, self._num_edges = axis, x.dtype, graph.num_edges
        self._real = graph.real_edges()
        self._channels = x.shape[-3 - axis]
        self._matrix = matrix(rule, x.dtype)
        self._ones = None if "w" in arrays else np.ones((rule.num_paths, self._channels), x.dtype)
        indices = (graph.senders, graph.rows_of_y, graph.rows_of_weights, graph.receivers)
        self._index = dict(zip("xywo", indices, strict=True))
        self._inputs = {name: self._rows(name, a.shape, a.strides) for name, a in arrays.items()}
        shape = [graph.num_nodes, self._channels, self._channels]
        shape[axis] = rule.shape[2]
        self._shapes = {name: tuple(shape) if name == "out" else arrays[name].shape for name in wanted}
        given = {name: out.strides for name, out in outs.items()}
        written = {
            name: self._rows("out" if name == "out" else f"d{name}", s, given.get(name, c_strides(s, self._dtype)))
            for name, s in self._shapes.items()
        }
        self._passes: list[tuple[Any, int, int, bool, list[Any]]] = []
        self._of_edges: list[str] = []
        if "out" in wanted:
            order = _order(graph, "receivers", graph.num_nodes, _block(graph.receivers, 1))
            self._add(lib.SA_TO_RECEIVERS, (), order, graph.num_nodes, written)
        else:
            self._add_gradients(graph, written)

    def _rows(self, name: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, Any]:
        component, channel = strides[-1], 0
        if len(shape) == 3:
            component, channel = strides[self._axis], strides[-3 - self._axis]
            if shape[-3 - self._axis] == 1:
                channel = self._dtype.itemsize
        index = self._index["o" if "out" in name else name[-1]]
        return {
            "row": strides[0],
            "component": component,
            "channel": channel,
            "index": _integers(index),
            "dtype": STORED_AS[self._dtype.name],
        }

    def _add_gradients(self, graph: Graph, written: Mapping[str, dict[str, Any]]) -> None:
        shapes = self._shapes
        columns = {"w": "rows_of_weights", "y": "rows_of_y"}
        apart = [name for name, column in columns.items() if name in shapes and getattr(graph, column) is not None]
        together = tuple(name for name in shapes if name not in apart)
        if "x" in shapes:
            rows = shapes["x"][0]
            order = _order(graph, "senders", rows, _block(graph.senders, _SENDERS_OF_BLOCK))
            self._add(lib.SA_TO_SENDERS, together, order, rows, written)
        elif together:
            order = _order(graph, "receivers", graph.num_nodes, _block(graph.receivers, 1))
            self._add(lib.SA_TO_EDGES, together, order, 0, written)
        for name in apart:
            rows, kind = shapes[name][0], {"w": lib.SA_TO_WEIGHTS, "y": lib.SA_TO_Y}[name]
            self._add(kind, (name,), _order(graph, columns[name], rows, 1), rows, written)
        self._of_edges = [name for name in together if name != "x"]

    def _add(
        self, kind: int, wanted: tuple[str, ...], order: Order, rows: int, written: Mapping[str, dict[str, Any]]
    ) -> None:
        blocks = len(order.begin) - 1
        work = self._num_edges * self._matrix.work * self._channels
        threads = min(int(lib.sa_get_threads()), 1 + work // _WORK_PER_THREAD)
        parts = max(1, min(blocks, max(threads * _PARTS_PER_THREAD if threads > 1 else 1, work // _LARGE_PART)))
        cost = order.begin + np.arange(blocks + 1)
        ends = np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1)[1:-1])
        part = np.concatenate([[0], ends, [blocks]]).astype(np.int64)
        operands = {**self._inputs, **{name if name == "out" else f"d{name}": o for name, o in written.items()}}
        if self._ones is not None:
            component, channel = self._ones.strides
            operands["w"] = {"component": component, "channel": channel, "dtype": STORED_AS[self._dtype.name]}
        size = sum(math.prod(self._shapes[name]) for name in wanted or ("out",)) * self._dtype.itemsize
        call = ffi.new(
            "sa_messages *",
            {
                "matrix": self._matrix.pointer,
                "pass": kind,
                "wanted": sum(_BITS[name] for name in wanted),
                "past_cache": size > _PAST_CACHE,
                "channels": self._channels,
                "rows": rows,
                "rows_of_block": order.rows_of_block,
                "order": _integers(order.order),
                "begin": _integers(order.begin),
                "part": _integers(part),
                "rows_of": [operands.get(name, {}) for name in _OPERANDS],
            },
        )
        self._passes.append((call, parts, threads, work > _LONG, [order, part]))

    def run(self, arrays: Mapping[str, Array | None], outs: Mapping[str, Array]) -> dict[str, Array]:
        """What is wanted, by name, in the arrays that are given for it; `arrays` have the names of INPUTS."""
        results = {
            name: outs[name] if name in outs else memory.empty(shape, self._dtype)
            for name, shape in self._shapes.items()
        }
        if not self._channels:
            for result in results.values():
                result[...] = 0
            return results
        data = [ffi.NULL if a is None else pointer(a) for a in map(arrays.get, INPUTS)]
        if self._ones is not None:
            data[2] = ffi.from_buffer(self._ones)
        written = {name: pointer(array) for name, array in results.items()}
        data += [written.get(name, ffi.NULL) for name in ("out", "x", "y", "w")]
        for call, parts, threads, long, _ in self._passes:

            def run(first: int, last: int, call: Any = call, threads: int = threads) -> int:
                return int(lib.sa_pass_messages(call, data, first, last, threads))

            if in_turns(run, parts) if long else run(0, parts):
                raise MemoryError("no memory for the rows of a block of edges")
        if self._real is not None:
            padding = np.delete(np.arange(self._num_edges), self._real)
            for name in self._of_edges:
                results[name][padding] = 0
        return results


def known(wanted: tuple[str, ...], rule: Terms, graph: Graph, axis: int, arrays: Mapping[str, Any]) -> Plan | None:
    """The plan of a call that was made before, of NumPy arrays or None; else None."""
    found: Plan | None = graph.kept.get(_key(wanted, rule, axis, arrays))
    return found


def _key(wanted: tuple[str, ...], rule: Terms, axis: int, arrays: Mapping[str, Any]) -> Any:
    """All that a plan depends on; None if something is no NumPy array."""
    key: list[Any] = [wanted, rule._digest, axis, lib.sa_get_threads()]
    for value in arrays.values():
        if type(value) is np.ndarray:
            key += (value.shape, value.strides, value.dtype)
        elif value is None:
            key.append(None)
        else:
            return None
    return tuple(key)


class Edges:
    """A call of message passing: its rule, graph and arrays of one dtype, by the names of INPUTS; those that are None
    are left out.

    `axis` is that of the components, -1 or -2.
    """

    def __init__(self, rule: Terms, graph: Graph, arrays: Mapping[str, Array], axis: int) -> None:
        self._rule, self._graph, self._axis = rule, graph, axis
        self._arrays = {name: self._apart(array) if name[-1] == "y" else array for name, array in arrays.items()}

    def _apart(self, y: Array) -> Array:
        """A y with channels has a stride from one to the next: without, it would be taken for one number for all."""
        return y.copy() if y.ndim == 3 and y.strides[-3 - self._axis] == 0 else y

    def solved(self, wanted: tuple[str, ...], outs: Mapping[str, Array]) -> dict[str, Array]:
        """The sums into the rows of receivers (out), or the gradients of some of x, y and w, by these names; along zx,
        zy, zw if any is there. They are in the arrays that are given for them.
        """
        if not wanted:
            return {}
        arrays = {name: self._arrays.get(name) for name in INPUTS}
        given = {name: outs[name] for name in wanted if name in outs}
        as_made = all(out.flags.c_contiguous for out in given.values())
        key = _key(wanted, self._rule, self._axis, arrays) if as_made else None
        plan: Plan | None = self._graph.kept.get(key) if key else None
        if plan is None:
            plan = Plan(wanted, self._rule, self._graph, self._axis, self._arrays, given)
            if key:
                self._graph.keep(key, plan)
        return plan.run(arrays, given)
