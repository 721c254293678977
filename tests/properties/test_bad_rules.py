"""Every rule that cannot be, or cannot be computed with: one clear error that names the term and the value."""

import re

import numpy as np
import pytest
from small_rule import GOOD

from sparseacc import Rule


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"m1": [0, 2]}, ValueError, r"m1\[1\] is 2.*between 0 and 1"),
        ({"m2": [0, 3]}, ValueError, r"m2\[1\] is 3.*between 0 and 2"),
        ({"mu": [-1, 0]}, ValueError, r"mu\[0\] is -1"),
        ({"mu": [0, -(2**63)]}, ValueError, r"mu\[1\] is -9223372036854775808"),
        ({"m1": [0, 2**31]}, ValueError, r"m1\[1\] is 2147483648"),
        ({"m1": [0, 2**32]}, ValueError, r"m1\[1\] is 4294967296"),
        ({"m1": [0, 2**70]}, ValueError, rf"m1\[1\] is {2**70}"),
        ({"m1": np.array([0, 2**64 - 1], np.uint64)}, ValueError, r"m1\[1\] is 18446744073709551615"),
        ({"m1": [0.0, 1.0]}, TypeError, r"m1 must hold integers.*float64.*m1\[0\]"),
        ({"m1": [True, False]}, TypeError, "m1 must hold integers.*bool"),
        ({"m1": ["0", "1"]}, TypeError, "m1 must hold integers"),
        ({"m1": [None, 1]}, TypeError, "m1 must hold integers.*object"),
        ({"m1": [0]}, ValueError, "m1 has 1 and C has 2"),
        ({"C": [1.0]}, ValueError, "m1 has 2 and C has 1"),
        ({"m1": [[0, 1]]}, ValueError, r"m1 must be 1-D.*\(1, 2\)"),
        ({"m1": [0, [1]]}, ValueError, "m1 must be a 1-D array"),
        ({"m1": 0}, ValueError, r"m1 must be 1-D"),
        ({"C": [1.0, np.nan]}, ValueError, r"C\[1\] is nan.*finite"),
        ({"C": [-np.inf, 1.0]}, ValueError, r"C\[0\] is -inf"),
        ({"C": [1j, 1]}, TypeError, "C must hold real numbers.*complex128"),
        ({"C": ["a", "b"]}, TypeError, "C must hold real numbers"),
        ({"C": [True, False]}, TypeError, "C must hold real numbers.*bool"),
        ({"C": np.zeros(2, "M8[s]")}, TypeError, "C must hold real numbers"),
        ({"shape": (2, -3, 2)}, ValueError, "shape: n2 is -3"),
        ({"shape": (2, 3, 2**31)}, ValueError, "shape: n_out is 2147483648"),
        ({"shape": (2, 3)}, TypeError, r"shape must be three integers.*\(2, 3\)"),
        ({"shape": (2, 3, 2.0)}, TypeError, "shape must be three integers"),
        ({"shape": 7}, TypeError, "shape must be three integers.*7"),
        ({"m1": None}, TypeError, "m1 is None"),
        ({"C": None}, TypeError, "C is None"),
        ({"C": np.ma.masked_array([1.0, 2.0], [True, False])}, TypeError, "C is a masked array"),
        ({"mu": np.ma.masked_array([1, 0], [True, False])}, TypeError, "mu is a masked array"),
        ({"C": np.array([1.0, np.finfo(np.longdouble).max])}, ValueError, r"C\[1\] is inf.*finite"),
    ],
)
def test_a_rule_refuses(change, error, message):
    with pytest.raises(error, match=message):
        Rule(**(GOOD | change))


@pytest.mark.parametrize(
    ("dense", "error", "message"),
    [
        (np.zeros((2, 2)), ValueError, r"3 dimensions.*\(2, 2\)"),
        (np.full((1, 1, 2), [0, np.nan]), ValueError, r"array\[0, 0, 1\] is nan"),
        (np.full((1, 1, 1), 1j), TypeError, "real"),
        (np.ma.masked_array(np.ones((1, 1, 1)), True), TypeError, "array is a masked array"),
        (None, TypeError, "array is None"),
        ([[[1.0], [1.0, 2.0]]], ValueError, "array cannot be made an array"),
    ],
)
def test_from_dense_refuses(dense, error, message):
    with pytest.raises(error, match=message):
        Rule.from_dense(dense)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ((0, 1), ValueError),
        ((0, 0, 1), ValueError),
        ((1, 2, 3), ValueError),
        ((0, 1, -1), ValueError),
        (None, TypeError),
        (1, TypeError),
        ((0, 1, 2.0), TypeError),
    ],
)
def test_transpose_refuses(order, error):
    with pytest.raises(error, match="order must be a permutation"):
        Rule(**GOOD).transpose(order)


def test_a_rule_too_large_for_memory_is_one_error():
    huge = Rule([0], [0], [2**31 - 2], [1.0], (1, 1, 2**31 - 1))
    with pytest.raises(MemoryError, match=r"Rule\(shape=\(1, 1, 2147483647\), nnz=1, digest=\w+\) is too large"):
        huge(np.ones((1, 1)), np.ones((1, 1)))


def test_a_rule_with_a_million_outputs_costs_only_those_that_are_hit():
    wide = Rule([0], [0], [10**6 - 1], [2.0], (1, 1, 10**6))
    result = wide(np.ones((2, 1)), np.ones((2, 1)))
    assert np.array_equal(np.flatnonzero(result[0]), [10**6 - 1])
    assert np.array_equal(result[0], result[1])


@pytest.mark.parametrize("dtype", ["f4", "c8", "f2"])
@pytest.mark.parametrize(("C", "becomes"), [(1e39, "inf"), (-1e39, "-inf"), (1e-50, "0.0"), (1e-40, "9.9999")])
def test_a_coefficient_that_the_computation_cannot_hold_is_refused(C, becomes, dtype):
    rule = Rule([0, 1], [0, 1], [0, 1], [1.0, C], (2, 2, 2))
    x = np.ones(2, dtype)
    with pytest.raises(ValueError, match=rf"C\[1\] is {re.escape(str(C))}, but .* float32, where it is {becomes}"):
        rule(x, x)
    for refused in (lambda: rule.vjp(x, x, x), lambda: rule.jvp(x, x, x, x), lambda: rule.vjp_vjp(x, x, x, x, x)):
        with pytest.raises(ValueError, match=r"C\[1\] is"):
            refused()
    assert np.array_equal(rule.coefficient_vjp(x, x, x), np.ones(2))  # which multiplies no coefficients
    wide = np.ones(2, "c16" if dtype == "c8" else "f8")
    assert np.array_equal(rule(wide, wide), [1, C])


def test_terms_that_repeat_may_not_add_up_to_more_than_a_number_holds():
    x = np.ones(1)
    with pytest.raises(ValueError, match=r"C\[1\] and the terms that repeat it add up to inf, but float64"):
        Rule([0, 0, 0], [0, 0, 0], [0, 1, 1], [1.0, 1e308, 1e308], (1, 1, 2))(x, x)
    small = Rule([0, 0], [0, 0], [0, 0], [1.0, 1e-50], (1, 1, 1))
    assert small(x.astype("f4"), x.astype("f4")) == 1


def test_a_subnormal_coefficient_that_is_exact_is_taken():
    rule = Rule([0], [0], [0], [2.0**-149], (1, 1, 1))
    assert rule(np.full(1, 2.0**60, "f4"), np.ones(1, "f4")) == 2.0**-89
