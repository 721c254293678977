"""Sparse accumulation on arrays: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]``, and its derivatives."""

from importlib import import_module
from typing import Any

from . import cpu
from .accumulation import accumulate
from .angular import clebsch_gordan
from .calls.plans import cache_clear, cache_info
from .cpu.threads import get_num_threads, set_num_threads
from .graph import Graph
from .messages import message_passing, message_passing_vjp, message_passing_vjp_vjp
from .rule import Rule
from .version import __version__ as __version__

__all__ = [
    "Graph",
    "Rule",
    "accumulate",
    "cache_clear",
    "cache_info",
    "clebsch_gordan",
    "cpu",
    "get_num_threads",
    "message_passing",
    "message_passing_vjp",
    "message_passing_vjp_vjp",
    "set_num_threads",
]

_ON_DEMAND = ("cuda", "jax", "torch")


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
