"""What execution keeps between calls: bounded, shared by equal rules, and given back."""

import pickle

import numpy as np
import pytest

import sparseacc
from sparseacc.calls import plans
from sparseacc.cpu import execution, memory

X = np.ones((4, 3))


@pytest.fixture(autouse=True)
def nothing_kept():
    sparseacc.cache_clear()


def test_equal_rules_share_what_is_kept(monkeypatch):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    first = rule(X, X)
    monkeypatch.setattr(execution, "Plan", None)
    monkeypatch.setattr(execution, "Program", None)
    for equal in (pickle.loads(pickle.dumps(rule)), sparseacc.Rule(rule.m1, rule.m2, rule.mu, rule.C, rule.shape)):
        assert np.array_equal(equal(X, X), first)


def test_rules_that_differ_in_anything_share_nothing():
    """Also where their bytes are the same, cut at other places."""
    rules = [
        sparseacc.Rule([0, 1], [1, 0], [0, 0], [1.0, 2.0], (3, 3, 1)),
        sparseacc.Rule([1, 0], [0, 1], [0, 0], [1.0, 2.0], (3, 3, 1)),
        sparseacc.Rule([0, 1], [1, 0], [0, 0], [2.0, 1.0], (3, 3, 1)),
        sparseacc.Rule([0, 1], [1, 0], [0, 0], [1.0, 2.0], (3, 3, 2)),
        sparseacc.Rule([0], [0], [0], [1.0], (3, 3, 1)),
    ]
    assert len({rule._digest for rule in rules}) == len(set(rules)) == len(rules)
    for rule in rules:
        rule(X, X)
    assert sparseacc.cache_info()["plans"].entries == sparseacc.cache_info()["programs"].entries == len(rules)


def test_what_is_kept_is_counted_and_given_back():
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    x = np.ones((400_000, 7))
    y = rule(x, x)
    del y
    info = sparseacc.cache_info()
    assert info["plans"].entries == info["programs"].entries == info["results"].entries == 1
    assert info["programs"].bytes > 42 * 8
    assert info["results"].bytes == memory.kept() >= x.nbytes
    sparseacc.cache_clear()
    assert not any(kept.entries or kept.bytes for kept in sparseacc.cache_info().values())
    assert memory.kept() == 0


def test_the_oldest_goes_where_there_is_no_room_by_number_or_bytes():
    cache = plans.Cache("tests", 4, 100, len)
    try:
        for n in range(6):
            assert cache.add(n, "x") == "x"
        assert list(cache) == [2, 3, 4, 5]
        cache.add(6, "x" * 98)
        assert list(cache) == [6]
        assert cache.bytes() <= 100
        cache.add(7, "x" * 1000)
        assert list(cache) == [7]
        cache.add(8, "x")
        assert list(cache) == [8]
    finally:
        plans._caches.remove(cache)


def test_a_program_that_is_dropped_stays_as_long_as_a_call_of_it(monkeypatch):
    monkeypatch.setattr(execution._programs, "_most", 1)
    monkeypatch.setattr(execution._plans, "_most", 2)
    rules = [sparseacc.clebsch_gordan(degree, degree, degree) for degree in (1, 2, 3)]
    for _ in range(3):
        for rule in rules:
            x = np.ones((50, rule.shape[0]))
            expected = np.einsum("abc,na,nb->nc", rule.to_dense(), x, x)
            assert np.allclose(rule(x, x), expected)
    assert len(execution._programs) == 1
    assert len(execution._plans) == 2


def test_what_plans_keep_alive_is_bounded_too(monkeypatch):
    """Programs of rules that are gone: few stay, whatever number of plans there may be."""
    rng = np.random.default_rng(0)
    for cache in (execution._programs, execution._plans):
        monkeypatch.setattr(cache, "_most_bytes", 2**19)
    for _ in range(40):
        sparseacc.Rule(*rng.integers(0, 50, (3, 5000)), rng.normal(size=5000), (50, 50, 50))(*np.ones((2, 1, 50)))
    alive = {id(plan.program) for plan in execution._plans.values()} | set(map(id, execution._programs.values()))
    assert len(alive) <= 20
    assert sparseacc.cache_info()["plans"].entries <= 12


def test_a_model_of_many_couplings_and_two_batch_sizes_is_planned_once(monkeypatch):
    rules = [
        sparseacc.clebsch_gordan(l1, l2, l3)
        for l1 in range(7)
        for l2 in range(7)
        for l3 in range(abs(l1 - l2), min(l1 + l2, 6) + 1)
    ]
    assert len(rules) > 150

    def step():
        for rows in (10, 7):
            for rule in rules:
                x1, x2, dy = (np.ones((rows, n)) for n in rule.shape)
                rule(x1, x2)
                rule.vjp(dy, x1, x2)
                rule.vjp_vjp(x1, x2, dy, x1, x2)

    step()
    monkeypatch.setattr(execution, "Plan", None)
    step()


def test_arrays_that_are_converted_are_planned_once(monkeypatch):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    rule(X, X)
    monkeypatch.setattr(execution, "Plan", None)
    rule(X.astype("f4"), X)
    rule(X.tolist(), X.tolist())
