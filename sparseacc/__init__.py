"""Sparse accumulation on arrays: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]``, and its derivatives."""

from . import cpu
from .accumulation import accumulate
from .angular import clebsch_gordan
from .cpu.threads import get_num_threads, set_num_threads
from .rule import Rule

__version__ = "0.1.0"

__all__ = ["Rule", "accumulate", "clebsch_gordan", "cpu", "get_num_threads", "set_num_threads"]
