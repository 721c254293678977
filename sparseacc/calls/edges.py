"""What arrays of components and channels must be like, above all those of message passing, for all engines alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .arrays import as_axis

INDICES = {"x": "senders", "y": "rows_of_y", "weights": "rows_of_weights"}
"""What says which row of an operand an edge reads."""


def component_axis(axis: Any, ndim: int = 3) -> int:
    """The axis of the components of arrays that have channels, counted from the end: -2 or -1."""
    given = as_axis(axis)
    at = given if given < 0 else given - ndim
    if at not in (-2, -1):
        raise ValueError(f"axis is {given}, but components are in the last axis (-1) or in the one before it (-2)")
    return at


def without_channels(array: Any, axis: int) -> Any:
    """An operand of any library without its axis of channels, if that has one number for all of them."""
    return array.squeeze(-3 - axis) if len(array.shape) == 3 and array.shape[-3 - axis] == 1 else array


def split_graph(graph: Any) -> tuple[list[Any], Any]:
    """senders, receivers, rows_of_y, rows_of_weights and num_nodes of a tuple in the place of a Graph."""
    if not isinstance(graph, tuple) or len(graph) != 3:
        raise TypeError(
            "graph must be a sparseacc.Graph or a tuple (senders, receivers, num_nodes), not "
            + (f"a tuple of {len(graph)}" if isinstance(graph, tuple) else type(graph).__name__)
        )
    return [*graph[:2], None, None], graph[2]


def check_edges(
    shapes: Mapping[str, Sequence[int]],
    sizes: tuple[int, ...],
    paths: int,
    axis: int,
    edges: int,
    columns: Mapping[str, Any],
) -> None:
    """Refuses x, y or weights whose shapes do not fit a rule of such sizes or each other; of those that have no index
    among the columns, others than one row an edge.
    """
    x = tuple(shapes["x"])
    if len(x) != 3:
        layout = "(rows, n1, channels)" if axis == -2 else "(rows, channels, n1)"
        exchanged = len(x) == 2 and len(shapes.get("y", ())) == 3
        flat = "sparseacc.to_channels makes rows and channels of flat features"
        instead = ": are x and y exchanged?" if exchanged else f": {flat}" if len(x) == 2 else ""
        raise ValueError(f"x must have 3 dimensions, {layout}, but its shape is {x}{instead}")
    channels = x[-3 - axis]
    for (name, index), needed in zip(INDICES.items(), (*sizes[:2], paths), strict=True):
        if name not in shapes:
            continue
        shape = tuple(shapes[name])
        if len(shape) not in (2, 3):
            raise ValueError(f"{name} must have 2 dimensions, or 3 with channels, but its shape is {shape}")
        at = axis if len(shape) == 3 else -1
        if shape[at] != needed:
            of = f"the rule has {paths} paths" if name == "weights" else f"the rule's shape is {sizes}"
            parts = (needed, channels) if axis == -2 else (channels, needed)
            instead = ""
            if shape[1:] == (needed * channels,):
                instead = f": {name}.reshape(-1, {parts[0]}, {parts[1]}) if its channels are flat"
            elif len(shape) == 3 and shape[-3 - axis] == needed:
                instead = f": its axes of components and channels are exchanged, or axis is not {axis}"
            elif shape == parts and columns[index] is None:
                rows = f"{index}=numpy.zeros({edges}, int)"
                instead = f": {name}[None] and Graph(..., {rows}) if all edges share {name}"
            raise ValueError(
                f"{name} has length {shape[at]} along axis {at}, but the rule needs {needed}: "
                f"{name}.shape is {shape}, and {of}{instead}"
            )
        if len(shape) == 3 and shape[-3 - axis] != channels:
            raise ValueError(f"{name} has {shape[-3 - axis]} channels and x {channels}: {name}.shape is {shape}")
        if columns[index] is None and shape[0] != edges:
            raise ValueError(
                f"{name} has {shape[0]} rows, but the graph has {edges} edges, each of which reads a row "
                f"of its own: make it Graph(..., {index}=...) to say which one"
            )
