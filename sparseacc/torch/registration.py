"""Tells torch what it has to know of an operator but its kernels."""

from __future__ import annotations

from typing import Any

import torch

from .calling import functions
from .operators import library


def register(op: Any, fake: Any, save: Any, backward: Any, jvp: Any, vmap: Any) -> None:
    """Shapes, derivatives and vmap, of the operator and of the Function that stands for it in torch.func."""
    name = op.name().removesuffix(".default")
    torch.library.register_fake(name, fake, lib=library)
    torch.library.register_autograd(name, backward, setup_context=save, lib=library)
    torch.library.register_vmap(name, vmap, lib=library)
    methods = {"forward": op, "setup_context": save, "backward": backward, "jvp": jvp, "vmap": vmap}
    functions[op] = type(
        op.name(), (torch.autograd.Function,), {name: staticmethod(method) for name, method in methods.items()}
    )
