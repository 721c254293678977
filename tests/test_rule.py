"""The rule as a value: immutable, hashable, comparable, picklable; and its conversions."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import rules

import sparseacc
from sparseacc import Rule


def use(rule):
    return rule(np.arange(3.0), np.arange(3.0))


@given(rules())
def test_content_survives_pickling_copying_and_rebuilding(rule):
    for other in (
        pickle.loads(pickle.dumps(rule)),
        copy.deepcopy(rule),
        Rule(rule.m1.tolist(), rule.m2, rule.mu.astype("u8"), rule.C, np.array(rule.shape)),
    ):
        assert other == rule
        assert hash(other) == hash(rule)
        assert {rule: 1}[other] == 1


def test_a_used_rule_works_in_another_process():
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    expected = use(rule)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(use, rule).result(), expected)


@pytest.mark.parametrize("change", ["m1", "m2", "mu", "C", "shape", "order"])
def test_rules_of_different_content_differ(change):
    parts = {"m1": [0, 1], "m2": [0, 0], "mu": [1, 0], "C": [1.0, 2.0], "shape": (2, 2, 2)}
    rule = Rule(**parts)
    if change == "order":
        parts = {k: v[::-1] for k, v in parts.items()}
    else:
        parts[change] = {"m2": [1, 0], "C": [1.0, 3.0], "shape": (2, 2, 3)}.get(change, [1, 1])
    assert Rule(**parts) != rule
    assert rule != "rule"


def test_nothing_about_a_rule_can_be_changed():
    index = np.array([0, 1])
    rule = Rule(index, index, index, [1.0, 2.0], (2, 2, 2))
    index[0] = 1
    assert rule.m1.tolist() == [0, 1]
    for name in ("m1", "m2", "mu", "C", "shape", "anything"):
        with pytest.raises(AttributeError, match=name):
            setattr(rule, name, None)
        with pytest.raises(AttributeError):
            delattr(rule, name)
    for array in (rule.m1, rule.m2, rule.mu, rule.C):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


@given(rules())
def test_dense_tensors_hold_the_sum_of_the_terms(rule):
    dense = rule.to_dense()
    assert dense.shape == rule.shape
    expected = np.zeros(rule.shape)
    for m1, m2, mu, c in zip(rule.m1, rule.m2, rule.mu, rule.C):
        expected[m1, m2, mu] += c
    assert np.array_equal(dense, expected)
    back = Rule.from_dense(dense)
    assert np.array_equal(back.to_dense(), dense)
    assert back.nnz == np.count_nonzero(dense)


@given(rules(), st.permutations([0, 1, 2]))
def test_transposing_is_transposing_the_dense_tensor(rule, order):
    assert np.array_equal(rule.transpose(order).to_dense(), rule.to_dense().transpose(order))
    assert np.array_equal(rule.transpose(order).C, rule.C)


def test_repr_and_sizes():
    rule = Rule([0], [1], [2], [1], (1, 2, 3))
    assert repr(rule) == "Rule(shape=(1, 2, 3), nnz=1)"
    assert rule.nnz == 1
    assert rule.shape == (1, 2, 3)
    assert [rule.m1.dtype, rule.C.dtype] == [np.int32, np.float64]


@given(rules())
def test_content_survives_as_text(rule):
    assert Rule._from_text(rule._text) == rule


def test_text_holds_indices_of_any_size():
    for n in (1, 255, 256, 2**16 - 1, 2**16, 2**31 - 1):
        rule = Rule([n - 1], [0], [n // 2], [-0.1], (n, 3, n))
        assert Rule._from_text(rule._text) == rule
