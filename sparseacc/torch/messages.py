"""Message passing on tensors: checks and normalises what the operators then take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..calls.arrays import as_index
from ..calls.edges import component_axis, split_graph, without_channels
from ..graph import Graph
from ..rule import Rule
from .calling import call
from .graphs import index_tensors
from .message_operators import messages
from .tensors import INTEGERS, check_devices, check_tensor, common_dtype, text_of


def message_passing(
    rule: Rule,
    graph: Graph | tuple[Any, Any, Any],
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    axis: int = -2,
) -> torch.Tensor:
    """The sum over edges e, with autograd: ``out[receivers[e]] += rule(x[senders[e]], y[e], weights[e])``.

    Differentiable to any order by reverse mode, each derivative in fused passes over the edges; for complex tensors
    with torch's conjugates. Works in torch.compile without graph breaks, in torch.export, torch.func.grad and
    torch.vmap. No intermediate of edges times rows times channels is made.

    Parameters
    ----------
    rule : sparseacc.Rule
        Of shape ``(n1, n2, n_out)``, such as `sparseacc.tensor_product` makes it. A constant of a compiled graph.
    graph : sparseacc.Graph or (senders, receivers, num_nodes)
        The edges. A Graph is checked and sorted once, and a constant of a compiled graph. In a tuple, senders and
        receivers are integer tensors of shape (num_edges,), or None as in `sparseacc.Graph`, which may be inputs of a
        compiled function; num_nodes is an int. Without both there is an edge for each of num_nodes rows.
    x : torch.Tensor, shape (rows, n1, channels)
        A row for each node, or for each edge where there are no senders. float32, float64, complex64, complex128, or
        float16 and bfloat16 (summed in float32). Different dtypes promote as torch promotes them, integers alone to
        float64. Any strides. All tensors are on one device.
    y : torch.Tensor, shape (rows, n2) or (rows, n2, channels)
        A row for each edge, or for each that ``rows_of_y`` of the graph names. One number for all channels may have an
        axis of length 1, here and in weights.
    weights : torch.Tensor, shape (rows, num_paths) or (rows, num_paths, channels), optional
        A row for each edge, or for each that ``rows_of_weights`` of the graph names. None is all ones.
    axis : int
        The axis of the components, -2 or -1; in that case the channels are before it, in every tensor that has them.

    Returns
    -------
    torch.Tensor, shape (num_nodes, n_out, channels)
        Zero where a node receives nothing.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor, rule or graph, indices are no integers, or a dtype is not one of those
        above.
    ValueError
        If a length is not the rule's, the number of rows is not the graph's, channels differ, an index is out of range,
        or there are two devices.

    Examples
    --------
    Forces between three nodes, of an energy that depends on the edges' vectors:

    >>> import torch
    >>> import sparseacc.torch
    >>> rule = sparseacc.tensor_product("8x0e + 8x1o", "0e + 1o", "0e")
    >>> edges = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), 3
    >>> x, y = torch.ones(3, 4, 8), torch.ones(3, 4, requires_grad=True)
    >>> energy = sparseacc.torch.message_passing(rule, edges, x, y).square().sum()
    >>> torch.autograd.grad(energy, y)[0].shape
    torch.Size([3, 4])
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
    at = component_axis(axis)
    return passed(rule, indices(graph, x), x, y, weights, at)


def passed(rule: Rule, graph: tuple[Any, ...], x: Any, y: Any, weights: Any, axis: int) -> torch.Tensor:
    """The operator called: graph is senders, receivers, rows_of_y, rows_of_weights and num_nodes."""
    x, y, weights = _alike({"x": x, "y": y, "weights": weights})
    y, weights = (t if t is None else without_channels(t, axis) for t in (y, weights))
    result: Tensor = call(messages, x, y, weights, *graph, text_of(rule), axis)
    return result


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constants(graph: Graph) -> Any:
    """A Graph as constants of a graph of torch, which does not trace it."""
    return (*index_tensors(graph), graph.num_nodes)


def indices(graph: Any, x: Any) -> tuple[Any, ...]:
    """senders, receivers, rows_of_y and rows_of_weights, and num_nodes; x says where those are that are made here."""
    if isinstance(graph, Graph):
        return _constants(graph)  # type: ignore[no-any-return]
    (senders, receivers, *others), num_nodes = split_graph(graph)
    for name, column in (("senders", senders), ("receivers", receivers)):
        if column is not None and not isinstance(column, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor or None, not {type(column).__name__}")
        if column is not None and column.dtype not in INTEGERS:
            raise TypeError(f"{name} must hold integers, but its dtype is {column.dtype}")
    if not isinstance(num_nodes, torch.SymInt):
        num_nodes = as_index(num_nodes, "num_nodes")
    if senders is None and receivers is None:
        receivers = torch.arange(num_nodes, device=x.device)
    return senders, receivers, *others, num_nodes


def _alike(named: dict[str, Any]) -> tuple[Any, ...]:
    """The tensors in one dtype."""
    given = {name: x for name, x in named.items() if x is not None or name != "weights"}
    for name, x in given.items():
        check_tensor(x, name)
    check_devices(given)
    dtype = common_dtype(given)
    return tuple(None if x is None else x.to(dtype) for x in named.values())
