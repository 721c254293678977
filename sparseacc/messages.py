"""Message passing: products of rows that edges read, summed into rows that edges name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import compress, product
from typing import Any

import numpy as np

from .calls.arrays import Array
from .calls.edges import INDICES, check_edges, component_axis, without_channels
from .calls.selection import selected
from .cpu.messages import INPUTS, known
from .engines import Arguments
from .graph import COLUMNS, Graph
from .terms import Terms


def message_passing(
    rule: Terms, graph: Graph, x: Any, y: Any, weights: Any = None, *, axis: int = -2, out: Any = None
) -> Any:
    """The sum over edges e: ``out[receivers[e]] += rule(x[senders[e]], y[e], weights[e])``.

    No intermediate of edges times rows times channels is made.

    Parameters
    ----------
    rule : Rule
        Of shape ``(n1, n2, n_out)``, such as `tensor_product` makes it.
    graph : Graph
        The edges.
    x : array_like, shape (rows, n1, channels)
        A row for each node, or for each edge where the graph has no senders. float32, float64, complex64, complex128,
        or float16 and bfloat16 (summed in float32). Different dtypes promote as NumPy promotes them, integers to
        float64.
    y : array_like, shape (rows, n2) or (rows, n2, channels)
        A row for each edge, or for each that ``rows_of_y`` of the graph names. One number for all channels may have an
        axis of length 1, here and in weights.
    weights : array_like, shape (rows, num_paths) or (rows, num_paths, channels), optional
        A row for each edge, or for each that ``rows_of_weights`` of the graph names. None is all ones.
    axis : int
        The axis of the components, -2 or -1; in that case the channels are before it, in every array that has them.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, writable, sharing no memory with an input.
        Arguments that are refused leave it as it was; a signal that ends the call (Ctrl-C), or memory that is
        missing, leaves it written in part.

    Returns
    -------
    ndarray, shape (num_nodes, n_out, channels)
        Zero where a node receives nothing. The edges of a node add up in a fixed order: its numbers are bitwise the
        same for any number of threads, and whatever other nodes receive. The error bound is that of the product, over
        all terms that add up to a number.

    Raises
    ------
    TypeError
        If rule is no Rule or graph no Graph, or a dtype cannot be computed with.
    ValueError
        If a length is not the rule's, the number of rows is not the graph's, channels differ, or a sender has no row.

    Examples
    --------
    Every node adds up the vectors of its neighbours, turned by the cross product with the edge:

    >>> rule = sparseacc.clebsch_gordan(1, 1, 1)
    >>> graph = sparseacc.Graph([0, 1, 2], [1, 2, 2])
    >>> x, y, weights = np.ones((3, 3, 8)), np.ones((3, 3)), np.ones((3, 1, 8))
    >>> sparseacc.message_passing(rule, graph, x, y, weights).shape
    (3, 3, 8)
    """
    if out is None and (found := _again(("out",), rule, graph, axis, x, y, weights)):
        return found["out"]
    call = Call(rule, graph, axis, {"x": x, "y": y, "weights": weights}, out)
    return call.run(("out",), ("out",))[0]


def message_passing_vjp(
    rule: Terms,
    graph: Graph,
    dout: Any,
    x: Any,
    y: Any,
    weights: Any = None,
    *,
    axis: int = -2,
    wrt: int | Collection[int] = (0, 1, 2),
) -> tuple[Any, Any, Any]:
    """The gradient: the transposed derivative of `message_passing` applied to `dout`.

    Parameters
    ----------
    rule, graph, x, y, weights, axis
        As in `message_passing`.
    dout : array_like
        Of the shape of its result.
    wrt : collection of int, or int
        Which gradients: 0 for x, 1 for y, 2 for weights.

    Returns
    -------
    dx, dy, dw : ndarray or None
        Of the shapes of x, y and weights; None where not in `wrt`, and dw without weights. Complex arrays are not
        conjugated.

    Raises
    ------
    TypeError, ValueError
        As `message_passing` does; ValueError if dout has another shape, or wrt other entries.

    Examples
    --------
    >>> rule = sparseacc.clebsch_gordan(1, 1, 0)
    >>> graph = sparseacc.Graph([0, 1, 1], [1, 0, 1])
    >>> x, y, dout = np.ones((2, 3, 8)), np.ones((3, 3)), np.ones((2, 1, 8))
    >>> dx, dy, dw = sparseacc.message_passing_vjp(rule, graph, dout, x, y)
    >>> dx.shape, dy.shape, dw
    ((2, 3, 8), (3, 3), None)
    """
    wanted = tuple(compress(_SLOTS, selected(wrt, ("x", "y", "weights"))))
    names = tuple(name for name in wanted if name != "w" or weights is not None)
    if found := _again(names, rule, graph, axis, x, y, weights, dout):
        dx, dy, dw = map(found.get, _SLOTS)
        return dx, dy, dw
    call = Call(rule, graph, axis, {"dout": dout, "x": x, "y": y, "weights": weights})
    dx, dy, dw = call.run(_SLOTS, wanted)
    return dx, dy, dw


def message_passing_vjp_vjp(
    rule: Terms,
    graph: Graph,
    zx: Any,
    zy: Any,
    zw: Any,
    dout: Any,
    x: Any,
    y: Any,
    weights: Any = None,
    *,
    axis: int = -2,
    wrt: int | Collection[int] = (0, 1, 2, 3),
) -> tuple[Any, Any, Any, Any]:
    """The double backward: gradients of <zx, dx> + <zy, dy> + <zw, dw> for those of `message_passing_vjp`.

    Parameters
    ----------
    rule, graph, dout, x, y, weights, axis
        As in `message_passing_vjp`.
    zx, zy, zw : array_like or None
        Of the shapes of x, y and weights; None is zero.
    wrt : collection of int, or int
        Which gradients: 0 for dout, 1 for x, 2 for y, 3 for weights.

    Returns
    -------
    ddout, dx, dy, dw : ndarray or None
        The gradients with respect to dout, x, y and weights, of their shapes; None where not in `wrt`, and dw without
        weights.

    Raises
    ------
    TypeError, ValueError
        As `message_passing_vjp` does; ValueError if zx, zy or zw has another shape than x, y or weights.

    Examples
    --------
    >>> rule = sparseacc.clebsch_gordan(1, 1, 0)
    >>> graph = sparseacc.Graph([0, 1, 1], [1, 0, 1])
    >>> x, y, dout = np.ones((2, 3, 8)), np.ones((3, 3)), np.ones((2, 1, 8))
    >>> ddout, dx, dy, dw = sparseacc.message_passing_vjp_vjp(rule, graph, None, y, None, dout, x, y)
    >>> ddout.shape, dx.shape, dy.shape
    ((2, 1, 8), (2, 3, 8), (3, 3))
    """
    named = {"zx": zx, "zy": zy, "zw": zw, "dout": dout, "x": x, "y": y, "weights": weights}
    call = Call(rule, graph, axis, named)
    wanted = tuple(compress(("out", *_SLOTS), selected(wrt, ("dout", "x", "y", "weights"))))
    ddout, dx, dy, dw = call.run(("out", *_SLOTS), wanted)
    return ddout, dx, dy, dw


_SLOTS = ("x", "y", "w")


def _again(
    wanted: tuple[str, ...], rule: Any, graph: Any, axis: Any, x: Any, y: Any, w: Any, dout: Any = None
) -> dict[str, Array] | None:
    """The results of a call of NumPy arrays that has been made before, which need not be checked again; else None."""
    if not (isinstance(rule, Terms) and isinstance(graph, Graph) and type(axis) is int):
        return None
    arrays = {"x": x, "y": y, "w": w, "dout": dout, "zx": None, "zy": None, "zw": None}
    plan = known(wanted, rule, graph, axis, arrays)
    return plan.run(arrays, {}) if plan else None


def solved(
    rule: Terms, graph: Graph, axis: int, arrays: Mapping[str, Array], wanted: Sequence[str], outs: Mapping[str, Array]
) -> None:
    """`Call.solve` of contiguous NumPy arrays of one dtype, named as INPUTS are, into contiguous arrays."""
    named = {name: arrays.get(name) for name in INPUTS}
    gradients = tuple(slot for slot in _SLOTS if slot in wanted)
    parts = [part for part in (gradients, ("out",) if "out" in wanted else ()) if part]
    plans = [known(part, rule, graph, axis, named) for part in parts]
    for part, plan in zip(parts, plans, strict=True):
        if plan is None:
            Call(rule, graph, axis, {_LONG_NAMES.get(name, name): a for name, a in arrays.items()}).solve(part, outs)
        else:
            plan.run(named, outs)


_LONG_NAMES = {"w": "weights"}


class Call:
    """The arrays of a call, checked against the rule, the graph and each other; computes with real numbers."""

    def __init__(self, rule: Terms, graph: Graph, axis: int, named: Mapping[str, Any], out: Any = None) -> None:
        if not isinstance(rule, Terms):
            raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
        if not isinstance(graph, Graph):
            raise TypeError(
                f"graph must be a sparseacc.Graph, not {type(graph).__name__}: "
                "make it with Graph(senders, receivers, num_nodes)"
            )
        if not graph.is_seen:
            raise TypeError("the graph's indices are leaves of a tree of JAX: use sparseacc.jax.message_passing")
        self._rule, self._graph, self._axis = rule, graph, component_axis(axis)
        self._is_second = any(name in named for name in ("zx", "zy", "zw"))
        needed = {name: v for name, v in named.items() if v is not None or name in ("dout", "x", "y")}
        self._arguments = call = Arguments(needed, out)
        # of x, y and w: gradients have the shapes that were given
        self._given = {name[0]: call.arrays[name].shape for name in INDICES if name in call.arrays}
        for name in {"y", "weights", "zy", "zw"} & call.arrays.keys():
            call.arrays[name] = without_channels(call.arrays[name], self._axis)
        self._engine, self._dtype, self._out = call.engine, call.dtype, call.out
        _check_device(graph, call.device)
        self._shape = _checked(rule, graph, call.arrays, self._axis)
        if self._out is not None:
            self._engine.check_out(self._out, self._shape, self._dtype, call.arrays)
        self._arrays = {"w" if name == "weights" else name: array for name, array in call.converted().items()}

    def run(self, slots: Sequence[str], wanted: Collection[str]) -> tuple[Any, ...]:
        """What is wanted of the slots, None for the others, as the caller's kind of array."""
        outs = {} if self._out is None else {"out": self._out}
        with self._arguments.computing():
            found = self.solve(wanted, outs)
            found |= {name: found[name].reshape(shape) for name, shape in self._given.items() if name in found}
        return self._arguments.given_back(tuple(map(found.get, slots)))

    def solve(self, wanted: Collection[str], outs: Mapping[str, Array]) -> dict[str, Array]:
        """The sum over edges of the product of dout, x, y and w, solved for those of them that are wanted.

        A double backward is that of the products with zx, zy or zw in the place of a factor. Results are in `outs`,
        where given.
        """
        arrays = self._arrays
        along = [name for name in _SLOTS if f"z{name}" in arrays]
        names = tuple(name for name in _SLOTS if name in wanted and name in arrays)
        parts = [part for part in (names, ("out",) if "out" in wanted else ()) if part]
        found: dict[str, Any] = {}
        if self._dtype.kind != "c" and (along or not self._is_second):
            edges = self._edges(arrays)
            for part in parts:
                found |= edges.solved(part, outs)
            return found
        for slot in sum(parts, ()):
            others = [{name: arrays[f"z{name}"]} for name in along if name != slot] if self._is_second else [{}]
            with np.errstate(all="ignore"):  # numbers beyond the range are infinite
                forms = [self._form(slot, arrays | other) for other in others]
                like = None if forms else arrays["dout" if slot == "out" else slot]
                found[slot] = np.zeros_like(like) if like is not None else sum(forms[1:], forms[0])
            if slot in outs:
                self._engine.write(outs[slot], found[slot])
                found[slot] = outs[slot]
        return found

    def _edges(self, arrays: dict[str, Any]) -> Any:
        return self._engine.edges(self._rule, self._graph, arrays, self._axis)

    def _form(self, slot: str, arrays: dict[str, Any]) -> Any:
        """The sum over edges of the product of dout, x, y and w, but for the one in a slot, of complex numbers: a sum
        over their real and imaginary parts.
        """
        factors = [
            name for name in ("dout", *_SLOTS) if name in arrays and name != slot and (name, slot) != ("dout", "out")
        ]
        unused = {name: array.real for name, array in arrays.items() if name in _SLOTS and name not in factors}
        sums: list[Any] = [0, 0]
        for planes in product((0, 1), repeat=len(factors)):
            parts = {
                name: (arrays[name].real, arrays[name].imag)[plane] for name, plane in zip(factors, planes, strict=True)
            }
            value = self._edges(unused | parts).solved((slot,), {})[slot]
            power = sum(planes) % 4  # of the imaginary unit, by which infinite numbers would become NaN
            sums[power % 2] = sums[power % 2] + (value if power < 2 else -value)
        total = sums[0].astype(self._dtype, copy=False)
        total.imag = sums[1]
        return total


