"""A Graph as a tree whose leaves are its index arrays, and the arrays that the primitive takes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..calls.arrays import Array
from ..calls.edges import split_graph
from ..graph import COLUMNS, Graph, of_leaves


def _flattened(graph: Graph) -> tuple[tuple[Any, ...], int]:
    return tuple(_leaves(graph)), graph.num_nodes


def _leaves(graph: Graph) -> Sequence[Any]:
    """32 bits wide where that will do, which JAX would make of them without a word."""
    columns = [getattr(graph, name) for name in COLUMNS]
    if not graph.is_seen:
        return columns
    if "jax" not in graph.kept:
        graph.kept["jax"] = [column if column is None else _narrow(column, graph.num_nodes) for column in columns]
    leaves: Sequence[Any] = graph.kept["jax"]
    return leaves


def _narrow(column: Array, num_nodes: int) -> Array:
    large = max(num_nodes, int(column.max(initial=0))) > np.iinfo(np.int32).max
    return column if large else column.astype(np.int32)


jax.tree_util.register_pytree_node(Graph, _flattened, lambda num_nodes, leaves: of_leaves(leaves, num_nodes))


def index_arrays(graph: Any, rows: int) -> tuple[list[Any], int]:
    """senders, receivers, rows_of_y and rows_of_weights as arrays of JAX, None where there are none; and num_nodes.

    Without any of them there is an edge for each of so many rows.
    """
    if isinstance(graph, Graph):
        given, num_nodes = list(_leaves(graph)), graph.num_nodes
    else:
        given, num_nodes = split_graph(graph)
    try:
        num_nodes = operator.index(num_nodes)
    except TypeError as error:
        raise TypeError(f"num_nodes must be an integer that is known when JAX traces, not {num_nodes!r}") from error
    columns = [None if x is None else as_index(x, name) for x, name in zip(given, COLUMNS, strict=True)]
    edges = {name: x.shape[0] for x, name in zip(columns, COLUMNS, strict=True) if x is not None}
    if len(set(edges.values())) > 1:
        listed = " and ".join(f"{name} {n}" for name, n in edges.items())
        raise ValueError(f"all index arrays need one entry for every edge, but have different numbers: {listed}")
    if not edges:
        columns[1] = jnp.arange(rows, dtype=np.int32)
    return columns, num_nodes


def as_index(values: Any, name: str) -> Any:
    """One integer for each edge or atom, 32 or 64 bits wide."""
    array = jnp.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, but its dtype is {array.dtype}")
    if isinstance(values, np.ndarray) and array.size and array.dtype.itemsize < values.dtype.itemsize:
        bounds = np.iinfo(array.dtype)
        shortened = next((int(n) for n in (values.max(), values.min()) if not bounds.min <= n <= bounds.max), None)
        if shortened is not None:
            raise TypeError(
                f"{name} holds {shortened}, which JAX would shorten to {array.dtype}: let it keep 64 bits by "
                "jax.config.update('jax_enable_x64', True)"
            )
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one entry for each edge, but its shape is {array.shape}")
    return array if array.dtype in (np.int32, np.int64) else array.astype(np.int32)
