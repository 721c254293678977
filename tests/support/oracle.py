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


def _loop(C, out, factors, size, batch):
    """out[..., o] += C a[..., i] b[..., j] ... for every term, with the active axis last and the batches broadcast."""
    result = np.zeros((*batch, size), np.result_type(float, *(a for a, _ in factors)))
    for k in range(len(C)):
        result[..., out[k]] += C[k] * np.prod(np.broadcast_arrays(*(a[..., i[k]] for a, i in factors)), axis=0)
    return result


class Oracle:
    """Weights are one factor more, by the terms' paths."""

    def __init__(self, rule, x1, x2, axis=-1, dtype=None, weights=None):
        given = [a for a in (x1, x2, weights) if a is not None]
        self.rule, self.axis = rule, axis
        self.dtype = np.dtype(dtype or np.result_type(*given))
        self.x1, self.x2 = self.last(x1), self.last(x2)
        self.weights = None if weights is None else self.last(weights)
        self.batch = np.broadcast_shapes(*(self.last(a).shape[:-1] for a in given))

    def last(self, array):
        return np.moveaxis(wide(array), self.axis, -1)

    def _accumulate(self, size, out, products, batch=None):
        """The sum over products of factors (a, index), reduced to `batch`, and its bound."""
        batch = self.batch if batch is None else batch
        ones = np.ones_like(self.rule.C)
        total, absolute, terms = (np.zeros((*batch, size)) for _ in range(3))
        for factors in products:
            for kind in range(3):
                C = (self.rule.C, abs(self.rule.C), ones)[kind]
                of = (lambda a: a, abs, lambda a: np.ones_like(a, float))[kind]
                value = _sum_to(_loop(C, out, [(of(a), i) for a, i in factors], size, self.batch), (*batch, size))
                if kind == 0:
                    total = total + value
                elif kind == 1:
                    absolute += value
                else:
                    terms += value
        return tuple(np.moveaxis(v, -1, self.axis) for v in (total, bound(terms, absolute, self.dtype)))

    def _factors(self):
        """x1, x2 and weights, each with its index."""
        r = self.rule
        all_factors = [(self.x1, r.m1), (self.x2, r.m2)]
        return all_factors if self.weights is None else [*all_factors, (self.weights, r.path)]

    def _replaced(self, *others):
        """The factors, with others in the place of some: (which, array) or (which, array, index)."""
        factors = self._factors()
        for which, array, *index in others:
            factors[which] = (array, *index) if index else (self.last(array), factors[which][1])
        return factors

    def _sizes(self):
        return (*self.rule.shape[:2], self.rule.num_paths)

    def product(self):
        return self._accumulate(self.rule.shape[2], self.rule.mu, [self._factors()])

    def vjp(self, dy):
        return tuple(
            self._accumulate(self._sizes()[n], index, [self._replaced((n, self.last(dy), self.rule.mu))], x.shape[:-1])
            for n, (x, index) in enumerate(self._factors())
        )

    def jvp(self, *tangents):
        products = [self._replaced((n, dx)) for n, dx in enumerate(tangents) if dx is not None]
        return self._accumulate(self.rule.shape[2], self.rule.mu, products)

    def vjp_vjp(self, z1, z2, dy, zw=None):
        zs, dy = [(n, z) for n, z in enumerate((z1, z2, zw)) if z is not None], (self.last(dy), self.rule.mu)
        return (
            self._accumulate(self.rule.shape[2], self.rule.mu, [self._replaced(z) for z in zs]),
            *(
                self._accumulate(
                    self._sizes()[n], index, [self._replaced(z, (n, *dy)) for z in zs if z[0] != n], x.shape[:-1]
                )
                for n, (x, index) in enumerate(self._factors())
            ),
        )

    def coefficient_vjp(self, dy):
        r, dy = self.rule, self.last(dy)
        factors = [(dy, r.mu), *self._factors()]
        result = np.zeros(r.nnz, np.result_type(*(a for a, _ in factors)))
        absolute = np.zeros(r.nnz)
        for k in range(r.nnz):
            product = np.prod(np.broadcast_arrays(*(a[..., i[k]] for a, i in factors)), axis=0)
            result[k], absolute[k] = product.sum(), abs(product).sum()
        return result, bound(np.prod(self.batch), absolute, self.dtype)


