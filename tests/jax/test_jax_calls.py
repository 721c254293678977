"""How XLA calls the kernel: without copies or Python, from any thread, until the process ends; and its errors."""

import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

from functools import partial  # noqa: E402

import jax.numpy as jnp  # noqa: E402
from broadcast import RULE  # noqa: E402
from jax_products import arrays, product  # noqa: E402
from oracle import Oracle, check  # noqa: E402
from strategies import numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402
from sparseacc.cpu._kernel import ffi, lib  # noqa: E402
from sparseacc.jax import xla  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


def in_python(monkeypatch):
    """The addresses of every call that goes through Python."""
    seen = []

    class Lib:
        def sa_run_stored(self, call, pointers):
            seen.append([int(ffi.cast("intptr_t", pointer)) for pointer in pointers])
            return lib.sa_run_stored(call, pointers)

    monkeypatch.setattr(xla, "lib", Lib())
    return seen


def as_if_lowered_elsewhere(monkeypatch):
    monkeypatch.setattr(xla, "prepare", lambda *arguments: None)


def test_memory_is_not_copied(rng, monkeypatch):
    """The kernel reads where the arrays lie and writes where the result lies."""
    as_if_lowered_elsewhere(monkeypatch)
    seen = in_python(monkeypatch)
    for rows, function in ((1001, product), (1002, jax.jit(product))):
        x1, x2 = arrays(rng, (rows,), (rows,), "f4")
        y = function(x1, x2).block_until_ready()
        assert seen[-1] == [a.unsafe_buffer_pointer() for a in (x1, x2, y)]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_calls_stay_in_c(elsewhere, rng, monkeypatch):
    """From the first, or where they were lowered elsewhere, after the first of a kind: a rule, an axis, dtypes, shapes.
    Calls of no two kinds are taken for each other.
    """
    if elsewhere:
        as_if_lowered_elsewhere(monkeypatch)
    seen = in_python(monkeypatch)
    double = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C + elsewhere, RULE.shape)
    square = sparseacc.clebsch_gordan(1, 1, 1)
    kinds = [(r, -1, (3, 5), d) for r in (RULE, double) for d in ("f4", "f8", "c8", "f2")]
    kinds += [(square, -1, (3, 3), "f4"), (square, -2, (3, 3), "f4"), (square, 0, (3, 3), "f4")]
    for turn in range(3):
        for rule, axis, lengths, dtype in kinds:
            for batch1, batch2 in (((3, 7), (3, 7)), ((3, 7), (3, 1)), ((7, 3), (7, 3)), ((0, 3), (0, 3))):
                batch1, batch2 = ((*batch, 1 + elsewhere) for batch in (batch1, batch2))
                x1, x2 = (
                    jnp.array(numbers(rng, np.insert(batch, axis % 4, n), dtype))
                    for batch, n in zip((batch1, batch2), lengths, strict=True)
                )
                before = len(seen)
                y, pull = jax.vjp(partial(bridge.product, rule, axis=axis), x1, x2)
                oracle = Oracle(rule, np.asarray(x1), np.asarray(x2), axis)
                check(np.asarray(y), oracle.product())
                for gradient, expected in zip(pull(y), oracle.vjp(np.asarray(y)), strict=True):
                    check(np.asarray(gradient), expected)
                assert (turn == 0 and elsewhere) or len(seen) == before
    assert elsewhere == (len(seen) > 0)


ENDING = """
import sys, jax, jax.numpy as jnp, sparseacc, sparseacc.jax

rule = sparseacc.clebsch_gordan(4, 4, 4)
x, w = jnp.ones((20_000, 9)), jnp.ones(9)
loss = lambda w: jnp.square(sparseacc.jax.product(rule, x, w)).sum()
step = jax.jit(lambda w: w - 1e-9 * jax.grad(loss)(w))
if "elsewhere" in sys.argv:  # every call is new to the process
    sparseacc.jax.xla.prepare = lambda *arguments: None
    sparseacc.jax.xla.remember = lambda *arguments: None
"""
ENDINGS = {
    "a loop": "for _ in range(100): w = step(w)",
    "SystemExit": "for _ in range(100): w = step(w)\nraise SystemExit(0)",
    "a scan": "jax.lax.scan(lambda w, _: (step(w), None), w, None, length=100)",
    "one call": "step(w)",
}


