"""Models of other packages whose slow parts are replaced by ours. None of these packages is imported."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .contractions import SymmetricContraction
from .tensor_products import TensorProduct, TensorProductConv


class Replaced(NamedTuple):
    """What `accelerate` did with a module.

    Attributes
    ----------
    name : str
        Of the module in the model.
    kind : str
        Its class.
    by : str
        What replaced it; empty if it was left.
    why : str
        Why it was left.
    """

    name: str
    kind: str
    by: str
    why: str


class _StandIn(torch.nn.Module):
    """Computes what another module does, whose parameters and buffers stay in the model under their names."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.tp = module

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of the module in whose place it stands."""
        return self.tp.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f"{prefix}tp.{key.removeprefix(prefix)}"] = state_dict.pop(key)


class _Product(_StandIn):
    """An e3nn TensorProduct."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.product = TensorProduct(module)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        if weight is None and self.tp.internal_weights and self.tp.weight_numel:
            weight = cast(Tensor, self.tp.weight)
        out: Tensor = self.product(x, y, weight)
        return out


class _Convolution(_StandIn):
    """An e3nn TensorProduct of gathered rows, and the sum over edges: of MACE, and of SevenNet."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.convolution = TensorProductConv(module)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, edges: Tensor, receivers: Tensor | None = None) -> Tensor:
        senders, receivers = (edges[0], edges[1]) if receivers is None else (edges, receivers)
        out: Tensor = self.convolution(x, y, weight, senders, receivers, x.shape[0])
        return out


class _Scatter(torch.nn.Module):
    """NequIP's TensorProductScatter."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.tp = module.tp
        self.convolution = TensorProductConv(module.tp)

    def forward(self, x: Tensor, edge_attr: Tensor, edge_weight: Tensor, edge_dst: Tensor, edge_src: Tensor) -> Tensor:
        out: Tensor = self.convolution(x, edge_attr, edge_weight, edge_src, edge_dst, x.shape[0])
        return out


def _fused_in_mace(block: Any) -> torch.nn.Module:
    """By the place that MACE has for a convolution that gathers and sums."""
    block.conv_tp = _Convolution(block.conv_tp)
    block.conv_fusion = True
    return block  # type: ignore[no-any-return]


def _fused_in_sevennet(module: Any) -> torch.nn.Module:
    """By SevenNet's own class for a convolution that gathers and sums."""
    fused = sys.modules[type(module).__module__].IrrepsScatterGatterFusedConvolution
    module.convolution = _Convolution(module.convolution)
    module._out_dim = module.convolution_kwargs["irreps_out"].dim
    module.__class__ = fused
    return module  # type: ignore[no-any-return]


_MACE_BLOCKS = (
    "RealAgnosticInteractionBlock",
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
)
_KNOWN: dict[tuple[str, str], tuple[str, Callable[[Any], torch.nn.Module]]] = {
    ("mace.modules.symmetric_contraction", "SymmetricContraction"): ("SymmetricContraction", SymmetricContraction),
    **{("mace.modules.blocks", name): ("TensorProductConv", _fused_in_mace) for name in _MACE_BLOCKS},
    ("nequip.nn._tp_scatter_base", "TensorProductScatter"): ("TensorProductConv", _Scatter),
    ("sevenn.nn.convolution", "IrrepsConvolution"): ("TensorProductConv", _fused_in_sevennet),
}
"""By the module and name of a class: what stands in for it, and how that is made."""


def _recognised(module: torch.nn.Module) -> tuple[str, Callable[[Any], torch.nn.Module]] | None:
    kind = type(module)
    found = _KNOWN.get((kind.__module__, kind.__name__))
    if found is None and any(c.__name__ == "TensorProduct" and c.__module__.startswith("e3nn.") for c in kind.__mro__):
        return "TensorProduct", _Product
    return found


def accelerate(model: torch.nn.Module, *, verbose: bool = False, report: bool = False) -> Any:
    """Replaces, in a model, every module that is known here by one that computes the same, in place.

    Known are e3nn's ``TensorProduct`` with instructions that `sparseacc.from_e3nn` takes; MACE's
    ``SymmetricContraction``; and where rows are gathered, multiplied and summed over edges, the convolutions of MACE,
    NequIP and SevenNet. Parameters and buffers stay the model's, under the same names, so that its state_dict is the
    same and optimizers go on. Numbers change by rounding alone. It was tested with mace-torch 0.3.16, nequip 0.19.1,
    sevenn 0.13.0 and e3nn 0.6.0. None of them is imported; of other versions what has another class is left.

    Parameters
    ----------
    model : torch.nn.Module
        Before torch.compile or TorchScript compile it.
    verbose : bool
        Whether to print a table of what was replaced, what was left, and why.
    report : bool
        Whether to return the table, too.

    Returns
    -------
    torch.nn.Module, or with report (torch.nn.Module, list of Replaced)
        The same model, or what stands in for it if it is a known module itself. A `Replaced` has the attributes name,
        kind, by (empty if it was left) and why.

    Raises
    ------
    TypeError
        If model is no torch.nn.Module, or has been compiled.

    Warns
    -----
    UserWarning
        If nothing was replaced, and neither verbose nor report says so.

    Examples
    --------
    >>> import torch
    >>> from sparseacc.torch import accelerate
    >>> accelerate(torch.nn.Sequential(torch.nn.Linear(2, 2)), report=True)[1]
    []
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise TypeError("model has been compiled, and cannot be changed: call accelerate before it is compiled")
    table: list[Replaced] = []
    replaced = _walked(model, "", table)
    if verbose:
        print(_as_table(table))
    elif not report and not any(isinstance(module, _STANDING_IN) for module in replaced.modules()):
        left = f"{len(table)} were left: verbose=True says why"
        warnings.warn(f"nothing was replaced: {left}" if table else _NOTHING, stacklevel=2)
    return (replaced, table) if report else replaced


_STANDING_IN = (_StandIn, _Scatter, SymmetricContraction)
_NOTHING = "nothing was replaced: the model holds no module that is known"


def _walked(module: torch.nn.Module, name: str, table: list[Replaced]) -> torch.nn.Module:
    """What stands in for a module, in which all that is known has been replaced."""
    if isinstance(module, _STANDING_IN):
        return module
    known, kind = _recognised(module), type(module).__name__
    if known:
        by, make = known
        try:
            found = make(module)
        except (TypeError, ValueError) as error:
            table.append(Replaced(name, kind, "", str(error)))
        else:
            table.append(Replaced(name, kind, by, ""))
            if found is not module:
                found.train(module.training)
                return found
    for child, inner in list(module.named_children()):
        stands_in = _walked(inner, f"{name}.{child}" if name else child, table)
        if stands_in is not inner:
            module._modules[child] = stands_in
    return module


def _as_table(table: list[Replaced]) -> str:
    if not table:
        return _NOTHING
    rows = [(each.name or "(the model)", each.kind, each.by or f"left: {each.why}") for each in table]
    first, second = (max(len(row[i]) for row in rows) for i in range(2))
    return "\n".join(f"{name:{first}}  {kind:{second}}  {what}" for name, kind, what in rows)
