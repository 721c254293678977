"""Every bad input: one clear error that names the argument and the value, and nothing written."""

import re
import sys

import numpy as np
import pytest
from hostile import NO_FUNCTION, hostile
from small_rule import DY, GOOD, RULE, X1, X2
from strategies import DTYPES

import sparseacc
from sparseacc import Rule
from sparseacc.accumulation import _rules, cached_rule


def with_units(array):
    """As in astropy."""
    return array.view(type("Quantity", (np.ndarray,), {"unit": "m"}))


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
        (X1.astype(object), X2, -1, TypeError, r"x1 \(ndarray\) has dtype object"),
        (X1, X2.astype(str), -1, TypeError, "x2 has dtype <U"),
        (X1.astype("M8[s]"), X2, -1, TypeError, r"x1 has dtype datetime64\[s\]"),
        (np.zeros((4, 2), "f4,f4"), X2, -1, TypeError, "x1 has dtype"),
        (X1.astype(bool), X2, -1, TypeError, "x1 has dtype bool"),
        (X1.astype(np.longdouble), X2, -1, TypeError, "x1 has dtype"),
        (None, X2, -1, TypeError, "x1 is None"),
        (X1, None, -1, TypeError, "x2 is None"),
        (X1.astype("f2"), X2.astype(DTYPES[-1]), -1, TypeError, "no common dtype.*x1 float16, x2 bfloat16"),
        ([[1.0, 2.0], [3.0]], X2, -1, ValueError, "x1 cannot be made an array"),
        (np.ma.masked_array(X1, X1 > 0), X2, -1, TypeError, "x1 is a masked array"),
        (with_units(X1), X2, -1, TypeError, r"x1 has units, which would be lost: pass its numbers"),
        (X1, with_units(X2), -1, TypeError, "x2 has units"),
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
        (X1, np.lib.stride_tricks.as_strided(np.full(9, 7.0), (4, 2), (16, 32)), ValueError, "out overlaps itself"),
        (X1, np.lib.stride_tricks.as_strided(np.full(9, 7.0), (4, 2), (16, 12)), ValueError, "out overlaps itself"),
        (X1, np.ma.masked_array(np.full((4, 2), 7.0), True), TypeError, "out is a masked array"),
        (X1, with_units(np.full((4, 2), 7.0)), TypeError, "out has units"),
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


@pytest.mark.parametrize("wrt", [2, (2,), (0, -1), ("x1",), (True, True), True, None, "01", np.zeros((1, 2))])
def test_vjp_refuses_other_gradients(wrt):
    with pytest.raises((TypeError, ValueError), match="wrt may hold 0"):
        RULE.vjp(DY, X1, X2, wrt=wrt)


def test_one_gradient_may_be_named_by_a_number():
    for number in (0, 1, np.int64(1)):
        first, second = RULE.vjp(DY, X1, X2, wrt=number), RULE.vjp(DY, X1, X2, wrt=(number,))
        assert [a is None for a in first] == [a is None for a in second] == [number == 1, number == 0]
        assert np.array_equal(first[number], second[number])


def test_only_tangents_may_be_none():
    for call in (
        lambda: RULE.vjp(None, X1, X2),
        lambda: RULE.coefficient_vjp(None, X1, X2),
        lambda: RULE.vjp_vjp(None, None, None, X1, X2),
    ):
        with pytest.raises(TypeError, match="dy is None"):
            call()
    assert RULE.jvp(X1, X2, None, None).tolist() == np.zeros((4, 2)).tolist()


@pytest.mark.parametrize("answer", NO_FUNCTION, ids=str)
@pytest.mark.parametrize("what", ["shape", "__array__", "__dlpack__", "__dlpack_device__", "__array_interface__"])
def test_a_hostile_object_is_one_error(what, answer):
    value = hostile(what, answer)
    calls = {
        "x1": lambda: RULE(value, X2),
        "x2": lambda: sparseacc.accumulate(X1, value, RULE.mu, 2, RULE.m1, RULE.m2, RULE.C),
        "dx2": lambda: RULE.jvp(X1, X2, None, value),
        "out": lambda: RULE(X1, X2, out=value),
        "C": lambda: Rule([0], [0], [0], value, (1, 1, 1)),
        "array": lambda: Rule.from_dense(value),
    }
    for name, call in calls.items():
        with pytest.raises((TypeError, ValueError) if what in ("shape", "__dlpack_device__") else TypeError) as caught:
            call()
        assert re.match(rf"{name}\b", str(caught.value)), caught.value
        if what.startswith("__array") and name != "out":
            assert caught.value.__cause__ is not None