def _check_device(graph: Graph, device: int | None) -> None:
    if graph.num_edges and graph.device != device:
        of_graph, of_arrays = ("on the host" if d is None else f"on GPU {d}" for d in (graph.device, device))
        raise ValueError(
            f"the graph's indices are {of_graph}, but the arrays {of_arrays}: "
            "make a Graph of indices that are where the arrays are"
        )


def _checked(rule: Terms, graph: Graph, arrays: Mapping[str, Array], axis: int) -> tuple[int, ...]:
    """Refuses arrays that do not fit; returns the shape of the result."""
    columns = {name: getattr(graph, name) for name in COLUMNS}
    shapes = {name: arrays[name].shape for name in INDICES if name in arrays}
    check_edges(shapes, rule.shape, rule.num_paths, axis, graph.num_edges, columns)
    for name in shapes:
        index = columns[INDICES[name]]
        e = None if index is None else graph.first_beyond(INDICES[name], shapes[name][0])
        if e is not None:
            instead = ": senders are rows of x, and receivers those of the result" if name == "x" else ""
            raise ValueError(f"{INDICES[name]}[{e}] is {index[e]}, but {name} has {shapes[name][0]} rows{instead}")
    channels = shapes["x"][-3 - axis]
    shape = [graph.num_nodes, channels, channels]
    shape[axis] = rule.shape[2]
    likes = {"zx": "x", "zy": "y", "zw": "weights"}
    for name, like in likes.items():
        if name in arrays and like not in arrays:
            raise ValueError(f"{name} is given, but {like} is None: there is nothing to derive by")
    required = {name: (like, arrays[like].shape) for name, like in likes.items() if name in arrays}
    if "dout" in arrays:
        required["dout"] = "the result", tuple(shape)
    for name, (like, needed) in required.items():
        if arrays[name].shape != needed:
            raise ValueError(f"{name}.shape is {arrays[name].shape}, but must be that of {like}: {needed}")
    return tuple(shape)
