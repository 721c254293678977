"""Tensors for message passing by one rule. For those who have PyTorch."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from edges import CHANNELS, RULE
from frameworks import Torch
from strategies import numbers

array, numpy = Torch().array, Torch().numpy


def operands(rng, rows, dtype="f8", *, y_has_channels=False, w_has_channels=True, weights=True, grad=True):
    shapes = [
        (rows[0], RULE.shape[0], CHANNELS),
        (rows[1], RULE.shape[1], *[CHANNELS] * y_has_channels),
        (rows[2], RULE.num_paths, *[CHANNELS] * w_has_channels),
    ]
    return [array(numbers(rng, shape, dtype)).requires_grad_(grad) for shape in shapes[: 2 + weights]]
