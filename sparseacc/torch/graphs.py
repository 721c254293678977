"""A graph as the index tensors that operators take, and back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch

from ..graph import COLUMNS, Graph, graph_of

Tensor = torch.Tensor


def index_tensors(graph: Graph) -> list[Tensor | None]:
    """Its columns as tensors, made once, by which the kernels find the graph and what is sorted already."""
    kept: list[Tensor | None] | None = graph.kept.get("torch")
    if kept is None:
        made: list[Tensor | None] = []
        # In a thread of their own, where no mode and no transform makes of them what only it knows.
        thread = threading.Thread(target=_make, args=(graph, made))
        thread.start()
        thread.join()
        kept = graph.kept.setdefault("torch", made)
        if kept is made:  # no other thread came first: what is not kept is freed, and others may get its memory
            _of_memory[_memory(kept, graph.num_nodes)] = graph
    return kept


def _make(graph: Graph, tensors: list[Tensor | None]) -> None:
    device = "cpu" if graph.device is None else f"cuda:{graph.device}"
    columns = (getattr(graph, name) for name in COLUMNS)
    tensors += [None if column is None else torch.tensor(column, device=device) for column in columns]


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
