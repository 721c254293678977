"""Message passing of JAX arrays by one rule. For those who have JAX."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="JAX is not installed")

import edges
import jax
import jax.numpy as jnp
from edges import CHANNELS, RULE

import sparseacc.jax as bridge


def operands(rng, rows, dtype="f8", *, weights=True, **channels):
    """As many arguments of a call as there are with or without weights."""
    return [jnp.array(a) for a in edges.operands(rng, RULE, rows, CHANNELS, dtype, **channels)[: 2 + weights]]


def passed(graph, *arrays):
    return bridge.message_passing(RULE, graph, *arrays)


def close(a, b, tolerance=1e-10):
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    largest = [max(1, float(abs(q).max(initial=0))) for _, q in pairs]
    return all(np.allclose(p, q, rtol=tolerance, atol=tolerance * n) for (p, q), n in zip(pairs, largest, strict=True))
