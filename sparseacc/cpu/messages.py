"""Runs the passes of message passing on NumPy arrays of one real dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..calls.arrays import Array
from ..calls.dtypes import computed_in
from ..graph import Graph
from ..terms import Terms
from . import memory
from ._kernel import ffi, lib
from .matrix import matrix
from .programs import STORED_AS
from .turns import in_turns

_SENDERS_OF_BLOCK = 32
"""Rows of x whose gradients are summed at once. Neighbours send to the same nodes, whose rows are then found in the
cache. It is the same for all rules, so that a graph is sorted once."""
_ROWS_OF_BLOCK = 16
"""Rows of a result that has one an edge."""
_WORK_PER_THREAD, _PARTS_PER_THREAD, _LONG, _LARGE_PART = 4 * 10**6, 8, 10**10, 2 * 10**9
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
    key = column, rows, rows_of_block
    found = graph.kept.get(key)
    if found is None:
        index, real = getattr(graph, column), graph.real_edges()
        blocks = -(-rows // rows_of_block)
        if index is None and real is None:
            begin = np.minimum(np.arange(blocks + 1) * rows_of_block, graph.num_edges)
            found = Order(None, begin, rows_of_block)
        else:
            index = np.arange(graph.num_edges) if index is None else index
            index = index if real is None else index[real]
            order, begin = np.empty(len(index), np.int64), np.empty(blocks + 1, np.int64)
            bad = lib.sa_sort_edges(
                _integers(index), len(index), rows, rows_of_block, _integers(order), _integers(begin)
            )
            if bad >= 0:
                raise AssertionError(f"{column}[{bad}] is out of range")
            order = order if real is None else real[order]
            found = Order(None if np.array_equal(order, np.arange(len(order))) else order, begin, rows_of_block)
        graph.kept[key] = found
    return found


def _integers(array: Array | None) -> Any:
    return ffi.NULL if array is None else ffi.from_buffer("int64_t[]", array)


class Edges:
    """A call of message passing: its rule, graph and arrays, by the names x, y, w, dout, zx, zy and zw; those that are
    None are left out. Without weights w is left out.

    `axis` is that of the components, -1 or -2.
    """

    def __init__(self, rule: Terms, graph: Graph, arrays: Mapping[str, Array], axis: int) -> None:
        self._graph, self._arrays, self._axis = graph, arrays, axis
        x, y = arrays["x"], arrays["y"]
        self._dtype, self._channels = x.dtype, x.shape[-3 - axis]
        self._matrix = matrix(rule, x.dtype)
        self._indices = {"x": graph.senders, "y": graph.rows_of_y, "w": graph.rows_of_weights, "dout": graph.receivers}
        self._real = computed_in(x.dtype.name)
        ones = np.ones(1, x.dtype)
        self._alive: list[Any] = [ones]
        self._inputs = {name: self._rows(name, array) for name, array in arrays.items()}
        if "w" not in arrays:
            self._inputs["w"] = {"data": ffi.from_buffer(ones), "dtype": STORED_AS[x.dtype.name]}
        self._n_out, self._shared_y = rule.shape[2], y.ndim == 2

    def _rows(self, name: str, array: Array) -> dict[str, Any]:
        if name[-1] == "y" and array.ndim == 3 and array.strides[-3 - self._axis] == 0:
            array = array.copy()  # what has no stride from channel to channel is taken for one number for all
        self._alive.append(array)
        component, channel = array.strides[-1], 0
        if array.ndim == 3:
            component, channel = array.strides[self._axis], array.strides[-3 - self._axis]
            if array.shape[-3 - self._axis] == 1:
                channel = array.itemsize
        index = self._indices[name.removeprefix("z").removeprefix("d") if name != "dout" else name]
        return {
            "data": ffi.cast("char *", array.ctypes.data),
            "row": array.strides[0],
            "component": component,
            "channel": channel,
            "index": _integers(index),
            "dtype": STORED_AS[array.dtype.name],
        }

    def result(self, out: Array | None) -> Array:
        """The sums into the rows of receivers; along zx, zy, zw if any is there."""
        if out is None:
            shape = [self._graph.num_nodes, self._channels, self._channels]
            shape[self._axis] = self._n_out
            out = memory.empty(tuple(shape), self._dtype)
        order = _order(self._graph, "receivers", self._graph.num_nodes, self._alone("receivers", 1))
        self._pass(lib.SA_TO_RECEIVERS, 0, order, len(out), {"out": self._rows("dout", out)}, out.nbytes)
        return out

    def gradients(self, wanted: tuple[str, ...], given: Mapping[str, Array]) -> dict[str, Array]:
        """Those of x, y and w that are wanted, by these names; along zx, zy, zw if any is there.

        They are in the arrays that are given for them.
        """
        shapes = {name: self._arrays[name].shape for name in wanted}
        graph, edges = self._graph, self._graph.num_edges
        results = {}
        for name, shape in shapes.items():
            if name == "y" and graph.rows_of_y is not None:
                results[name] = memory.empty((edges, *shape[1:]), self._dtype)
            else:
                results[name] = given[name] if name in given else memory.empty(shape, self._dtype)
        outputs = {f"d{name}": self._rows(f"d{name}", array) for name, array in results.items()}
        apart = "w" in wanted and graph.rows_of_weights is not None
        together = [name for name in wanted if not (name == "w" and apart)]
        bits = sum(_BITS[name] for name in together)
        size = sum(results[name].nbytes for name in together)
        if "x" in wanted:
            rows = shapes["x"][0]
            order = _order(graph, "senders", rows, self._alone("senders", _SENDERS_OF_BLOCK))
            self._pass(lib.SA_TO_SENDERS, bits, order, rows, outputs, size)
        elif together:
            order = _order(graph, "receivers", graph.num_nodes, self._alone("receivers", 1))
            self._pass(lib.SA_TO_EDGES, bits, order, 0, outputs, size)
        if apart:
            rows = shapes["w"][0]
            order = _order(graph, "rows_of_weights", rows, 1)
            self._pass(lib.SA_TO_WEIGHTS, _BITS["w"], order, rows, outputs, results["w"].nbytes)
        real = graph.real_edges()
        if real is not None:
            padding = np.delete(np.arange(edges), real)
            for name in wanted:
                if name == "y" or (name == "w" and not apart):
                    results[name][padding] = 0
        if "y" in wanted and graph.rows_of_y is not None:
            every = slice(None) if real is None else real
            summed = _summed(results["y"][every], graph.rows_of_y[every], shapes["y"][0])
            results["y"] = given.get("y", summed)
            results["y"][...] = summed
        return results

    def _alone(self, column: str, rows_of_block: int) -> int:
        return _ROWS_OF_BLOCK if getattr(self._graph, column) is None else rows_of_block

    def _pass(
        self, kind: int, wanted: int, order: Order, rows: int, outputs: Mapping[str, dict[str, Any]], size: int
    ) -> None:
        blocks = len(order.begin) - 1
        work = self._graph.num_edges * self._matrix.work * self._channels
        threads = min(int(lib.sa_get_threads()), 1 + work // _WORK_PER_THREAD)
        parts = max(1, min(blocks, max(threads * _PARTS_PER_THREAD if threads > 1 else 1, work // _LARGE_PART)))
        cost = order.begin + np.arange(blocks + 1)
        part = np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1)[1:-1])
        part = np.concatenate([[0], part, [blocks]]).astype(np.int64)
        call = ffi.new(
            "sa_messages *",
            {
                "matrix": self._matrix.pointer,
                "pass": kind,
                "wanted": wanted,
                "past_cache": size > _PAST_CACHE,
                "channels": self._channels,
                "rows": rows,
                "rows_of_block": order.rows_of_block,
                "order": _integers(order.order),
                "begin": _integers(order.begin),
                "part": _integers(part),
                **self._inputs,
                **outputs,
            },
        )

        def run(first: int, last: int) -> int:
            return int(lib.sa_pass_messages(call, first, last, threads))

        if in_turns(run, parts) if work > _LONG else run(0, parts):
            raise MemoryError("no memory for the rows of a block of edges")


def _summed(array: Array, index: Array, rows: int) -> Array:
    """The rows of an array added up in their order to those that the index names."""
    columns = array.reshape(len(array), math.prod(array.shape[1:]))
    total = np.empty((rows, columns.shape[1]))
    for k, column in enumerate(columns.T):
        total[:, k] = np.bincount(index, column, rows)
    return total.astype(array.dtype).reshape(rows, *array.shape[1:])
