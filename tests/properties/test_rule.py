"""The rule as a value: immutable, hashable, comparable, picklable; and its conversions."""

import copy
import inspect
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import rules

import sparseacc
from sparseacc import Rule
from sparseacc.rule import rule_of_text
from sparseacc.terms import as_text


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
    x = np.arange(3.0)
    expected = rule(x, x)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(rule, x, x).result(), expected)


@pytest.mark.parametrize("change", ["m1", "m2", "mu", "C", "shape", "path", "num_paths", "order"])
def test_rules_of_different_content_differ(change):
    parts = {"m1": [0, 1], "m2": [0, 0], "mu": [1, 0], "C": [1.0, 2.0], "shape": (2, 2, 2), "path": [0, 1]}
    rule = Rule(**parts)
    if change == "order":
        parts = {k: v if k == "shape" else v[::-1] for k, v in parts.items()}
    else:
        parts[change] = {"m2": [1, 0], "C": [1.0, 3.0], "shape": (2, 2, 3)}.get(change, [1, 1])
    if change == "num_paths":
        parts[change] = 3
    assert Rule(**parts) != rule
    assert rule != "rule"


def test_terms_belong_to_paths():
    columns = [0, 1, 1], [0, 0, 0], [0, 0, 1], [1.0, 2.0, 3.0], (2, 1, 2)
    alone, many = Rule(*columns), Rule(*columns, path=np.array([2, 0, 2], "u1"))
    assert (alone.num_paths, alone.path.tolist()) == (1, [0, 0, 0])
    assert (many.num_paths, many.path.tolist()) == (3, [2, 0, 2])
    assert Rule(*columns, num_paths=5).num_paths == 5
    assert Rule([], [], [], [], (2, 1, 2), path=[], num_paths=0).num_paths == 0
    assert alone == Rule(*columns, path=[0, 0, 0], num_paths=1)
    for same in (pickle.loads(pickle.dumps(many)), many.transpose((0, 1, 2)), rule_of_text(as_text(many))):
        assert same == many
    assert np.array_equal(many.transpose((1, 2, 0)).path, many.path)


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ({"path": [0, 3]}, None, ""),
        (
            {"path": [0, 3], "num_paths": 3},
            ValueError,
            r"path\[1\] is 3, but must be between 0 and 2 \(num_paths is 3\)",
        ),
        ({"path": [0, -1]}, ValueError, r"path\[1\] is -1"),
        ({"path": [0.0, 1.0]}, TypeError, "path must hold integers"),
        ({"path": [0]}, ValueError, "path has 1 and C has 2"),
        ({"path": [[0, 1]]}, ValueError, "path must be 1-D"),
        ({"num_paths": -1}, ValueError, "num_paths is -1"),
        ({"num_paths": 1.5}, TypeError, "num_paths must be an integer, not 1.5"),
        ({"num_paths": 0}, ValueError, "num_paths is 0, but the rule has 2 terms"),
    ],
)
def test_paths_that_cannot_be_are_one_error(paths, error, message):
    terms = [0, 1], [0, 0], [0, 0], [1.0, 2.0], (2, 1, 1)
    if error is None:
        Rule(*terms, **paths)
        return
    with pytest.raises(error, match=message):
        Rule(*terms, **paths)


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
    assert re.fullmatch(r"Rule\(shape=\(1, 2, 3\), nnz=1, digest=[0-9a-f]{8}\)", repr(rule))
    assert rule.nnz == 1
    assert rule.shape == (1, 2, 3)
    assert [rule.m1.dtype, rule.C.dtype] == [np.int32, np.float64]


@given(rules())
def test_content_survives_as_text(rule):
    assert rule_of_text(as_text(rule)) == rule


