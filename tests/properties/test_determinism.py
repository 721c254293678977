"""Bitwise the same result, whatever the threads, the cut, the place in the batch and the run; and safe under threads
and fork."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from strategies import numbers

import sparseacc

ROWS = 120_000  # enough work for 5 threads


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def everything(rule, x1, x2, axis=-1):
    y = rule(x1, x2, axis=axis)
    g1, g2 = rule.vjp(y, x1, x2, axis=axis)
    return (
        y,
        g1,
        g2,
        rule.jvp(x1, x2, g1, g2, axis=axis),
        *rule.vjp_vjp(g1, g2, y, x1, x2, axis=axis),
        rule.coefficient_vjp(y, x1, x2, axis=axis),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2"])
@pytest.mark.parametrize(
    ("batch1", "batch2"),
    [
        ((ROWS,), (ROWS,)),
        ((ROWS,), ()),
        ((ROWS // 100, 100), (ROWS // 100, 1)),
        ((1, ROWS // 3), (3, 1)),
        ((ROWS // 8, 8), (1, 8)),
    ],
    ids=str,
)
def test_results_do_not_depend_on_the_number_of_threads_or_the_run(dtype, batch1, batch2, rng):
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    x1, x2 = (numbers(rng, (*batch, 7), dtype) / 8 for batch in (batch1, batch2))
    x1, x2 = x1.astype(dtype), x2.astype(dtype)
    sparseacc.set_num_threads(1)
    expected = everything(rule, x1, x2)
    for threads in (1, 2, 5):
        sparseacc.set_num_threads(threads)
        assert same(everything(rule, x1, x2), expected), threads


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2"])
@pytest.mark.parametrize("axis", [0, -1])
def test_results_do_not_depend_on_where_the_batch_is_cut(instruction_set, dtype, axis, rng):
    rule = sparseacc.clebsch_gordan(2, 3, 4)
    x1, x2 = (np.moveaxis(numbers(rng, (400, n), dtype), -1, axis) for n in rule.shape[:2])
    whole = [np.moveaxis(a, axis, -1) for a in everything(rule, x1, x2, axis)[:-1]]
    for cut in (1, 2, 15, 16, 63, 64, 65, 255, 399):
        pieces = []
        for part in (slice(0, cut), slice(cut, None)):
            a, b = (np.moveaxis(np.moveaxis(x, axis, -1)[part], -1, axis) for x in (x1, x2))
            pieces.append([np.moveaxis(r, axis, -1) for r in everything(rule, a, b, axis)[:-1]])
        assert same([np.concatenate(p) for p in zip(*pieces)], whole), cut


def test_results_do_not_depend_on_the_layout(instruction_set, rng):
    rule = sparseacc.clebsch_gordan(3, 2, 4)
    x1, x2 = rng.normal(size=(90, 7)), rng.normal(size=(90, 5))
    expected = rule(x1, x2)
    for f in (np.asfortranarray, lambda x: x[::-1].copy()[::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2]):
        assert np.array_equal(rule(f(x1), f(x2)), expected)
    assert np.array_equal(rule(x1.T, x2.T.copy(), axis=0).T, expected)


def test_calls_from_many_threads_at_once_are_safe(rng):
    sparseacc.set_num_threads(2)
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    data = [rng.normal(size=(2, n, 7)) for n in (1, 50, 3000, 20_000) * 6]
    expected = [everything(rule, *x) for x in data]
    fresh = sparseacc.Rule(rule.m1, rule.m2, rule.mu, rule.C, rule.shape)  # its programs are made in the race
    with ThreadPoolExecutor(8) as pool:
        for result, value in zip(pool.map(lambda x: everything(fresh, *x), data), expected, strict=True):
            assert same(result, value)


def test_other_threads_run_during_a_call():
    """Python threads are kept from taking turns, so that this one goes on only when the other lets go of the
    interpreter: in the middle of the call, which takes some tenths of a second, or else at its end."""
    sparseacc.set_num_threads(1)
    rule = sparseacc.clebsch_gordan(8, 8, 8)
    x = np.broadcast_to(np.ones(17), (3_000_000, 17))
    rule.coefficient_vjp(x[:1], x[:1], x[:1])
    started, finished = threading.Event(), threading.Event()

    def call():
        started.set()
        rule.coefficient_vjp(x, x, x)
        finished.set()

    turn = sys.getswitchinterval()
    worker = threading.Thread(target=call)
    sys.setswitchinterval(1000)
    try:
        worker.start()
        started.wait()
        assert not finished.is_set()
    finally:
        sys.setswitchinterval(turn)
        worker.join()


def exit_code(child):
    """Of a process that may hang."""
    deadline = time.monotonic() + 60
    while (finished := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    if finished[0] == 0:
        os.kill(child, signal.SIGKILL)
        return None
    return finished[1]


def tasks():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")  # JAX's, where it is loaded
def test_a_forked_child_computes_with_threads(rng):
    """Also one that is forked in the middle of another thread's call."""
    sparseacc.set_num_threads(2)
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    x = rng.normal(size=(ROWS, 7))
    expected = rule(x, x)
    stop = threading.Event()

    def call():
        while not stop.is_set():
            rule(x, x)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(rule(x, x), expected) else 1)
            assert exit_code(child) == 0
    finally:
        stop.set()
        caller.join()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not list threads in /proc")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")
def test_threads_are_kept_from_call_to_call_and_a_forked_child_starts_its_own(rng):
    sparseacc.set_num_threads(5)
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    x = rng.normal(size=(ROWS, 7))
    rule(x, x)
    before = tasks()
    for _ in range(5):
        rule(x, x)
    assert tasks() == before
    child = os.fork()
    if child == 0:
        alone = tasks()
        rule(x, x)
        os._exit(0 if (alone, tasks()) == (1, 5) else 1)
    assert exit_code(child) == 0
