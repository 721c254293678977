"""Tensor products of e3nn, and their sums over edges, as modules that take and give e3nn's flat layout."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..channels import from_channels, to_channels
from ..tensor_products import from_e3nn
from .messages import indices, passed


class _Couplings(torch.nn.Module):
    """What both modules are: the rule of an e3nn product, and e3nn's arrays as those of the rule."""

    def __init__(self, tp: Any) -> None:
        super().__init__()
        self.rule = from_e3nn(tp)
        self._has_weights = any(instruction.has_weight for instruction in tp.instructions)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return repr(self.rule)

    def _rows(self, x: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """x, y and the weights of flat ones (rows, dim)."""
        rule = self.rule
        for name, flat, irreps, dim in (
            ("x", x, rule.irreps1, rule.shape[0] * rule.channels),
            ("y", y, rule.irreps2, rule.shape[1] * rule.channels2),
        ):
            if flat.ndim != 2 or flat.shape[1] != dim:
                raise ValueError(f"{name} must be (rows, {dim}), as {irreps}, but its shape is {tuple(flat.shape)}")
        x = to_channels(x, rule.irreps1, channels=rule.channels)
        y = to_channels(y, rule.irreps2, channels=rule.channels2)
        numel = rule.num_paths * rule.channels if self._has_weights else 0
        if (0 if weight is None else weight.shape[-1]) != numel:
            given = "None" if weight is None else f"of shape {tuple(weight.shape)}"
            raise ValueError(
                f"weight is {given}, but must be {f'(..., {numel})' if numel else 'None'} for this product"
                f"{': pass tp.weight, if it holds its own' if weight is None else ''}"
            )
        if weight is not None:
            weight = weight.reshape(-1, rule.num_paths, rule.channels)
        return x, y[..., 0] if rule.channels2 == 1 else y, weight

    def _summed(self, graph: tuple[Any, ...], x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """The sums over edges, flat; of weights without a batch the graph names the only row."""
        senders, receivers, rows_of_y, rows_of_weights, num_nodes = graph
        if weight is not None and weight.ndim == 1:
            rows_of_weights = torch.zeros(y.shape[0], dtype=torch.int64, device=y.device)
        graph = senders, receivers, rows_of_y, rows_of_weights, num_nodes
        out = passed(self.rule, graph, *self._rows(x, y, weight), -2)
        return from_channels(out, self.rule.irreps_out, channels=self.rule.channels)


class TensorProduct(_Couplings):
    """An ``e3nn.o3.TensorProduct``, computed here: the same shapes, layout and numbers.

    It has no parameters and no buffers: weights are given in every call, also those that `tp` holds itself
    (``tp.weight``). Differentiable to any order, in torch.compile without graph breaks.

    Parameters
    ----------
    tp : e3nn.o3.TensorProduct
        With instructions that `sparseacc.from_e3nn` takes, all with weights or all without.

    Raises
    ------
    TypeError, ValueError
        As `sparseacc.from_e3nn` does.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace as Like
    >>> from sparseacc.torch import TensorProduct
    >>> instruction = Like(i_in1=0, i_in2=0, i_out=0, connection_mode="uvu", has_weight=True, path_weight=3**0.5)
    >>> tp = Like(irreps_in1="8x1o", irreps_in2="1x1o", irreps_out="8x1e", instructions=[instruction])
    >>> TensorProduct(tp)(torch.ones(10, 24), torch.ones(10, 3), torch.ones(10, 8)).shape
    torch.Size([10, 24])
    """

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The product.

        Parameters
        ----------
        x, y : torch.Tensor, shape (..., irreps_in1.dim) and (..., irreps_in2.dim)
            Their batches broadcast, with that of weight.
        weight : torch.Tensor, shape (weight_numel,) or (..., weight_numel)
            None where the product has no weights.

        Returns
        -------
        torch.Tensor, shape (..., irreps_out.dim)

        Raises
        ------
        ValueError
            If a length is not that of the irreps, or batches do not broadcast.
        """
        shared = weight is None or weight.ndim == 1
        batches = [x.shape[:-1], y.shape[:-1], *([] if weight is None or shared else [weight.shape[:-1]])]
        batch = torch.broadcast_shapes(*batches)
        rows = math.prod(batch)
        x, y = (t.expand(*batch, t.shape[-1]).reshape(rows, t.shape[-1]) for t in (x, y))
        if weight is not None and not shared:
            weight = weight.expand(*batch, weight.shape[-1]).reshape(rows, weight.shape[-1])
        out = self._summed(indices((None, None, rows), x), x, y, weight)
        return out.reshape(*batch, out.shape[-1])


class TensorProductConv(_Couplings):
    """An ``e3nn.o3.TensorProduct`` of gathered rows, summed over edges: what a convolution does, in one call.

    It equals gathering ``x[senders]``, the product, and ``index_add`` to receivers, without arrays of edges times
    features. It has no parameters and no buffers. Differentiable to any order, in torch.compile without graph breaks.

    Parameters
    ----------
    tp : e3nn.o3.TensorProduct
        As for `TensorProduct`.

    Raises
    ------
    TypeError, ValueError
        As `sparseacc.from_e3nn` does.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace as Like
    >>> from sparseacc.torch import TensorProductConv
    >>> instruction = Like(i_in1=0, i_in2=0, i_out=0, connection_mode="uvu", has_weight=True, path_weight=3**0.5)
    >>> tp = Like(irreps_in1="8x1o", irreps_in2="1x1o", irreps_out="8x1e", instructions=[instruction])
    >>> senders, receivers = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    >>> x, y, weight = torch.ones(3, 24), torch.ones(3, 3), torch.ones(3, 8)
    >>> TensorProductConv(tp)(x, y, weight, senders, receivers, 3).shape
    torch.Size([3, 24])
    """

    def forward(
        self, x: Tensor, y: Tensor, weight: Tensor | None, senders: Tensor, receivers: Tensor, num_nodes: int
    ) -> Tensor:
        """The sums over edges.

        Parameters
        ----------
        x : torch.Tensor, shape (rows, irreps_in1.dim)
            A row for each node.
        y : torch.Tensor, shape (num_edges, irreps_in2.dim)
            A row for each edge.
        weight : torch.Tensor, shape (weight_numel,) or (num_edges, weight_numel)
            None where the product has no weights.
        senders, receivers : torch.Tensor of int, shape (num_edges,)
            The row of x that each edge reads, and the row of the result that it adds to.
        num_nodes : int
            Rows of the result.

        Returns
        -------
        torch.Tensor, shape (num_nodes, irreps_out.dim)

        Raises
        ------
        TypeError, ValueError
            As `message_passing` does.
        """
        return self._summed(indices((senders, receivers, num_nodes), x), x, y, weight)