def test_text_holds_indices_of_any_size():
    for n in (1, 255, 256, 2**16 - 1, 2**16, 2**31 - 1):
        rule = Rule([n - 1], [0], [n // 2], [-0.1], (n, 3, n))
        assert rule_of_text(as_text(rule)) == rule


def test_no_array_of_a_rule_changes_it():
    """Not by their dtype, strides or shape, nor by what pickle would do to them."""
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    before, text = rule.to_dense(), as_text(rule)
    expected = use(rule)
    state = np.zeros(6, np.int32).__reduce__()[2]
    for name in ("m1", "m2", "mu", "C"):
        for change in (
            lambda array: setattr(array, "dtype", ">i4"),
            lambda array: setattr(array, "strides", (0,)),
            lambda array: setattr(array, "shape", (array.size, 1)),
            lambda array: array.__setstate__(state),
            lambda array: setattr(array.base, "dtype", ">i4"),
        ):
            with suppress(Exception):  # NumPy may refuse, or say that it will
                change(getattr(rule, name))
    assert np.array_equal(rule.to_dense(), before)
    assert rule_of_text(text) == rule == sparseacc.clebsch_gordan(1, 1, 1)
    assert np.array_equal(use(rule), expected)
    assert np.array_equal(use(Rule(rule.m1, rule.m2, rule.mu, rule.C, rule.shape)), expected)


def test_a_rule_is_initialised_once():
    """Others have it from the cache, and as a key of their dictionaries."""
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    number, known = hash(rule), {rule: "known"}
    with pytest.raises(TypeError, match="a Rule is immutable: make a new one instead of calling __init__ again"):
        rule.__init__([0], [0], [0], [5.0], (3, 3, 3))
    assert hash(rule) == number
    assert known[sparseacc.clebsch_gordan(1, 1, 1)] == "known"
    assert rule.nnz == 6


def unfinished():
    rule = Rule.__new__(Rule)
    with suppress(ValueError):
        rule.__init__([0], [0], [0], [np.nan], (1, 1, 1))
    return rule


@pytest.mark.parametrize("rule", [Rule.__new__(Rule), unfinished()], ids=["new", "refused"])
@pytest.mark.parametrize(
    "ask",
    [
        use,
        lambda rule: rule.vjp(np.ones(3), np.ones(3), np.ones(3)),
        lambda rule: rule.vjp([1.0], [1.0], [1.0], wrt=(0,)),
        lambda rule: rule.nnz,
        lambda rule: rule.C,
        lambda rule: rule.shape[0],
        lambda rule: as_text(rule),
        lambda rule: rule.to_dense(),
        lambda rule: rule.transpose((0, 2, 1)),
        lambda rule: rule == sparseacc.clebsch_gordan(1, 1, 1),
        hash,
        repr,
        copy.copy,
        pickle.dumps,
    ],
)
def test_a_rule_that_was_never_initialised_says_so(rule, ask):
    with pytest.raises(ValueError, match="this Rule was never initialised"):
        ask(rule)


class Named(Rule):
    """With an attribute, and an __init__ of its own."""

    def __init__(self, name):
        super().__init__([0, 1], [0, 0], [1, 0], [2.0, -0.0], (2, 1, 2))
        vars(self)["name"] = name


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_way_to_copy_keeps_content_and_class(protocol):
    for rule in (Rule([0, 1], [0, 0], [1, 0], [2.0, -0.0], (2, 1, 2)), Named("mine"), Rule([], [], [], [], (0, 2, 3))):
        for other in (copy.copy(rule), copy.deepcopy(rule), pickle.loads(pickle.dumps(rule, protocol))):
            assert other == rule
            assert hash(other) == hash(rule)
            assert type(other) is type(rule)
            assert getattr(other, "name", None) == getattr(rule, "name", None)
            assert np.array_equal(other.to_dense(), rule.to_dense())


def test_what_is_loaded_is_checked():
    rule = Rule([1], [0], [0], [1.0], (2, 1, 1))
    data = pickle.dumps(rule, 0)
    assert data.count(b"(I2\nI1\nI1\n") == 1
    with pytest.raises(ValueError, match=r"m1\[0\] is 1, but must be between 0 and 0"):
        pickle.loads(data.replace(b"(I2\nI1\nI1\n", b"(I1\nI1\nI1\n"))


def test_text_is_made_once_when_it_is_asked_for():
    sparseacc.cache_clear()
    rule = Rule([0], [0], [0], [1.0], (1, 1, 1))
    assert sparseacc.cache_info()["texts"].entries == 0
    assert as_text(rule) is as_text(rule)
    assert sparseacc.cache_info()["texts"] == (1, len(as_text(rule)))


def test_attributes_have_documentation():
    for name in ("m1", "m2", "mu", "C", "path", "shape", "num_paths", "nnz"):
        assert inspect.getdoc(getattr(Rule, name))
    assert list(inspect.signature(Rule).parameters) == ["m1", "m2", "mu", "C", "shape", "path", "num_paths"]


def test_text_that_is_cut_or_no_rules_is_refused():
    text = as_text(sparseacc.clebsch_gordan(1, 1, 1))
    for wrong in (
        "",
        "rule",
        "1,1;",
        "3,3;" + text[6:],
        text[:-1],
        text[:-4],
        text + "AAAA",
        text.replace(";", ";-"),
        text + ";",
    ):
        with pytest.raises(ValueError, match="this is not the text of a Rule"):
            rule_of_text(wrong)
    with pytest.raises(ValueError, match=r"m1\[\d\] is 2, but must be between 0 and 1"):
        rule_of_text("2" + text[1:])


def test_subclasses_may_make_and_describe_themselves_in_their_own_way():
    class Own(Rule):
        def __new__(cls, wanted):
            return super().__new__(cls)

        def __init__(self, wanted):
            super().__init__([0], [0], [0], [wanted], (1, 2, 3))

        @property
        def wrong(self):
            return self.nowhere

    rule = Own(2.0)
    assert rule.transpose((2, 1, 0)).shape == (3, 2, 1)
    assert copy.copy(rule) == copy.deepcopy(rule) == rule
    with pytest.raises(AttributeError, match="nowhere"):
        _ = rule.wrong
