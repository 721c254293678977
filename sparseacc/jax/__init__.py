"""Sparse accumulation in JAX: jit, grad and jvp to any order, vmap, shard_map, on the CPU."""

from .products import product

__all__ = ["product"]
