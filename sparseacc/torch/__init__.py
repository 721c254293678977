"""Sparse accumulation in PyTorch: autograd to any order, torch.compile, torch.export, torch.func.

`product` multiplies by a `sparseacc.Rule`. The other names are those of the original package, sparse_accumulation, so
that its users change one import.
"""

from .original import (
    CGCalculatorSingle,
    accumulate,
    accumulate_active_dim_first,
    accumulate_active_dim_middle,
    get_cg_transformation_rule,
)
from .products import product

__all__ = [
    "CGCalculatorSingle",
    "accumulate",
    "accumulate_active_dim_first",
    "accumulate_active_dim_middle",
    "get_cg_transformation_rule",
    "product",
]
