"""Tensors as the arrays that engines take, on the same memory, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..algebra import Operation
from ..calls import dtypes
from ..calls.dlpack import torch_reach

Tensor = torch.Tensor


def taken(operation: Operation, tensors: Sequence[Tensor | None]) -> list[Any]:
    """Views of tensors' memory on the host; those on a GPU as they are, for DLPack to hand over."""
    return [None if x is None else viewed(x, name) for x, (name, _) in zip(tensors, operation.inputs, strict=True)]


def viewed(tensor: Tensor, name: str) -> Any:
    """A tensor's memory as an array on the host; a tensor on a GPU as it is."""
    check_storage(tensor, name)
    if not tensor.is_cpu:
        return tensor.detach()
    array = np.asarray(_Memory(tensor.clone() if tensor._is_zerotensor() else tensor))
    return array.view(dtypes.bfloat16(name)) if tensor.dtype is torch.bfloat16 else array


_TYPES = {getattr(torch, name): np.dtype("u2" if name == "bfloat16" else name).str for name in dtypes.STORED}


class _Memory:
    """What NumPy needs for a view of a tensor, which it keeps. Tensor.numpy would forbid for ever that the storage is
    resized, as FSDP does it after each use of a parameter.
    """

    __slots__ = ("__array_interface__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape),
            "typestr": _TYPES[tensor.dtype],
            "data": (tensor.data_ptr(), False),
            "strides": tuple(step * tensor.itemsize for step in tensor.stride()),
        }


def check_storage(tensor: Tensor, name: str) -> None:
    """Refuses a tensor whose memory has been taken away, as FSDP does it with parameters that it has sharded."""
    needed, there = torch_reach(tensor), tensor.untyped_storage().nbytes()
    if there < needed:
        raise ValueError(f"{name} has no memory: it needs a storage of {needed} bytes, but that has {there}")


def given_back(result: Any) -> Tensor:
    """A result as a tensor."""
    if isinstance(result, torch.Tensor):
        return result
    if result.dtype.name != "bfloat16":
        return torch.from_numpy(result)
    return torch.from_numpy(result.view(np.int16)).view(torch.bfloat16)
