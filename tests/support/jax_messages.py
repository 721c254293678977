"""Message passing of JAX arrays by one rule. For those who have JAX."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="JAX is not installed")

import jax
import jax.numpy as jnp
from edges import CHANNELS, RULE
from strategies import numbers

import sparseacc.jax as bridge


def operands(rng, rows, dtype="f8", *, y_has_channels=False, w_has_channels=True, weights=True):
    shapes = [
        (rows[0], RULE.shape[0], CHANNELS),
        (rows[1], RULE.shape[1], *[CHANNELS] * y_has_channels),
        (rows[2], RULE.num_paths, *[CHANNELS] * w_has_channels),
    ]
    return [jnp.array(numbers(rng, shape, dtype)) for shape in shapes[: 2 + weights]]


def passed(graph, *arrays):
    return bridge.message_passing(RULE, graph, *arrays)


def close(a, b, tolerance=1e-10):
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    largest = [max(1, float(abs(q).max(initial=0))) for _, q in pairs]
    return all(np.allclose(p, q, rtol=tolerance, atol=tolerance * n) for (p, q), n in zip(pairs, largest, strict=True))
