"""Processes that begin in any way, in the middle of anything, and threads that come in between: all compute what one
would."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sparseacc

RULE = sparseacc.tensor_product("8x0e + 8x1o + 8x2e", "0e + 1o + 2e", "0e + 1o + 2e")

WORK = """
import hashlib, multiprocessing, sys, threading
import numpy as np, sparseacc

def digest():
    "Of what every kind of call gives, in parts that several threads do."
    sparseacc.set_num_threads(3)
    rng = np.random.default_rng(0)
    rule = sparseacc.tensor_product("8x0e + 8x1o + 8x2e", "0e + 1o + 2e", "0e + 1o + 2e")
    nodes, edges = 60, 2000
    graph = sparseacc.Graph(*rng.integers(0, nodes, (2, edges)), nodes)
    def array(*shape):
        return rng.normal(size=shape).astype(np.float32)
    x, y, w = array(nodes, rule.shape[0], 8), array(edges, rule.shape[1]), array(edges, rule.num_paths)
    dout = array(nodes, rule.shape[2], 8)
    small = sparseacc.clebsch_gordan(3, 3, 3)
    a, b, c = array(20_000, 7), array(20_000, 7), array(20_000, 7)
    found = [small(a, b), *small.vjp(c, a, b), *small.vjp(c, a[:1], b), small.coefficient_vjp(c, a, b)]
    found += [sparseacc.message_passing(rule, graph, x, y, w)]
    found += sparseacc.message_passing_vjp(rule, graph, dout, x, y, w)
    found += sparseacc.message_passing_vjp_vjp(rule, graph, x, y, w, dout, x, y, w)
    made = hashlib.sha256()
    for array in found:
        made.update(array.tobytes())
    return made.hexdigest()

def child(queue):
    queue.put(digest())

def busy(stop):
    "Calls until it is told to stop."
    while not stop.is_set():
        digest()

def children(method, number=3):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    started = [context.Process(target=child, args=(queue,)) for _ in range(number)]
    for process in started:
        process.start()
    found = [queue.get(timeout=60) for _ in started]
    for process in started:
        process.join(60)
        assert process.exitcode == 0, process.exitcode
    return found

if __name__ == "__main__":
    expected, method = digest(), sys.argv[1]
    assert children(method) == [expected] * 3  # after calls
    stop = threading.Event()
    threads = [threading.Thread(target=busy, args=(stop,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert children(method) == [expected] * 3  # during calls
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert digest() == expected
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_that_begin_after_and_during_calls_of_threads_compute_the_same(method, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(WORK)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", script, method],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_32_threads_compute_the_same_while_the_number_of_threads_and_the_instruction_set_change(rng):
    """Each result is one that some instruction set gives: none is of two."""
    nodes, edges = 60, 1000
    graph = sparseacc.Graph(*rng.integers(0, nodes, (2, edges)), nodes)
    x, y, w, dout = (
        rng.normal(size=shape).astype(np.float32)
        for shape in (
            (nodes, RULE.shape[0], 8),
            (edges, RULE.shape[1]),
            (edges, RULE.num_paths),
            (nodes, RULE.shape[2], 8),
        )
    )
    small = sparseacc.clebsch_gordan(3, 3, 3)
    a, b, c = rng.normal(size=(3, 10_000, 7)).astype(np.float32)
    calls = [
        lambda: (small(a, b),),
        lambda: small.vjp(c, a[:1], b),
        lambda: small.vjp_vjp(a, b, c, a, b),
        lambda: (sparseacc.message_passing(RULE, graph, x, y, w),),
        lambda: sparseacc.message_passing_vjp(RULE, graph, dout, x, y, w),
    ]
    names, before = sparseacc.cpu.instruction_sets(), sparseacc.cpu.instruction_set()
    allowed = [[] for _ in calls]
    for name in names:
        sparseacc.cpu.set_instruction_set(name)
        for call, expected in zip(calls, allowed, strict=True):
            expected.append([result.tobytes() for result in call()])
    stop = threading.Event()

    def change():
        for n in iter(lambda: int(stop.is_set()), 1):
            for n in range(1, 8):
                sparseacc.set_num_threads(n)
                sparseacc.cpu.set_instruction_set(names[n % len(names)])
                sparseacc.cache_clear()

    def many(seed):
        for n in range(6):
            which = (seed + n) % len(calls)
            found = [result.tobytes() for result in calls[which]()]
            if found not in allowed[which]:
                return which
        return None

    changes = threading.Thread(target=change)
    changes.start()
    try:
        with ThreadPoolExecutor(32) as pool:
            assert set(pool.map(many, range(32))) == {None}
    finally:
        stop.set()
        changes.join()
        sparseacc.cpu.set_instruction_set(before)


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import numpy as np, sparseacc

x = np.ones((5, 3))
rule = sparseacc.clebsch_gordan(1, 1, 1)
expected = rule(x, x)
for _ in range(3):
    other = interpreters.create()
    try:
        failed = interpreters.run_string(other, "import numpy, sparseacc; sparseacc.clebsch_gordan(1, 1, 1)")
    except Exception as error:
        failed = error
    assert failed is None or "ImportError" in str(failed), failed
    interpreters.destroy(other)
    assert np.array_equal(rule(x, x), expected)
"""


def test_a_second_interpreter_works_or_is_refused_and_the_first_goes_on():
    """NumPy refuses it, when it is imported."""
    command = [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", SUBINTERPRETER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
