"""The reference of fuzzed calls: that of tests/support/oracle.py and edges.py without loops, so that a million of calls
can be compared. `test_fuzz.py` compares it with those.

Arrays come in double precision with their components last; everything here is a sum over terms and over a batch.
"""

import math

import numpy as np
from oracle import bound, wide

COLUMNS = {"x1": "m1", "x2": "m2", "w": "path", "out": "mu"}


class Reference:
    """Of a rule, over a batch; `likes` has the batch of each operand, `rows` the rows that its batch is gathered from:
    for each number of the batch's first dimension, and how many there are.
    """

    def __init__(self, rule, dtype, batch, likes, rows=None):
        self.rule, self.dtype, self.batch, self.likes, self.rows = rule, dtype, batch, likes, rows or {}
        self.columns = {name: getattr(rule, column) for name, column in COLUMNS.items()}
        self.sizes = dict(zip(COLUMNS, (*rule.shape[:2], rule.num_paths, rule.shape[2])))

    def terms(self, operands, C):
        """The product of operands for each term, shape (..., nnz)."""
        product = C
        for name, array in operands.items():
            product = product * array[..., self.columns[name]]
        return np.broadcast_to(product, (*self.batch, len(C)))

    def form(self, slot, *products):
        """The derivative by the operand in a slot of a sum of products of operands, and its bound."""
        size, like = self.sizes[slot], self.likes[slot]
        hit = (self.columns[slot][:, None] == np.arange(size)).astype(float)
        value, absolute = np.zeros((*like, size)), np.zeros((*like, size))
        for operands in products:
            value = value + self._summed(self.terms(operands, self.rule.C) @ hit, like)
            absolutes = {name: abs(array) for name, array in operands.items()}
            absolute += self._summed(self.terms(absolutes, abs(self.rule.C)) @ hit, like)
        each = math.prod(self.batch) // max(math.prod(like), 1)
        count = np.broadcast_to(len(products) * each * hit.sum(axis=0), (*like, size))
        if slot in self.rows:
            value, absolute, count = (self._rows(a, *self.rows[slot]) for a in (value, absolute, count))
        return value, bound(count, absolute, self.dtype)

    def coefficients(self, operands):
        """The derivative by C, and its bound."""
        ones = np.ones(self.rule.nnz)
        value = self._summed(self.terms(operands, ones), ())
        absolute = self._summed(self.terms({name: abs(a) for name, a in operands.items()}, ones), ())
        return value, bound(math.prod(self.batch), absolute, self.dtype)

    def _summed(self, array, like):
        """Summed over what an operand is broadcast along."""
        lead = array.ndim - 1 - len(like)
        ones = tuple(lead + d for d, n in enumerate(like) if n == 1 and array.shape[lead + d] != 1)
        return array.sum(axis=(*range(lead), *ones)).reshape((*like, array.shape[-1]))

    def _rows(self, array, index, number):
        total = np.zeros((number, *array.shape[1:]), array.dtype)
        np.add.at(total, index, array)
        return total


def components_last(array, axis):
    return np.moveaxis(wide(array), axis, -1)


def difference(result, expected):
    """What is wrong with a result, if anything is."""
    value, error = expected
    if result.shape != value.shape:
        return f"the shape is {result.shape}, not {value.shape}"
    off = abs(wide(result) - value)
    if np.all(off <= error):
        return None
    where = np.unravel_index(np.argmax(np.where(off <= error, 0, off) + np.isnan(off)), off.shape)
    return f"[{where}] is {result[where]}, not {value[where]}: off by {off[where]:.3g}, bound {error[where]:.3g}"
