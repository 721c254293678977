"""Products of tensors by one rule. For those who have PyTorch."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from broadcast import RULE
from frameworks import Torch
from strategies import numbers

import sparseacc.torch as bridge

array, numpy = Torch().array, Torch().numpy


def product(x1, x2):
    return bridge.product(RULE, x1, x2)


def tensors(rng, batch1=(4,), batch2=(4,), dtype="f8", grad=True):
    pair = (array(numbers(rng, (*batch, n), dtype)) for batch, n in ((batch1, 3), (batch2, 5)))
    return [x.requires_grad_(grad) for x in pair]
