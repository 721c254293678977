"""A rule's product term by term, of rows with channels."""

import numpy as np


def loop(rule, x1, x2, weights):
    """Term by term, along axis -2."""
    batch = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2], weights.shape[:-2])
    out = np.zeros((*batch, rule.shape[2], max(x1.shape[-1], x2.shape[-1])))
    for m1, m2, mu, C, path in zip(rule.m1, rule.m2, rule.mu, rule.C, rule.path, strict=True):
        out[..., mu, :] += C * weights[..., path, :] * x1[..., m1, :] * x2[..., m2, :]
    return out
