"""Every bad input: one clear error that names the argument and the value, and nothing written."""

import numpy as np
import pytest
from strategies import DTYPES

import sparseacc
from sparseacc import Rule

GOOD = {"m1": [0, 1], "m2": [0, 0], "mu": [1, 0], "C": [1.0, 2.0], "shape": (2, 3, 2)}


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
    ],
)
def test_from_dense_refuses(dense, error, message):
    with pytest.raises(error, match=message):
        Rule.from_dense(dense)


@pytest.mark.parametrize("order", [(0, 1), (0, 0, 1), (1, 2, 3), (0, 1, -1)])
def test_transpose_refuses(order):
    with pytest.raises(ValueError, match="permutation"):
        Rule(**GOOD).transpose(order)


RULE = Rule(**GOOD)
X1, X2, DY = np.ones((4, 2)), np.ones((4, 3)), np.ones((4, 2))


@pytest.mark.parametrize(
    ("x1", "x2", "axis", "error", "message"),
    [
        (np.ones((4, 3)), X2, -1, ValueError, r"x1 has length 3 along axis -1, but the rule needs 2"),
        (X1, np.ones((4, 2)), -1, ValueError, r"x2 has length 2 along axis -1, but the rule needs 3"),
        (X1, X2, 0, ValueError, r"x1 has length 4 along axis 0"),
        (X1, X2, 2, np.exceptions.AxisError, "x1: axis 2 is out of bounds"),
        (X1, X2, -3, np.exceptions.AxisError, "x1: axis -3 is out of bounds"),
        (np.ones(2), X2, -2, np.exceptions.AxisError, "x1: axis -2"),
        (1.0, X2, -1, np.exceptions.AxisError, "x1: axis -1"),
        (X1, X2, 1.0, TypeError, "axis must be an integer, not 1.0"),
        (X1, X2, None, TypeError, "axis must be an integer, not None"),
        (X1, np.ones((5, 3)), -1, ValueError, r"x1 and x2 do not broadcast.*\(4, 2\) and \(5, 3\).*\(4,\) and \(5,\)"),
        (X1.astype(object), X2, -1, TypeError, "x1 has dtype object"),
        (X1, X2.astype(str), -1, TypeError, "x2 has dtype <U"),
        (X1.astype("M8[s]"), X2, -1, TypeError, r"x1 has dtype datetime64\[s\]"),
        (np.zeros((4, 2), "f4,f4"), X2, -1, TypeError, "x1 has dtype"),
        (X1.astype(bool), X2, -1, TypeError, "x1 has dtype bool"),
        (X1.astype(np.longdouble), X2, -1, TypeError, "x1 has dtype"),
        (None, X2, -1, TypeError, "x1 has dtype object"),
        (X1.astype("f2"), X2.astype(DTYPES[-1]), -1, TypeError, "no common dtype.*x1 float16, x2 bfloat16"),
        ([[1.0, 2.0], [3.0]], X2, -1, ValueError, "x1 cannot be made an array"),
        (np.ma.masked_array(X1, X1 > 0), X2, -1, TypeError, "x1 is a masked array"),
    ],
)
def test_a_product_refuses(x1, x2, axis, error, message):
    out = np.full((4, 2), 7.0)
    for keywords in ({}, {"out": out}):
        with pytest.raises(error, match=message):
            RULE(x1, x2, axis=axis, **keywords)
    if "length" not in message:  # accumulate takes the lengths from the arrays
        with pytest.raises(error, match=message):
            sparseacc.accumulate(x1, x2, RULE.mu, 2, RULE.m1, RULE.m2, RULE.C, axis=axis)
    assert np.all(out == 7)


def read_only(array):
    array.flags.writeable = False
    return array


BUFFER = np.zeros((4, 8))


@pytest.mark.parametrize(
    ("x1", "out", "error", "message"),
    [
        (X1, np.full((4, 3), 7.0), ValueError, r"out.shape is \(4, 3\), but the result's is \(4, 2\)"),
        (X1, np.full((2, 4), 7.0), ValueError, "out.shape"),
        (X1, np.full((4, 2), 7, "f4"), TypeError, "out has dtype float32, but the result's is float64"),
        (X1, np.full((4, 2), 7, ">f8"), TypeError, "out has dtype >f8"),
        (X1, read_only(np.full((4, 2), 7.0)), ValueError, "out is read-only"),
        (X1, [[7.0]], TypeError, "out must be an ndarray, not list"),
        (BUFFER[:, :2], BUFFER[:, 1:3], ValueError, "out overlaps x1"),
        (BUFFER[:, :2], BUFFER[:, :2], ValueError, "out overlaps x1"),
        (X1, np.lib.stride_tricks.as_strided(np.full(4, 7.0), (4, 2), (8, 0)), ValueError, "out overlaps itself"),
        (X1, np.lib.stride_tricks.as_strided(np.full(9, 7.0), (4, 2), (8, 8)), ValueError, "out overlaps itself"),
    ],
)
def test_out_is_refused_and_left_alone(x1, out, error, message):
    before = np.array(out)
    with pytest.raises(error, match=message):
        RULE(x1, X2, out=out)
    assert np.array_equal(np.array(out), before)