@pytest.mark.parametrize("answer", [RuntimeError("on strike"), ZeroDivisionError("0"), 7])
def test_a_hostile_index_is_one_error(answer):
    value = hostile("__index__", answer)
    for name, call in {
        "axis": lambda: RULE(X1, X2, axis=value),
        "output_size": lambda: sparseacc.accumulate(X1, X2, RULE.mu, value, RULE.m1, RULE.m2, RULE.C),
        "shape": lambda: Rule([], [], [], [], (1, value, 1)),
        "order": lambda: RULE.transpose((0, value, 2)),
        "l2": lambda: sparseacc.clebsch_gordan(1, value, 1),
    }.items():
        with pytest.raises(TypeError, match=f"^{name} must be") as caught:
            call()
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("what", ["shape", "__array__", "__dlpack__", "__index__"])
def test_an_interrupt_is_not_turned_into_an_error(what):
    value = hostile(what, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        RULE(X1, X2, axis=value) if what == "__index__" else sparseacc.accumulate(value, X2, [0], 1, [0], [0], [1.0])


def test_a_batch_that_is_only_too_large_says_so():
    x1, x2 = np.broadcast_to(np.ones(2), (2**40, 1, 2)), np.broadcast_to(np.ones(3), (2**40, 3))
    for call in (lambda: RULE(x1, x2), lambda: RULE.vjp(np.ones(2), x1, x2), lambda: RULE.coefficient_vjp(x1, x1, x2)):
        with pytest.raises(MemoryError, match=r"x1 \(1099511627776, 1, 2\) and x2.*too large"):
            call()
    assert RULE(x1[:0], x2).shape == (0, 2**40, 2)


def test_as_many_dimensions_as_numpy_has():
    most = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    x1 = np.ones((2, *[1] * (most - 3), 3, 2))
    assert np.array_equal(RULE(x1, X2[:3]), RULE(X1[:3], X2[:3]) * np.ones_like(x1))
    assert np.array_equal(RULE.vjp(x1, x1, X2[:3])[1], 2 * RULE.vjp(DY[:3], X1[:3], X2[:3])[1])


def test_interleaved_outs_are_fine():
    """Rows within the gaps of others."""
    for strides in ((24, 16), (-24, 16), (16, 24)):
        shape = (3, 2) if strides[0] == 16 else (2, 3)
        memory = np.full(20, np.nan)
        out = np.lib.stride_tricks.as_strided(memory[5:], shape, strides)
        rule = Rule(range(shape[1]), [0] * shape[1], range(shape[1]), [1.0] * shape[1], (shape[1], 1, shape[1]))
        x1 = np.arange(6.0).reshape(shape)
        assert rule(x1, np.ones((shape[0], 1)), out=out) is out
        assert np.array_equal(out, x1)
        assert np.count_nonzero(np.isnan(memory)) == 14


def test_numbers_beyond_the_range_become_infinite_without_a_warning():
    """In every operation, whether it sums over a shared input or not. Warnings are errors here."""
    for dtype in (np.float32, np.float64, np.complex64, np.float16):
        big = np.full((5000, 2), np.finfo(dtype).max, dtype)
        shared = np.ones(3, dtype)
        assert np.all(np.isinf(RULE(big, np.full(3, 2, dtype))[:, :1].real)) or dtype is np.float16
        for result in (RULE.vjp(big, big, shared)[1], RULE.coefficient_vjp(big, big, shared)):
            assert not np.all(np.isfinite(result))
        RULE.vjp_vjp(big, None, big, big, shared)
        RULE.vjp(-big, np.where(np.arange(5000)[:, None] % 2, big, -big), shared)


@pytest.mark.parametrize(("size", "error"), [(-1, ValueError), (1.5, TypeError), (None, TypeError), (1, ValueError)])
def test_accumulate_refuses_a_wrong_output_size(size, error):
    with pytest.raises(error, match=r"output_size is -1|output_size must be|mu\[0\] is 1"):
        sparseacc.accumulate(X1, X2, RULE.mu, size, RULE.m1, RULE.m2, RULE.C)


def test_accumulate_finds_its_rule_again_whatever_integer_says_the_size():
    class Size:
        def __index__(self):
            return 2

    _rules.clear()
    first = cached_rule((2, 3, 2), RULE.m1, RULE.m2, RULE.mu, RULE.C)
    for size in (np.int32(2), Size(), Size(), np.array(2)):
        assert cached_rule((2, 3, size), RULE.m1, RULE.m2, RULE.mu, RULE.C) is first
        assert sparseacc.accumulate(X1, X2, RULE.mu, size, RULE.m1, RULE.m2, RULE.C).shape == (4, 2)
    assert len(_rules) == 1


def test_accumulate_refuses_what_a_rule_refuses():
    for change in ({"m1": [0.5, 1]}, {"C": [np.nan, 1]}, {"mu": ["a", "b"]}, {"m2": [0]}, {"mu": [1, [0]]}):
        parts = GOOD | change
        with pytest.raises((TypeError, ValueError), match=r"m1|C|mu"):
            sparseacc.accumulate(X1, X2, parts["mu"], 2, parts["m1"], parts["m2"], parts["C"])


class OnDevice:
    """An array on a GPU that has no interface but CUDA's."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (1,), "typestr": "<f4", "data": (4096, False), "version": 3}

    def __array__(self, *arguments, **keywords):
        raise AssertionError("copied to the host")


def test_an_array_on_a_gpu_needs_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    rule, x = Rule([0], [0], [0], [1.0], (1, 1, 1)), np.ones(1, "f4")
    for call in (
        lambda: rule(OnDevice(), x),
        lambda: rule.vjp(x, OnDevice(), x),
        lambda: sparseacc.accumulate(OnDevice(), x, [0], 1, [0], [0], [1.0]),
    ):
        with pytest.raises(ValueError, match="x1 is on a GPU, which needs CuPy"):
            call()
    with pytest.raises(TypeError, match="C is on a GPU"):
        Rule([0], [0], [0], OnDevice(), (1, 1, 1))
