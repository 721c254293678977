"""Spares compiled code what operators do for derivatives: torch.compile has taken those before it comes to code.

Torch's autograd enters Python in every call of an operator that has derivatives, also where nobody asks for them. So
code calls operators of the same kernels that have none (their names end in _plain).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any


def prepare(plain: Mapping[Any, Any]) -> None:
    """Tells torch's code generator, once it has been imported, which operators to call instead."""
    if "torch._inductor.lowering" in sys.modules:
        _prepare(tuple(plain.items()))


@lru_cache(maxsize=1)
def _prepare(plain: tuple[tuple[Any, Any], ...]) -> None:
    # The generator's interface is torch's own, and may change: then code calls the operators themselves.
    with suppress(ImportError, AttributeError, TypeError):
        from torch._inductor.lowering import fallback_handler, register_lowering

        for op, other in plain:
            register_lowering(op, type_promotion_kind=None)(fallback_handler(other, add_to_fallback_set=False))
