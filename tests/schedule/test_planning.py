"""How an operation of a rule is written for the kernel: in time and memory proportional to the terms, whatever they
are, and with terms that repeat added up; and which nodes a polynomial has."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from oracle import Oracle, check
from strategies import numbers

import sparseacc
from sparseacc.algebra import FORWARD, VJP, VJP_VJP
from sparseacc.cpu.programs import Program
from sparseacc.schedule import quads
from sparseacc.schedule.polynomials import scheduled

LARGE = """
import numpy as np, sparseacc
rng = np.random.default_rng(0)

def at_random(n, shape, C):
    return sparseacc.Rule(*(rng.integers(0, size, n) for size in shape), C, shape)

def dense(shape, C):
    return sparseacc.Rule(*np.indices(shape).reshape(3, -1), C, shape)

def run(rule, dtype=np.float32):
    x1, x2, dy = (np.ones((2, n), dtype) for n in rule.shape)
    rule(x1, x2), rule.vjp_vjp(x1, x2, dy, x1, x2), rule.coefficient_vjp(dy, x1, x2)
"""


@pytest.mark.parametrize(
    "code",
    [
        "run(at_random(1200, (3, 3, 3), np.ones(1200)))",
        "run(at_random(1200, (2, 2, 2), rng.choice([-1.0, 1.0], 1200)))",
        "run(dense((2, 2, 400), np.ones(1600)))",
        "run(dense((2, 2, 400), rng.choice([-1.0, 1.0], 1600)))",
        "run(dense((1, 1, 800), rng.normal(size=800)), np.complex64)",
        "run(sparseacc.Rule(*[np.arange(50_000)] * 3, rng.normal(size=50_000), (50_000,) * 3))",
    ],
)
def test_terms_that_are_alike_take_no_longer_than_others(code):
    """Where the time is cubic in them, each of these takes from ten seconds to minutes."""
    subprocess.run([sys.executable, "-c", LARGE + code], check=True, timeout=10)


def repeated(rule, rng):
    """The same rule in terms that repeat, and the terms of which each is a part."""
    which = np.concatenate([np.arange(rule.nnz), rng.integers(0, rule.nnz, 2 * rule.nnz)])
    rng.shuffle(which[rule.nnz :])
    C = rule.C[which] / 2.0 ** np.ceil(np.log2(np.bincount(which)[which]))
    C[: rule.nnz] = 0
    C[: rule.nnz] = rule.C - np.bincount(which, C)
    return sparseacc.Rule(rule.m1[which], rule.m2[which], rule.mu[which], C, rule.shape), which


def program(rule, operation, dtype):
    made = Program(rule, operation, (True,) * len(operation.outputs), np.dtype(dtype))
    code, coef, *_ = made._alive
    return code, coef


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("operation", [FORWARD, VJP, VJP_VJP], ids=lambda operation: operation.name)
def test_terms_that_repeat_are_one_in_the_program(operation, dtype, rng):
    rule = sparseacc.Rule.from_dense(2.0 ** rng.integers(-3, 4, (3, 4, 5)))
    code, coef = program(rule, operation, dtype)
    code_of_repeated, coef_of_repeated = program(repeated(rule, rng)[0], operation, dtype)
    assert np.array_equal(code, code_of_repeated)
    assert np.array_equal(coef, coef_of_repeated)


def test_terms_that_repeat_are_still_terms_of_the_rule(rng):
    one = sparseacc.clebsch_gordan(2, 2, 2)
    rule, which = repeated(one, rng)
    x1, x2, dy = rng.normal(size=(3, 20, 5))
    assert rule.nnz == len(rule.C) == 3 * one.nnz
    assert np.array_equal(rule.coefficient_vjp(dy, x1, x2), one.coefficient_vjp(dy, x1, x2)[which])
    check(rule(x1, x2), Oracle(rule, x1, x2).product())


def test_terms_that_repeat_and_cancel_propagate_what_is_not_finite():
    rule = sparseacc.Rule([0, 0], [0, 0], [0, 0], [1.5, -1.5], (1, 1, 1))
    assert rule(np.ones(1), np.ones(1)) == 0
    assert np.isnan(rule(np.full(1, np.inf), np.ones(1)))
    assert np.isnan(rule(np.ones(1), np.full(1, np.nan)))


@pytest.mark.parametrize("steps", [0, 1, 10, 100])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_a_search_for_quads_that_ends_early_changes_no_result(dtype, steps, monkeypatch, rng):
    monkeypatch.setattr(quads, "_MOST_STEPS", steps)
    sparseacc.cache_clear()
    for rule in (sparseacc.clebsch_gordan(3, 2, 3), sparseacc.Rule.from_dense(rng.choice([-1.0, 1.0], (3, 4, 5)))):
        x1, x2, z1, z2, dy = (numbers(rng, (20, n), dtype) for n in (*rule.shape[:2], *rule.shape))
        oracle = Oracle(rule, x1, x2)
        check(rule(x1, x2), oracle.product())
        for result, expected in zip(rule.vjp(dy, x1, x2), oracle.vjp(dy), strict=True):
            check(result, expected)
        for result, expected in zip(rule.vjp_vjp(z1, z2, dy, x1, x2), oracle.vjp_vjp(z1, z2, dy), strict=True):
            check(result, expected)


def test_the_products_of_an_operation_share_the_steps_of_a_search(monkeypatch):
    """What the first one takes is gone: so a search takes no longer for an operation of more products."""
    terms = [(out, a, b, (-1.0) ** (out * a * b)) for out, a, b in np.indices((4, 4, 4)).reshape(3, -1).T.tolist()]
    products = [terms, [(out + 4, a, b, C) for out, a, b, C in terms]]

    def searched():
        return {n for _, groups in quads.pairs_of_outputs(products, 1) for n, group in groups if any(group.quads)}

    assert searched() == {0, 1}
    monkeypatch.setattr(quads, "_MOST_STEPS", 200)
    assert searched() == {0}


@pytest.mark.parametrize("operation", [FORWARD, VJP, VJP_VJP], ids=lambda operation: operation.name)
def test_every_complex_term_is_a_quad_however_many_are_alike(operation, rng):
    """A quad has two coefficients, where its four terms would have one each."""
    rule = sparseacc.Rule(*np.indices((1, 1, 3000)).reshape(3, -1), rng.normal(size=3000), (1, 1, 3000))
    assert len(program(rule, operation, "c8")[1]) == 2 * rule.nnz * len(operation.products)


def without_one(monomial):
    """Each product of all factors but one, and that one."""
    return {monomial[:i] + monomial[i + 1 :]: m for i, m in enumerate(monomial)}


def nodes_one_by_one(monomials):
    """The nodes of one output: P, and what completes it."""
    found = {}
    for degree in sorted({len(monomial) for monomial in monomials}, reverse=True):
        left = {monomial for monomial in monomials if len(monomial) == degree} - found.keys()
        while left:
            number = Counter(p for monomial in left for p in without_one(monomial))
            p = min(number, key=lambda p: (-number[p], p))
            completed = [monomial for monomial in left if p in without_one(monomial)]
            found[p] = sorted(without_one(monomial)[p] for monomial in completed)
            left.difference_update(completed)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_node_of_a_polynomial_is_the_one_that_completes_most_of_the_monomials_that_are_left(seed):
    rng = np.random.default_rng(seed)
    n_in, n_out = rng.integers(1, 8), rng.integers(1, 4)
    terms = [
        (rng.integers(0, n_in, (nnz, degree)), rng.integers(0, n_out, nnz), rng.integers(0, 3, nnz), np.ones(nnz))
        for degree, nnz in enumerate(rng.integers(0, 60, rng.integers(1, 5)).tolist(), start=1)
    ]
    polynomial = sparseacc.Polynomial(terms, (n_in, n_out))
    made = scheduled(polynomial)
    q = iter(made.q.tolist())
    nodes = [
        (tuple(p), mu, [next(q) for _ in range(terms)])
        for of in made.nodes
        for p, mu, terms in zip(of.p.tolist(), of.mu.tolist(), of.terms.tolist())
    ]
    expected = []
    for row in range(n_out):
        monomials = {tuple(m) for of in polynomial.terms for m in of.m[of.mu == row].tolist()}
        expected += [(p, row, completing) for p, completing in nodes_one_by_one(monomials).items()]
    assert nodes == sorted(expected, key=lambda node: (len(node[0]), node[0], len(node[2]), node[1]))
    products = {p[:n] for p, _, _ in nodes for n in range(2, len(p) + 1)}
    assert made.products == len(products)
