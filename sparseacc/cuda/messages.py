"""Runs the passes of message passing on CuPy arrays of one real dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cupy
import numpy as np

from ..calls import arrays as host
from ..calls.dtypes import check_dtype, computed_in
from ..calls.plans import Cache
from ..graph import Graph
from ..terms import Terms
from . import geometry
from .execution import converted as converted
from .execution import device_of as device_of
from .execution import ghost, in_bytes, is_aligned
from .message_kernels import messages_kernel
from .operands import STORED
from .passes import Pass
from .polynomials import contracted as contracted
from .sorted_edges import RUN, indexed, kernels_for, sort_edges
from .source import OPTIONS, Source
from .source import write as written

_MOST_KERNELS, _MOST_BYTES = 2**10, 2**28


class Order(NamedTuple):
    """`SortedEdges` on a device, and when they are there."""

    begins: Any
    order: Any
    rows: dict[str, Any]
    pieces: Any
    ready: Any

    @property
    def segments(self) -> int:
        """Their number."""
        return len(self.begins) - 1


def _order(graph: Graph, slot: str | None, rows: int, run: int = RUN) -> Order:
    """The edges in an order, sorted once for a device."""
    key = "on a GPU", int(cupy.cuda.Device().id), slot, rows, run
    found = graph.kept.get(key)
    if found is None:
        edges = sort_edges(graph, slot, rows, run)
        found = Order(
            cupy.asarray(edges.begins),
            cupy.asarray(edges.order),
            {name: cupy.asarray(index) for name, index in edges.rows.items()},
            None if edges.pieces is None else cupy.asarray(edges.pieces),
            cupy.cuda.Event(disable_timing=True),
        )
        found.ready.record()
        graph.keep(key, found)
    cupy.cuda.get_current_stream().wait_event(found.ready)
    return found


class _Kernel(NamedTuple):
    """One that is compiled and loaded, and its tables, on one device."""

    source: Source
    function: Any
    tables: tuple[Any, ...]
    nbytes: int


def _loaded(source: Source) -> _Kernel:
    function = cupy.RawModule(code=source.code, options=source.options).get_function(source.name)
    tables = tuple(map(cupy.asarray, source.tables))
    return _Kernel(source, function, tables, len(source.code) + sum(table.nbytes for table in tables))


def _kernel(rule: Terms, spec: Pass) -> _Kernel | None:
    """The kernel of a pass on the current device; None if its outputs have to be computed one by one."""
    key = rule._digest, spec, int(cupy.cuda.Device().id)
    try:
        return _kernels[key]
    except KeyError:
        source = messages_kernel(rule, spec)
        return _kernels.add(key, None if source is None else _loaded(source))


_kernels: Cache[_Kernel | None] = Cache(
    "kernels of messages", _MOST_KERNELS, _MOST_BYTES, lambda kernel: 0 if kernel is None else kernel.nbytes
)


def _sum_of_pieces(out: Any, parts: Any, begins: Any) -> None:
    """Adds up the pieces of rows."""
    key = out.dtype.name, int(cupy.cuda.Device().id)
    kernel = _adders.get(key)
    if kernel is None:
        stored, threads = STORED[out.dtype.name], geometry.THREADS
        words = {"threads": threads, "name": "sparseacc_pieces", "type": stored.type, "real": stored.real}
        code = written(f"sums of pieces, {out.dtype.name}", ("numbers.cuh",), "pieces.cu", True, words)
        kernel = _adders.add(key, _loaded(Source(code, "sparseacc_pieces", OPTIONS, (), (), threads, threads, 0)))
    launch = kernel.source.launch(out.size)
    integers = np.int64(len(out)), np.int64(out.size // len(out))
    kernel.function(launch.grid, launch.block, (out, parts, begins, *integers))


_adders: Cache[_Kernel] = Cache("kernels of pieces", _MOST_KERNELS, _MOST_BYTES, lambda kernel: kernel.nbytes)


def as_array(value: Any, name: str) -> Any:
    """An array of a dtype that can be computed with."""
    check_dtype(value.dtype, name)
    return value


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Mapping[str, Any]) -> None:
    """Refuses an `out` that cannot take the result."""
    host.check_out(ghost(out), shape, dtype, {name: ghost(array) for name, array in inputs.items()})


def write(out: Any, result: Any) -> None:
    """Copies a result, to any address."""
    in_bytes(out)[...] = in_bytes(result)


def on(device: int) -> Any:
    """A context in which to compute on a device."""
    return cupy.cuda.Device(device)


class Edges:
    """A call of message passing: its rule, graph and arrays, by the names x, y, w, dout, zx, zy and zw; those that are
    None are left out. Without weights w is left out.

    `axis` is that of the components, -1 or -2.
    """

    def __init__(self, rule: Terms, graph: Graph, arrays: Mapping[str, Any], axis: int) -> None:
        self._rule, self._graph, self._axis = rule, graph, axis
        x = arrays["x"]
        self._dtype, self._channels = x.dtype, x.shape[-3 - axis]
        self._shapes = {name: array.shape for name, array in arrays.items()}
        self._arrays = {name: self._laid_out(array) for name, array in arrays.items()}
        self._along = tuple(slot for slot in ("x", "y", "w") if f"z{slot}" in arrays)
        self._spec = Pass(
            outputs=(),
            column=None,
            along=self._along,
            dtype=x.dtype.name,
            channels=self._channels,
            apart=tuple(name for name in ("y", "w") if name in arrays and arrays[name].ndim == 3),
            indexed=indexed(graph),
            weighted="w" in arrays,
        )

    def _laid_out(self, array: Any) -> Any:
        """The array with components before channels, contiguous."""
        if not is_aligned(array) and array.size:
            array = in_bytes(array).copy().view(array.dtype)[..., 0]
        if array.ndim == 3 and self._axis == -1:
            array = array.swapaxes(1, 2)
        return cupy.ascontiguousarray(array)

    def _as_given(self, array: Any) -> Any:
        return cupy.ascontiguousarray(array.swapaxes(1, 2)) if array.ndim == 3 and self._axis == -1 else array

    def solved(self, wanted: tuple[str, ...], outs: Mapping[str, Any]) -> dict[str, Any]:
        """The sums into the rows of receivers (out), in the array that is given for it, or the gradients of some of x,
        y and w, by these names; along zx, zy, zw if any is there.
        """
        return {"out": self._result(outs.get("out"))} if wanted == ("out",) else self._gradients(wanted)

    def _result(self, out: Any) -> Any:
        shape = self._graph.num_nodes, self._rule.shape[2], self._channels
        direct = out is not None and self._axis == -2 and out.flags.c_contiguous and is_aligned(out)
        total = out if direct else cupy.empty(shape, self._dtype)
        self._compute({"out": total})
        if out is None:
            return self._as_given(total)
        if not direct:
            write(out, self._as_given(total))
        return out

    def _gradients(self, wanted: tuple[str, ...]) -> dict[str, Any]:
        results = {name: cupy.empty(self._arrays[name].shape, self._dtype) for name in wanted}
        self._compute(results)
        return {name: self._as_given(result) for name, result in results.items()}

    def _compute(self, results: Mapping[str, Any]) -> None:
        left = []
        for slot, result in results.items():
            terms = self._channels and self._graph.num_edges and self._rule.nnz
            if result.size and terms and self._spec.products(slot):
                left.append(slot)
            else:
                result.fill(0)
        for column, outputs in kernels_for(left, self._graph):
            self._pass(column, outputs, results)

    def _pass(self, column: str | None, outputs: tuple[str, ...], results: Mapping[str, Any]) -> None:
        """Computes outputs together, or one by one if the rule is too large."""
        rows = len(results[column]) if column else 0
        spec = self._spec._replace(outputs=outputs, column=column)
        order = _order(self._graph, column, rows)
        spec = spec._replace(pieces=order.pieces is not None)
        kernel = _kernel(self._rule, spec)
        if kernel is None:
            for slot in outputs:
                self._pass(slot if slot == column else None, (slot,), results)
            return
        if kernel.tables and column is None:
            order = _order(self._graph, None, 0, 1)
        targets = {slot: self._target(spec, slot, results[slot], order) for slot in outputs}
        launch = kernel.source.launch(order.segments)
        kernel.function(
            launch.grid,
            launch.block,
            (
                *(self._arrays[name] for name in spec.inputs()),
                *targets.values(),
                order.begins,
                order.order,
                *(order.rows[slot] for slot in spec.rows()),
                *kernel.tables,
                np.int64(order.segments),
                np.int64(self._graph.num_edges),
            ),
            shared_mem=launch.shared_mem,
        )
        for slot, target in targets.items():
            self._gather(spec, slot, target, results[slot], order)

    def _target(self, spec: Pass, slot: str, result: Any, order: Order) -> Any:
        """What a kernel writes: the result, or partial sums of it."""
        shares = 1 if spec.has_channels(slot) else spec.shares
        pieces = spec.pieces and slot == spec.column
        if shares == 1 and not pieces:
            return result
        return cupy.empty(
            (shares, order.segments if pieces else len(result), *result.shape[1:]), computed_in(spec.dtype)
        )

    def _gather(self, spec: Pass, slot: str, target: Any, result: Any, order: Order) -> None:
        """Adds up partial sums."""
        if target is result:
            return
        total = target.sum(axis=0) if len(target) > 1 else target[0]
        if spec.pieces and slot == spec.column:
            _sum_of_pieces(result, total, order.pieces)
        else:
            result[...] = total


edges = Edges
