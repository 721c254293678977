"""MACE's symmetric contraction as a module that stands in for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..channels import from_channels
from ..mace import from_mace
from .polynomials import polynomial


class SymmetricContraction(torch.nn.Module):
    """MACE's ``SymmetricContraction``, computed here: the same inputs, layout, numbers, parameters and state_dict.

    Differentiable to any order, in torch.compile without graph breaks, where `y` is taken to be one-hot, as MACE's node
    attributes are; elsewhere any `y` is right.

    Parameters
    ----------
    module : mace.modules.symmetric_contraction.SymmetricContraction
        Its contractions stay what they are: their parameters and buffers are used, and saved, under the same names.

    Raises
    ------
    TypeError, ValueError
        As `sparseacc.from_mace` does.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.contractions = module.contractions
        self.irreps_in, self.irreps_out = module.irreps_in, module.irreps_out
        self.polynomial, matrix = from_mace(module)
        self._matrix = torch.from_numpy(matrix)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return repr(self.polynomial)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The contraction.

        Parameters
        ----------
        x : torch.Tensor, shape (atoms, channels, dim)
            The components of irreps_in, for every channel.
        y : torch.Tensor, shape (atoms, elements)
            How much of the weights of each element an atom has: 1 for its own and 0 for the others.

        Returns
        -------
        torch.Tensor, shape (atoms, irreps_out.dim)
        """
        held = [w for part in self.contractions for w in (part.weights_max, *part.weights)]
        weights = torch.einsum("pk,ekc->epc", self._matrix.to(held[0]), torch.cat(held, 1))
        if torch.compiler.is_compiling() or _is_one_hot(y):
            rows = y.argmax(1)
        else:
            weights, rows = torch.einsum("ae,epc->apc", y, weights), torch.arange(len(y), device=y.device)
        out = polynomial(self.polynomial, x.transpose(1, 2), weights, rows_of_weights=rows)
        flat: Tensor = from_channels(out, self.polynomial.irreps_out, channels=x.shape[1])
        return flat


def _is_one_hot(y: Tensor) -> bool:
    if y.requires_grad:
        return False
    ones = y == 1
    return bool(((ones.sum(1) == 1) & ((y == 0).sum(1) == y.shape[1] - 1)).all())
