"""The one reference: plain loops over the terms in double precision, written from the equations and not from the
package.

Every function returns the result and a bound on the error that a computation in `dtype` may make. The contract bounds
an element by ``(n + 2) eps S``: n products summed into it, S the sum of their absolute values, eps the spacing of the
dtype at 1. A result below the normal numbers is rounded to a multiple of the smallest subnormal instead, hence the
last term.
"""

import ml_dtypes
import numpy as np


def wide(array):
    return np.asarray(array).astype(np.complex128 if np.asarray(array).dtype.kind == "c" else np.float64)


def eps(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        dtype = np.empty(0, dtype).real.dtype
    return ml_dtypes.finfo(dtype)


def bound(n_terms, absolute, dtype):
    info = eps(dtype)
    return (n_terms + 2) * float(info.eps) * absolute + n_terms * float(info.smallest_subnormal)


def _sum_to(array, shape):
    lead = array.ndim - len(shape)
    array = array.sum(axis=tuple(range(lead)))
    return array.sum(axis=tuple(d for d, n in enumerate(shape) if n == 1 and array.shape[d] != 1), keepdims=True)


def _loop(C, out, a, b, size, batch):
    """out[..., o] += C a[..., i] b[..., j] for every term, with the active axis last and the batches broadcast."""
    result = np.zeros((*batch, size), np.result_type(a[0], b[0], float))
    for k in range(len(C)):
        result[..., out[k]] += C[k] * (a[0][..., a[1][k]] * b[0][..., b[1][k]])
    return result


class Oracle:
    def __init__(self, rule, x1, x2, axis=-1, dtype=None):
        self.rule, self.axis = rule, axis
        self.dtype = np.dtype(dtype or np.result_type(x1, x2))
        self.x1, self.x2 = self.last(x1), self.last(x2)
        self.batch = np.broadcast_shapes(self.x1.shape[:-1], self.x2.shape[:-1])

    def last(self, array):
        return np.moveaxis(wide(array), self.axis, -1)

    def _accumulate(self, size, out, pairs, batch=None):
        """The sum over pairs of factors ((a, index), (b, index)), reduced to `batch`, and its bound."""
        batch = self.batch if batch is None else batch
        ones = np.ones_like(self.rule.C)
        total, absolute, terms = (np.zeros((*batch, size)) for _ in range(3))
        for (a, i), (b, j) in pairs:
            for kind in range(3):
                C = (self.rule.C, abs(self.rule.C), ones)[kind]
                p, q = ((a, b), (abs(a), abs(b)), (np.ones_like(a, float), np.ones_like(b, float)))[kind]
                value = _sum_to(_loop(C, out, (p, i), (q, j), size, self.batch), (*batch, size))
                if kind == 0:
                    total = total + value
                elif kind == 1:
                    absolute += value
                else:
                    terms += value
        return tuple(np.moveaxis(v, -1, self.axis) for v in (total, bound(terms, absolute, self.dtype)))

    def product(self):
        r = self.rule
        return self._accumulate(r.shape[2], r.mu, [((self.x1, r.m1), (self.x2, r.m2))])

    def vjp(self, dy):
        r, dy = self.rule, self.last(dy)
        return (
            self._accumulate(r.shape[0], r.m1, [((dy, r.mu), (self.x2, r.m2))], self.x1.shape[:-1]),
            self._accumulate(r.shape[1], r.m2, [((dy, r.mu), (self.x1, r.m1))], self.x2.shape[:-1]),
        )

    def jvp(self, dx1, dx2):
        r = self.rule
        pairs = []
        if dx1 is not None:
            pairs.append(((self.last(dx1), r.m1), (self.x2, r.m2)))
        if dx2 is not None:
            pairs.append(((self.x1, r.m1), (self.last(dx2), r.m2)))
        return self._accumulate(r.shape[2], r.mu, pairs)

    def vjp_vjp(self, z1, z2, dy):
        r, dy = self.rule, self.last(dy)
        forward, first, second = [], [], []
        if z1 is not None:
            z1 = self.last(z1)
            forward.append(((z1, r.m1), (self.x2, r.m2)))
            second.append(((dy, r.mu), (z1, r.m1)))
        if z2 is not None:
            z2 = self.last(z2)
            forward.append(((self.x1, r.m1), (z2, r.m2)))
            first.append(((dy, r.mu), (z2, r.m2)))
        return (
            self._accumulate(r.shape[2], r.mu, forward),
            self._accumulate(r.shape[0], r.m1, first, self.x1.shape[:-1]),
            self._accumulate(r.shape[1], r.m2, second, self.x2.shape[:-1]),
        )

    def coefficient_vjp(self, dy):
        r, dy = self.rule, self.last(dy)
        result = np.zeros(r.nnz, np.result_type(dy, self.x1, self.x2))
        absolute = np.zeros(r.nnz)
        for k in range(r.nnz):
            product = dy[..., r.mu[k]] * self.x1[..., r.m1[k]] * self.x2[..., r.m2[k]]
            result[k], absolute[k] = product.sum(), abs(product).sum()
        return result, bound(np.prod(self.batch), absolute, self.dtype)


def check(result, expected, shape=None):
    value, error = expected
    assert result.shape == (value.shape if shape is None else shape)
    difference = abs(wide(result) - value)
    assert np.all(difference <= error), f"error / bound up to {np.max(difference / np.maximum(error, 1e-300))}"
