"""Lets C repeat a call by itself, for frameworks that call C and not Python (recall.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from ._kernel import ffi, lib
from .execution import Plan

_MOST, _MOST_BYTES = 1024, 2**26
_kept: dict[tuple[bytes, int], tuple[Any, Any]] = {}
"""Texts and programs that C has been given."""
_stays = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
"""Lets an object stay for as long as the process: frameworks call C in threads that go on when Python has ended."""


def remember(text: bytes, numbers: Sequence[int], plan: Plan) -> None:
    """A call, under the text of its rule and the numbers that it depends on; no new rule's after 1024, or 64 MB."""
    key = text, id(plan.program)
    kept = _kept.get(key)
    if kept is None:
        held = sum(len(letters) + program.nbytes for letters, program in list(_kept.values()))
        if len(_kept) >= _MOST or held >= _MOST_BYTES:
            return
        kept = _kept.setdefault(key, (ffi.new("char[]", text), plan.program))  # another thread's, if it was first
        _stays(kept)
    lib.sa_remember(kept[0], len(text), numbers, len(numbers), plan.call, len(plan.layout))