@pytest.mark.parametrize("elsewhere", [[], ["elsewhere"]], ids=["", "elsewhere"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_while_sums_are_computed(ending, elsewhere):
    """XLA waits for its threads when the interpreter has ended: they must not wait for the interpreter then."""
    command = [sys.executable, "-c", ENDING + ENDINGS[ending], *elsewhere]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")


def test_what_is_printed_at_the_end_is_computed(rng):
    """JAX waits for effects when the interpreter ends: the calls before them need no Python."""
    printed = "jax.jit(lambda w: jax.debug.print('{}', step(w).shape[0] * (step(w)[0] > 0.5)))(w)"
    found = subprocess.run([sys.executable, "-c", ENDING + printed], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, "9", "")


def test_an_array_of_many_dimensions_is_right(rng):
    """Of more than C remembers."""
    x1, x2 = arrays(rng, (1,) * 17, (2,) * 3 + (1,) * 14)
    for _ in range(2):
        check(np.asarray(product(x1, x2)), Oracle(RULE, np.asarray(x1), np.asarray(x2)).product())


LEAKING = """
import gc, jax, jax.numpy as jnp, sparseacc, sparseacc.jax
from sparseacc.cpu import execution

execution._plans._most = 500  # full soon, where it takes 16,384 new shapes otherwise
rule = sparseacc.clebsch_gordan(2, 2, 2)
product = lambda a, b: sparseacc.jax.product(rule, a, b)
loss = lambda a, b: product(a, b).sum()
gradients = jax.jit(jax.grad(loss, (0, 1)))
one, vmapped, jitted = jax.jit(jax.grad(loss)), jax.jit(jax.vmap(product)), jax.jit(product)
x, large = jnp.ones((30, 5)), jnp.ones((200_000, 5))
shared, half, whole = x[:1], x.astype("bfloat16"), x.astype(int)
new = iter(range(10**9))

def new_shape():
    rows = next(new)
    sparseacc.jax.xla.prepare(rule, -1, x.dtype, [(rows, 5), (1, 5), (rows, 5)])
    sparseacc.jax.xla.prepare(rule, -1, x.dtype, [(rows, 5), (rows, 5), (1, 5)])

def in_python():
    elsewhere(x, x)

calls = [
    (20_000, lambda: jitted(x, x)),
    (20_000, lambda: one(x, x)),
    (20_000, lambda: gradients(x, shared)),
    (20_000, lambda: gradients(half, half)),
    (20_000, lambda: vmapped(x, x)),
    (10_000, lambda: product(x, x)),
    (10_000, lambda: product(whole, x)),
    (10_000, new_shape),
    (100, lambda: gradients(large, shared)[1].block_until_ready()),
    (20_000, in_python),
]

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

for k, (times, call) in enumerate(calls):
    if call is in_python:
        sparseacc.jax.xla.prepare = sparseacc.jax.xla.remember = lambda *arguments: None
        elsewhere = jax.jit(lambda a, b: product(a, b))
    for _ in range(times // 5):
        call()
    before = resident()
    for _ in range(times):
        call()
    grown = resident() - before
    assert grown < (4 << 20 if times > 100 else 64 << 20), (k, grown)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not say what is resident")
def test_memory_does_not_grow_with_calls():
    """Of no kind: by less than the text of this rule a call, or a tenth of a large result."""
    found = subprocess.run([sys.executable, "-c", LEAKING], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr


def test_an_error_in_python_is_jaxs_error(monkeypatch, rng):
    def fails(*arguments):
        raise MemoryError("no room")

    x1, x2 = arrays(rng, (1003,), (1003,))
    with monkeypatch.context() as patch:
        as_if_lowered_elsewhere(patch)
        patch.setattr(xla, "planned", fails)
        with pytest.raises(
            (jax.errors.JaxRuntimeError, ValueError), match="RESOURCE_EXHAUSTED: sparseacc: MemoryError: no room"
        ):
            product(x1, x2).block_until_ready()
    check(np.asarray(product(x1, x2)), Oracle(RULE, np.asarray(x1), np.asarray(x2)).product())


@pytest.mark.filterwarnings("ignore:Exception ignored from cffi callback")
def test_an_error_that_cannot_be_said_is_one_too(monkeypatch, rng):
    """As of an interrupt between two lines: the result was never written."""

    def fails(*arguments):
        raise ValueError("\ud800")  # which no message can hold

    with monkeypatch.context() as patch:
        as_if_lowered_elsewhere(patch)
        patch.setattr(xla, "planned", fails)
        with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match="INTERNAL: sparseacc: Python failed"):
            product(*arrays(rng, (1005,), (1005,))).block_until_ready()


def test_what_xla_keeps_is_the_rule_itself():
    """By value: a compiled function may be loaded where the rule has never been."""
    text = xla.attribute(RULE, -2).encode()
    assert xla._decoded(text) == (RULE, -2)


def test_many_threads_call_compiled_functions(rng):
    from concurrent.futures import ThreadPoolExecutor

    x1, x2 = arrays(rng, (20_000,), (20_000,), "f4")
    compiled = jax.jit(jax.value_and_grad(partial(lambda b, a: product(a, b).sum(), a=x1)))
    expected = compiled(x2)
    with ThreadPoolExecutor(6) as pool:
        for result in pool.map(lambda _: compiled(x2), range(60)):
            assert all(np.array_equal(a, b) for a, b in zip(result, expected))
