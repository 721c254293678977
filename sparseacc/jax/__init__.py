"""Sparse accumulation in JAX: jit, grad and jvp to any order, vmap, shards, on the CPU."""

from ..extras import how_to_install

try:
    import jax as _jax
except ImportError as error:
    raise ModuleNotFoundError(f"sparseacc.jax needs JAX 0.10 or newer: {how_to_install('jax')}", name="jax") from error
if _jax.__version_info__ < (0, 10):
    _is = f"this is JAX {_jax.__version__}"
    raise ImportError(f"sparseacc.jax needs JAX 0.10 or newer, but {_is}: {how_to_install('jax')}", name="jax")

from .messages import message_passing
from .polynomials import polynomial
from .products import product

__all__ = ["message_passing", "polynomial", "product"]
