"""Message passing in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..calls.edges import check_edges, component_axis, without_channels
from ..graph import COLUMNS
from ..rule import Rule
from .graphs import index_arrays
from .products import as_array
from .solving import Sums, computed


def message_passing(rule: Rule, graph: Any, x: Any, y: Any, weights: Any = None, *, axis: int = -2) -> jax.Array:
    """The sum over edges e: ``out[receivers[e]] += rule(x[senders[e]], y[e], weights[e])``, on the CPU.

    Works in jit, grad, jvp, vmap, to any order: a gradient is one pass over the edges, and so is a double backward. No
    intermediate of edges times rows times channels is made. The rule is a constant of the traced function. Complex
    arrays are not conjugated in gradients, as JAX does it.

    Parameters
    ----------
    rule : sparseacc.Rule
        Of shape ``(n1, n2, n_out)``, such as `sparseacc.tensor_product` makes it.
    graph : sparseacc.Graph or (senders, receivers, num_nodes)
        The edges. A Graph is a tree whose leaves are its index arrays, so that it may be an argument of a traced
        function, and may be made in one. In a tuple, senders and receivers are integer arrays of shape (num_edges,), or
        None as in `sparseacc.Graph`. num_nodes is static. Edges whose receiver is num_nodes are padding: they count for
        nothing, whatever else they hold.
    x : array_like, shape (rows, n1, channels)
        A row for each node, or for each edge where there are no senders. float32, float64, complex64, complex128, or
        float16 and bfloat16 (summed in float32). Dtypes promote as JAX promotes them, integers to its default float.
    y : array_like, shape (rows, n2) or (rows, n2, channels)
        A row for each edge, or for each that ``rows_of_y`` of the graph names. One number for all channels may have an
        axis of length 1, here and in weights.
    weights : array_like, shape (rows, num_paths) or (rows, num_paths, channels), optional
        A row for each edge, or for each that ``rows_of_weights`` of the graph names. None is all ones.
    axis : int
        The axis of the components, -2 or -1; in that case the channels are before it, in every array that has them.

    Returns
    -------
    jax.Array, shape (num_nodes, n_out, channels)
        Zero where a node receives nothing.

    Raises
    ------
    TypeError
        If rule is no Rule or graph no graph, indices are no integers, a dtype is not one of those above, or JAX would
        shorten the numbers of a NumPy array.
    ValueError
        If a length is not the rule's, the number of rows is not that of the edges, or channels differ.
    jax.errors.JaxRuntimeError
        If an index is out of range, which is seen when the function runs.

    Examples
    --------
    The gradient of a function of the edges' vectors, of which the last one is padding:

    >>> import jax
    >>> import sparseacc.jax
    >>> rule = sparseacc.tensor_product("8x0e + 8x1o", "0e + 1o", "0e")
    >>> senders, receivers = jax.numpy.array([0, 1, 2, 3]), jax.numpy.array([1, 2, 0, 3])
    >>> x, y = jax.numpy.ones((3, 4, 8)), jax.numpy.ones((4, 4))
    >>> energy = lambda y: (sparseacc.jax.message_passing(rule, (senders, receivers, 3), x, y) ** 2).sum()
    >>> jax.jit(jax.grad(energy))(y)[:, 0].round(3)
    Array([16., 16., 16.,  0.], dtype=float32)
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
    at = component_axis(axis)
    named = {"x": x, "y": y} if weights is None else {"x": x, "y": y, "weights": weights}
    named = {name: as_array(value, name) for name, value in named.items()}
    named |= {name: without_channels(value, at) for name, value in named.items() if name != "x"}
    dtype = jnp.result_type(*named.values())
    dtype = jnp.result_type(float) if dtype.kind in "iu" else dtype
    columns, num_nodes = index_arrays(graph, named["x"].shape[0] if named["x"].ndim else 0)
    edges = next(column.shape[0] for column in columns if column is not None)
    shapes = {name: value.shape for name, value in named.items()}
    check_edges(shapes, rule.shape, rule.num_paths, at, edges, dict(zip(COLUMNS, columns, strict=True)))
    arrays = {name[0]: value.astype(dtype) for name, value in named.items()}
    result: jax.Array = computed(Sums(rule, at, num_nodes, ("out",)), arrays, columns)["out"]
    return result
