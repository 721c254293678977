"""Makes C the CPU kernel of operators, through torch's stable C interface, where torch has it (from 2.13 on).

C repeats calls that have been made (cpu/native/torch.c), and leaves new ones to the operator whose name ends in _first.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..calls.dtypes import STORED
from ..cpu._kernel import ffi, lib
from ..cpu.execution import Plan
from ..cpu.recall import remember

_LIBRARY = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")


def register() -> bool:
    """Whether it could be done."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / _LIBRARY))
        functions = ffi.new("sa_torch *")
        for name, field in ffi.typeof("sa_torch").fields:
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            setattr(functions, name, ffi.cast(field.type, address))
        _numbers.update({getattr(torch, kind): getattr(library, f"aoti_torch_dtype_{kind}")() for kind in STORED})
    except (OSError, AttributeError):
        return False
    return not lib.sa_torch_register(functions)


def current_rule() -> str:
    """The text of the rule in the call that C has left to Python."""
    size = ffi.new("int64_t *")
    text = lib.sa_torch_rule(size)
    if not text:
        raise ValueError("operators whose names end in _first are for C alone: call the one without that")
    return ffi.unpack(text, size[0]).decode()  # type: ignore[no-any-return]


_numbers: dict[torch.dtype, int] = {}
"""Of dtypes, in the interface."""


def repeat(plan: Plan, tensors: Sequence[torch.Tensor], rule: str, axis: int) -> None:
    """Lets C repeat a call that has been made, under what it will see of it (repeated in torch.c).

    Sums and large results are left to Python, which adds up the first, and keeps the memory of the second.
    """
    if plan.small:
        numbers: list[int] = []
        for tensor in tensors:
            numbers += (_numbers[tensor.dtype], tensor.ndim)
            for pair in zip(tensor.shape, tensor.stride(), strict=True):
                numbers += pair
        length = plan.outputs[0].shape[axis] if len(plan.outputs) == 1 else 0
        remember(rule.encode(), [*numbers, axis, len(plan.outputs), length], plan)
