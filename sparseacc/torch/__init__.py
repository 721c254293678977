"""Sparse accumulation in PyTorch: autograd to any order, torch.compile, torch.export, torch.func.

`product` multiplies by a `sparseacc.Rule`, and `message_passing` sums such products over edges. The other names are
those of the original package, sparse_accumulation, so that its users change one import.
"""

from ..extras import how_to_install

try:
    import torch as _torch
except ImportError as error:
    _needed = f"sparseacc.torch needs PyTorch 2.6 or newer: {how_to_install('torch')}"
    raise ModuleNotFoundError(_needed, name="torch") from error
if tuple(map(int, _torch.__version__.split(".")[:2])) < (2, 6):
    _is = f"this is PyTorch {_torch.__version__}"
    raise ImportError(f"sparseacc.torch needs PyTorch 2.6 or newer, but {_is}: {how_to_install('torch')}", name="torch")

from . import message_ops as _message_ops  # noqa: F401 - it registers operators
from . import ops as _ops  # noqa: F401 - and so does it
from .contractions import SymmetricContraction
from .messages import message_passing
from .models import accelerate
from .original import (
    CGCalculatorSingle,
    accumulate,
    accumulate_active_dim_first,
    accumulate_active_dim_middle,
    get_cg_transformation_rule,
)
from .polynomials import polynomial
from .products import product
from .tensor_products import TensorProduct, TensorProductConv

__all__ = [
    "CGCalculatorSingle",
    "SymmetricContraction",
    "TensorProduct",
    "TensorProductConv",
    "accelerate",
    "accumulate",
    "accumulate_active_dim_first",
    "accumulate_active_dim_middle",
    "get_cg_transformation_rule",
    "message_passing",
    "polynomial",
    "product",
]
