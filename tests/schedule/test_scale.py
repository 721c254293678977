"""Rules and graphs that are four times as large take some four times as much, whatever their terms are: the memory
that a plan takes at its highest is counted, its time is measured."""

import gc
import time
import tracemalloc

import numpy as np
import pytest

import sparseacc

N = 1000


def rules(n):
    """Of n terms, by what they are like."""
    rng = np.random.default_rng(0)
    i, C, n1 = np.arange(n), rng.normal(size=n), int(n**0.5)
    return {
        "random": lambda: sparseacc.Rule(*rng.integers(0, n1, (3, n)), C, (n1,) * 3, path=i // 25),
        "a path each": lambda: sparseacc.Rule(i % n1, i // n1, i % n1, C, (n1, n1 + 3, n1), path=i),
        "an output each": lambda: sparseacc.Rule(i, i, i, C, (n,) * 3),
        "one output": lambda: sparseacc.Rule(i, 0 * i, 0 * i, C, (n, 1, 1)),
        "one input": lambda: sparseacc.Rule(0 * i, 0 * i, i, C, (1, 1, n)),
        "repeated": lambda: sparseacc.Rule(i // 4, i // 4, i // 4, C, (n,) * 3),
        "paths that are alike": lambda: sparseacc.Rule(i % 5, i // 5 % 5, i // 25 * 5 + i % 5, 1.0 + i % 25, (5, 5, n)),
        "tensor product": lambda: sparseacc.tensor_product("+".join(["0e + 1o"] * (n // 50)), "0e + 1o + 2e"),
        "sum of paths": lambda: sparseacc.tensor_product(
            "+".join(["0e + 1o"] * (n // 50)), "0e + 1o + 2e", sum_paths=True
        ),
    }


def calls(rule):
    x1, x2, dy, w = (np.ones((1, n), np.float32) for n in (*rule.shape, rule.num_paths))
    graph = sparseacc.Graph([0], [0], 1)
    return {
        "product": lambda: rule(x1, x2),
        "vjp_vjp": lambda: rule.vjp_vjp(x1, x2, dy, x1, x2),
        "coefficient_vjp": lambda: rule.coefficient_vjp(dy, x1, x2),
        "vjp with weights": lambda: rule.vjp(dy, x1, x2, w),
        "message_passing": lambda: sparseacc.message_passing(rule, graph, x1[..., None], x2, w),
    }


def peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds(call):
    """Of this thread, in which what other tests have left alive is no garbage to search."""
    gc.collect()
    gc.freeze()
    try:
        begin = time.thread_time()
        call()
        return time.thread_time() - begin
    finally:
        gc.unfreeze()


def check_growth(made_of, calls_of, size):
    """Of what is made of n terms, and of its calls. Quadratic would be 16 times as much. Sorting is more than four, and
    small sets of Python grow fourfold.
    """
    for measured, least, most in ((peak, 2**19, 10), (seconds, 0.2, 10)):
        taken = []
        for n in (size, 4 * size):
            sparseacc.cache_clear()
            made = []
            of = {"made": measured(lambda n=n, made=made: made.append(made_of(n)()))}
            of |= {name: measured(call) for name, call in calls_of(made[0]).items()}
            taken.append(of)
        grown = {name: taken[1][name] / max(taken[0][name], least / 4) for name in taken[1]}
        assert {name: times for name, times in grown.items() if times > most} == {}, measured.__name__


@pytest.mark.parametrize("kind", rules(N))
def test_building_and_planning_take_memory_and_time_in_proportion_to_the_terms(kind):
    check_growth(lambda n: rules(n)[kind], calls, N)


def polynomials(n):
    """Of n terms, by what they are like."""
    rng = np.random.default_rng(0)
    i, C, n1 = np.arange(n), rng.normal(size=n), int(n**0.5)

    def of(m, mu, path=0 * i, shape=(n, n)):
        return lambda: sparseacc.Polynomial([([],) * 4] * (m.shape[1] - 1) + [(m, mu, path, C)], shape)

    return {
        "random": of(rng.integers(0, n1, (n, 3)), rng.integers(0, n1, n), i // 25),
        "of few components": of(rng.integers(0, int(n ** (1 / 3)), (n, 3)), rng.integers(0, n1, n), i // 25),
        "one output": of(np.column_stack([i % n1, i // n1]), 0 * i),
        "an output each": of(np.column_stack([i % n1, i // n1, i % n1]), i),
        "one factor that all have": of(np.column_stack([i, 0 * i, 0 * i]), 0 * i),
        "a path each": of(np.column_stack([i % n1, i // n1]), i % n1, i),
        "powers": of(np.column_stack([i] * 4), i),
    }


def calls_of_a_polynomial(polynomial):
    x, dy = (np.ones((1, size, 1), np.float32) for size in polynomial.shape)
    w = np.ones((polynomial.num_paths, 1), np.float32)
    return {"value": lambda: polynomial(x, w), "vjp_vjp": lambda: polynomial.vjp_vjp(x, w, dy, x, w)}


@pytest.mark.parametrize("kind", polynomials(N))
def test_polynomials_take_memory_and_time_in_proportion_to_their_terms(kind):
    check_growth(lambda n: polynomials(n)[kind], calls_of_a_polynomial, 10 * N)


def test_graphs_take_memory_and_time_in_proportion_to_their_edges():
    rule = sparseacc.clebsch_gordan(1, 0, 1)
    rng = np.random.default_rng(0)

    def passed(edges):
        columns = rng.integers(0, edges // 10, (2, edges))
        x, y = np.ones((edges // 10, 3, 1), np.float32), np.ones((edges, 1), np.float32)

        def call():
            graph = sparseacc.Graph(*columns, edges // 10)
            sparseacc.message_passing_vjp(rule, graph, x, x, y, wrt=0)
            return sparseacc.message_passing(rule, graph, x, y)

        return call

    for measured, most in ((peak, 5), (seconds, 11)):
        small, large = (measured(passed(edges)) for edges in (100_000, 400_000))
        assert large < most * max(small, 0.05), measured.__name__
