"""Weights of paths on CuPy arrays, on a device."""

import numpy as np
import pytest
from oracle import Oracle, check
from strategies import numbers

import sparseacc

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
from device import MARKS, to_device  # noqa: E402 - where there is CuPy

pytestmark = MARKS


@pytest.mark.parametrize("dtype", ["f4", "c8", "f2"])
@pytest.mark.parametrize(
    ("axis", "batches"),
    [
        (-1, ((300,), (300,), (300,))),
        (-2, ((9, 33), (9, 1), (9, 33))),
        (-2, ((9, 33), (9, 1), (33,))),
        (-2, ((9, 33), (9, 1), (1,))),
    ],
    ids=str,
)
def test_every_operation_is_within_the_bound(dtype, axis, batches, rng):
    one = sparseacc.clebsch_gordan(2, 1, 2)
    rule = sparseacc.Rule(one.m1, one.m2, one.mu, one.C, one.shape, path=one.mu % 3)
    lengths = (*rule.shape[:2], rule.num_paths)
    factors = [np.moveaxis(numbers(rng, (*b, n), dtype), -1, axis) for b, n in zip(batches, lengths)]
    oracle = Oracle(rule, *factors[:2], axis, dtype, factors[2])
    dy = numbers(rng, oracle.product()[0].shape, dtype)
    z1, z2, zw = (numbers(rng, x.shape, dtype) for x in factors)
    expected = (
        oracle.product(),
        *oracle.vjp(dy),
        oracle.jvp(z1, z2, zw),
        *oracle.vjp_vjp(z1, z2, dy, zw),
        oracle.coefficient_vjp(dy),
    )
    x1, x2, w, z1, z2, zw, dy = map(to_device, (*factors, z1, z2, zw, dy))
    results = (
        rule(x1, x2, w, axis=axis),
        *rule.vjp(dy, x1, x2, w, axis=axis),
        rule.jvp(x1, x2, z1, z2, w, zw, axis=axis),
        *rule.vjp_vjp(z1, z2, dy, x1, x2, w, zw, axis=axis),
        rule.coefficient_vjp(dy, x1, x2, w, axis=axis),
    )
    for result, value in zip(results, expected, strict=True):
        assert isinstance(result, cupy.ndarray)
        check(result.get(), value)


def test_weights_on_another_device_are_refused(rng):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    x = rng.normal(size=(4, 3))
    with pytest.raises(ValueError, match="weights is not on the device"):
        rule(to_device(x), to_device(x), np.ones((4, 1)))
