"""A graph as the index tensors that operators take, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch.utils._python_dispatch import _disable_current_modes

from ..graph import COLUMNS, Graph, graph_of

Tensor = torch.Tensor


def index_tensors(graph: Graph) -> list[Tensor | None]:
    """Its columns as tensors, made once, by which the kernels find the graph and what is sorted already."""
    kept: list[Tensor | None] | None = graph.kept.get("torch")
    if kept is None:
        device = "cpu" if graph.device is None else f"cuda:{graph.device}"
        columns = (getattr(graph, name) for name in COLUMNS)
        with torch.inference_mode(False), _disable_current_modes():  # plain tensors, for all calls to come
            kept = [None if c is None else torch.from_numpy(c.copy()).to(device) for c in columns]
        graph.kept["torch"] = kept
        _of_memory[_memory(kept, graph.num_nodes)] = graph
    return kept


def graph_of_tensors(tensors: Sequence[Tensor | None], num_nodes: int) -> Graph:
    """The graph that the tensors are of, or one like it."""
    graph = _of_memory.get(_memory(tensors, num_nodes))
    if graph is not None:
        return graph
    if all(x is None or x.is_cpu for x in tensors):
        return graph_of([None if x is None else x.numpy() for x in tensors], num_nodes)
    senders, receivers, rows_of_y, rows_of_weights = tensors
    return Graph(senders, receivers, num_nodes, rows_of_y=rows_of_y, rows_of_weights=rows_of_weights)


def _memory(tensors: Sequence[Tensor | None], num_nodes: int) -> Any:
    """What no other tensors have while these are alive, which their graph keeps and nobody else has."""
    return num_nodes, *(x if x is None else (x.device, x.data_ptr(), x.shape, x.stride(), x.dtype) for x in tensors)


_of_memory: WeakValueDictionary[Any, Graph] = WeakValueDictionary()
