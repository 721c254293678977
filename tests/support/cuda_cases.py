"""Calls of the CUDA kernels on the host, beside what the oracle says of them."""

import cuda_host
import numpy as np
from oracle import Oracle, check
from strategies import numbers


class Case:
    """Arrays for every operation, with weights or without, and what the oracle says of them."""

    def __init__(self, rule, x1, x2, axis, dtype, rng, weights=None):
        self.rule, self.axis = rule, axis
        oracle = Oracle(rule, x1, x2, axis, dtype, weights)
        dy = numbers(rng, oracle.product()[0].shape, dtype)
        z1, z2 = numbers(rng, x1.shape, dtype), numbers(rng, x2.shape, dtype)
        self.arrays = {"z1": z1, "z2": z2, "dx1": z1, "dx2": z2, "dy": dy, "x1": x1, "x2": x2}
        self.prefix, zw = "", None
        if weights is not None:
            zw = numbers(rng, weights.shape, dtype)
            self.prefix = "weighted_"
            self.arrays |= {"zw": zw, "dweights": zw, "weights": weights}
        self.expected = {
            "forward": lambda: [oracle.product()],
            "vjp": lambda: oracle.vjp(dy),
            "jvp": lambda: [oracle.jvp(z1, z2, zw)],
            "vjp_vjp": lambda: oracle.vjp_vjp(z1, z2, dy, zw),
            "coefficient_vjp": lambda: [oracle.coefficient_vjp(dy)],
        }

    def inputs(self, operation):
        return [self.arrays[name] for name, _ in operation.inputs]

    def expect(self, operation):
        return self.expected[operation.name.removeprefix(self.prefix)]()

    def check(self, operation):
        results = cuda_host.run(self.rule, operation, *self.inputs(operation), axis=self.axis)
        for result, expected in zip(results, self.expect(operation), strict=True):
            check(result, expected)


def case(rule, batches, axis, dtype, rng, layout=np.ascontiguousarray):
    """Of x1 and x2 with such batches, and of weights if there is a third."""
    lengths = (*rule.shape[:2], rule.num_paths)
    x1, x2, *weights = (layout(np.moveaxis(numbers(rng, (*b, n), dtype), -1, axis)) for b, n in zip(batches, lengths))
    return Case(rule, x1, x2, axis, dtype, rng, *weights)
