"""Tensors for message passing by one rule. For those who have PyTorch."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import edges
from edges import CHANNELS, RULE
from frameworks import Torch

array, numpy = Torch().array, Torch().numpy


def operands(rng, rows, dtype="f8", *, weights=True, grad=True, **channels):
    """As many arguments of a call as there are with or without weights."""
    arrays = edges.operands(rng, RULE, rows, CHANNELS, dtype, **channels)[: 2 + weights]
    return [array(a).requires_grad_(grad) for a in arrays]
