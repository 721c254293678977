"""Sparse accumulation on arrays: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]``, and its derivatives."""

from importlib import import_module
from typing import Any

from . import cpu
from .accumulation import accumulate
from .angular import clebsch_gordan, gaunt
from .calls.plans import cache_clear, cache_info
from .channels import from_channels, to_channels
from .contractions import symmetric_contraction
from .cpu.embedding import get_include
from .cpu.threads import get_num_threads, set_num_threads
from .graph import Graph
from .mace import from_mace
from .messages import message_passing, message_passing_vjp, message_passing_vjp_vjp
from .polynomials import Polynomial
from .rotations import wigner_rotation
from .rule import Rule
from .tensor_products import from_e3nn, tensor_product
from .version import __version__ as __version__

__all__ = [
    "Graph",
    "Polynomial",
    "Rule",
    "accumulate",
    "cache_clear",
    "cache_info",
    "clebsch_gordan",
    "cpu",
    "from_channels",
    "from_e3nn",
    "from_mace",
    "gaunt",
    "get_include",
    "get_num_threads",
    "message_passing",
    "message_passing_vjp",
    "message_passing_vjp_vjp",
    "set_num_threads",
    "symmetric_contraction",
    "tensor_product",
    "to_channels",
    "wigner_rotation",
]

_ON_DEMAND = ("cuda", "dask", "jax", "torch")


def __dir__() -> list[str]:
    """What is for users."""
    return sorted([*__all__, *_ON_DEMAND])


def __getattr__(name: str) -> Any:
    """Imports the parts that not everyone uses when they are first named."""
    if name in _ON_DEMAND:
        try:
            return import_module(f"{__name__}.{name}")
        except ImportError as error:  # by which hasattr and help would fail
            raise AttributeError(str(error)) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
