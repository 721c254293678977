"""Threads of callers, helpers of their calls and changes of the settings, all at once: for the thread sanitizer
(CONTRIBUTING.md), which sees a race whether or not it does harm. Results are those of one thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from edges import operands, random_graph, random_rule

import sparseacc
from sparseacc import message_passing, message_passing_vjp, message_passing_vjp_vjp

CALLERS, ROWS = 4, 12_000  # enough work for two threads, if not three


def product_and_derivatives(rng, dtype):
    """Every way of a part: rows, columns, sums over the batch, sums over rows; for several threads, and for one."""
    rule = sparseacc.Rule.from_dense(rng.normal(size=(8, 7, 9)))
    n1, n2, n_out = rule.shape
    x1, x2, dy = (rng.normal(size=(ROWS, n)).astype(dtype) for n in (n1, n2, n_out))
    return [
        partial(rule, x1, x2),
        partial(rule, x1[:3], x2[:3]),
        partial(rule, x1.T, x2.T, axis=0),
        partial(rule.vjp, dy, x1, x2[:1]),
        partial(rule.vjp_vjp, x1, None, dy, x1, x2),
        partial(rule.coefficient_vjp, dy, x1, x2),
    ]


def messages(rng, dtype):
    """Passes to receivers, to senders, and to rows that edges share."""
    calls, rule = [], random_rule(rng, 6, 60)
    for columns in (("senders", "receivers"), ("receivers", "rows_of_y", "rows_of_weights")):
        graph, rows = random_graph(rng, 2000, 100, 90, columns)
        arrays = operands(rng, rule, rows, 64, dtype)
        dout = rng.normal(size=(90, rule.shape[2], 64)).astype(dtype)
        calls += [
            partial(message_passing, rule, graph, *arrays),
            partial(message_passing_vjp, rule, graph, dout, *arrays),
            partial(message_passing_vjp_vjp, rule, graph, *arrays, dout, *arrays),
        ]
    return calls


def polynomials(rng, dtype):
    """Values and gradients, with rows of weights that atoms share."""
    contraction = sparseacc.symmetric_contraction("2x0e + 2x1o", "2x0e + 2x1o", 3)
    x, dy = (rng.normal(size=(6000, 4, 32)).astype(dtype) for _ in range(2))
    weights, rows = rng.normal(size=(3, contraction.num_paths, 32)).astype(dtype), rng.integers(0, 3, 6000)
    return [
        partial(contraction, x, weights, rows_of_weights=rows),
        partial(contraction.vjp, dy, x, weights, rows_of_weights=rows),
        partial(contraction.vjp_vjp, x, weights, dy, x, weights, rows_of_weights=rows),
    ]


def flat(results):
    results = results if isinstance(results, tuple) else (results,)
    return b"".join(result.tobytes() for result in results)


def test_callers_at_once_give_what_one_gives(instruction_set, rng):
    calls = product_and_derivatives(rng, "f4") + messages(rng, "f4") + polynomials(rng, "f4")
    calls += product_and_derivatives(rng, "c16")
    sparseacc.set_num_threads(1)
    expected = [flat(call()) for call in calls]
    sparseacc.cache_clear()  # plans and programs are made in the race
    over = threading.Event()

    def change_settings():
        while not over.is_set():
            for threads in (1, 2, 3):
                sparseacc.set_num_threads(threads)
                sparseacc.cpu.set_instruction_set(instruction_set)
                over.wait(0.001)

    changing = threading.Thread(target=change_settings)
    changing.start()
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            for n in pool.map(lambda n: n if flat(calls[n]()) != expected[n] else None, [*range(len(calls))] * CALLERS):
                assert n is None, f"call {n}"
    finally:
        over.set()
        changing.join()
