"""Products of JAX arrays by one rule. For those who have JAX."""

import pytest

pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp
from broadcast import RULE
from strategies import numbers

import sparseacc.jax as bridge


def product(x1, x2):
    return bridge.product(RULE, x1, x2)


def arrays(rng, batch1=(4,), batch2=(4,), dtype="f8"):
    return jnp.array(numbers(rng, (*batch1, 3), dtype)), jnp.array(numbers(rng, (*batch2, 5), dtype))