def test_out_is_checked_again_in_every_call():
    out = np.empty((4, 2))
    for _ in range(2):
        RULE(X1, X2, out=out)
        with pytest.raises(ValueError, match="out overlaps x1"):
            RULE(out, X2, out=out)
        with pytest.raises(ValueError, match="out is read-only"):
            RULE(X1, X2, out=read_only(np.empty((4, 2))))
        with pytest.raises(TypeError, match="out has dtype int64"):
            RULE(X1, X2, out=out.view("i8"))
        with pytest.raises(ValueError, match=r"out.shape is \(3, 2\)"):
            RULE(X1, X2, out=out[:3])


def test_out_beside_an_input_in_one_buffer_is_fine():
    buffer = np.ones((4, 8))
    assert np.array_equal(RULE(buffer[:, ::2][:, :2], X2, out=buffer[:, 1::2][:, :2]), RULE(X1, X2))


@pytest.mark.parametrize("wrong", [np.ones((4, 3)), np.ones(2), np.ones((1, 2)), np.ones((2, 4, 2))])
def test_derivatives_refuse_other_shapes(wrong):
    with pytest.raises(ValueError, match=r"dy(\.shape is| has length)"):
        RULE.vjp(wrong, X1, X2)
    with pytest.raises(ValueError, match=r"dy(\.shape is| has length)"):
        RULE.coefficient_vjp(wrong, X1, X2)
    with pytest.raises(ValueError, match=r"dx1(\.shape is| has length)"):
        RULE.jvp(X1, X2, wrong, None)
    with pytest.raises(ValueError, match=r"z1(\.shape is| has length)"):
        RULE.vjp_vjp(wrong, None, DY, X1, X2)


@pytest.mark.parametrize("wrt", [(2,), (0, -1), ("x1",)])
def test_vjp_refuses_other_gradients(wrt):
    with pytest.raises(ValueError, match="wrt may hold 0"):
        RULE.vjp(DY, X1, X2, wrt=wrt)


def test_dy_may_not_be_none():
    with pytest.raises(TypeError, match="dy has dtype object"):
        RULE.vjp(None, X1, X2)


@pytest.mark.parametrize(("size", "error"), [(-1, ValueError), (1.5, TypeError), (None, TypeError), (1, ValueError)])
def test_accumulate_refuses_a_wrong_output_size(size, error):
    with pytest.raises(error, match=r"n_out is -1|output_size must be|mu\[0\] is 1"):
        sparseacc.accumulate(X1, X2, RULE.mu, size, RULE.m1, RULE.m2, RULE.C)


def test_accumulate_refuses_what_a_rule_refuses():
    for change in ({"m1": [0.5, 1]}, {"C": [np.nan, 1]}, {"mu": ["a", "b"]}, {"m2": [0]}, {"mu": [1, [0]]}):
        parts = GOOD | change
        with pytest.raises((TypeError, ValueError), match=r"m1|C|mu"):
            sparseacc.accumulate(X1, X2, parts["mu"], 2, parts["m1"], parts["m2"], parts["C"])


def test_a_rule_too_large_for_memory_is_one_error():
    huge = Rule([0], [0], [2**31 - 2], [1.0], (1, 1, 2**31 - 1))
    with pytest.raises(MemoryError, match=r"Rule\(shape=\(1, 1, 2147483647\), nnz=1\) is too large"):
        huge(np.ones((1, 1)), np.ones((1, 1)))


def test_a_rule_with_a_million_outputs_costs_only_those_that_are_hit():
    wide = Rule([0], [0], [10**6 - 1], [2.0], (1, 1, 10**6))
    result = wide(np.ones((2, 1)), np.ones((2, 1)))
    assert np.array_equal(np.flatnonzero(result[0]), [10**6 - 1])
    assert np.array_equal(result[0], result[1])
