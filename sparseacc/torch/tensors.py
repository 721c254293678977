"""Tensors as the arrays that engines take, on the same memory, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch

from ..algebra import Operation
from ..calls import dtypes
from ..calls.libraries import torch_reach
from ..rule import Rule
from ..terms import as_text
from .operators import COMPUTED

Tensor = torch.Tensor
INTEGERS = frozenset((torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def text_of(rule: Rule) -> str:
    """The rule as a constant of a graph: torch.compile calls this where it meets a rule, and does not trace it."""
    return as_text(rule)


def check_tensor(x: Any, name: str) -> None:
    """Refuses what is no dense tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is None, but must be a torch.Tensor"
            if x is None
            else f"{name} must be a torch.Tensor, not {type(x).__name__}: convert it with torch.as_tensor"
        )
    if x.layout is not torch.strided:
        raise TypeError(f"{name} has the layout {x.layout}, but must be dense: pass {name}.to_dense()")


def check_devices(named: Mapping[str, Tensor]) -> None:
    """Refuses tensors on several devices."""
    (first, like), *others = named.items()
    for name, x in others:
        if x.device != like.device:
            raise ValueError(f"{first} is on {like.device} and {name} on {x.device}: move one of them first")


def common_dtype(named: Mapping[str, Tensor]) -> torch.dtype:
    """What torch promotes the dtypes to, and integers alone to float64."""
    for name, x in named.items():
        if x.dtype not in COMPUTED and x.dtype not in INTEGERS:
            raise TypeError(
                f"{name} has dtype {x.dtype}, which cannot be computed with: convert it with {name}.to(...)"
            )
    dtype = reduce(torch.promote_types, (x.dtype for x in named.values()))
    return torch.float64 if dtype in INTEGERS else dtype


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