class PolynomialOracle:
    """The value of a polynomial and its derivatives, term by term, with one axis of rows for all arrays.

    A term of degree nu is a product of dy[mu], weights[path], and nu factors of x, in all of which its sum is linear:
    derivatives leave one of them out, and second ones have a tangent in the place of another.
    """

    def __init__(self, polynomial, x, weights, axis=-2, dtype=None, rows_of_weights=None):
        self.polynomial, self.axis, self.rows = polynomial, axis, rows_of_weights
        self.dtype = np.dtype(dtype or np.result_type(x, weights))
        self.of = {"x": self.last(x), "weights": self.taken(self.last(weights))}
        self.weights_shape = self.last(weights).shape
        self.batch = np.broadcast_shapes(*(a.shape[:-1] for a in self.of.values()))

    def last(self, array):
        return np.moveaxis(wide(array), self.axis, -1)

    def taken(self, weights):
        return weights if self.rows is None else weights[self.rows]

    def _sum(self, arrays, out, tangents, to):
        """Over terms: of all products without the factor `out`, once for each tangent in the place of another."""
        size = {"dy": self.polynomial.shape[1], "weights": self.polynomial.num_paths, "x": self.polynomial.shape[0]}
        total, absolute, terms = (np.zeros((*self.batch, size[out])) for _ in range(3))
        for m, mu, path, C in self.polynomial.terms:
            factors = [("dy", mu), ("weights", path), *(("x", column) for column in m.T)]
            for left_out, (name, index) in enumerate(factors):
                if name != out:
                    continue
                rest = [(arrays.get(n), n, i) for k, (n, i) in enumerate(factors) if k != left_out]
                for product in [rest] if tangents is None else _with_a_tangent(rest, tangents):
                    given = [(a, i) for a, _, i in product]
                    total = total + _loop(C, index, given, size[out], self.batch)
                    absolute += _loop(abs(C), index, [(abs(a), i) for a, i in given], size[out], self.batch)
                    ones = [(np.ones_like(a, float), i) for a, i in given]
                    terms += _loop(np.ones_like(C), index, ones, size[out], self.batch)
        total, absolute, terms = (self._reduced(v, to, size[out]) for v in (total, absolute, terms))
        error = bound(terms + self.polynomial.degree, absolute, self.dtype)
        return tuple(np.moveaxis(v, -1, self.axis) for v in (total, error))

    def _reduced(self, array, to, size):
        if to == "weights" and self.rows is not None:
            summed = np.zeros((*self.weights_shape[:-1], size), array.dtype)
            np.add.at(summed, self.rows, _sum_to(array, (*self.of[to].shape[:-1], size)))
            return summed
        return array if to is None else _sum_to(array, (*self.of[to].shape[:-1], size))

    def value(self):
        return self._sum(self.of, "dy", None, None)

    def vjp(self, dy):
        """For x and for the weights."""
        arrays = {**self.of, "dy": self.last(dy)}
        return tuple(self._sum(arrays, name, None, name) for name in ("x", "weights"))

    def vjp_vjp(self, zx, zw, dy):
        """The gradients of ``sum(zx * dx) + sum(zw * dw)`` for dy, x and the weights; None counts for nothing."""
        arrays = {**self.of, "dy": self.last(dy)}
        tangents = {} if zx is None else {"x": self.last(zx)}
        if zw is not None:
            tangents["weights"] = self.taken(self.last(zw))
        return tuple(
            self._sum(arrays, name, tangents, to) for name, to in (("dy", None), ("x", "x"), ("weights", "weights"))
        )


def _with_a_tangent(factors, tangents):
    """The factors, with a tangent in the place of each that has one."""
    for k, (_, name, index) in enumerate(factors):
        if name in tangents:
            yield [*factors[:k], (tangents[name], name, index), *factors[k + 1 :]]


def check(result, expected, shape=None):
    value, error = expected
    assert result.shape == (value.shape if shape is None else shape)
    difference = abs(wide(result) - value)
    assert np.all(difference <= error), f"error / bound up to {np.max(difference / np.maximum(error, 1e-300))}"
