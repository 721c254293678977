"""The end of the interpreter: calls of daemon threads go on in C until the process is gone, and nothing that they use
may be freed before."""

import os
import subprocess
import sys

import pytest

# A call of about a second, which is still running when everything that nobody refers to has been freed. Memory that is
# freed is overwritten at once (MALLOC_PERTURB_, of glibc).
CALLS = """
import sys, threading, time
import numpy as np, sparseacc

n = 64
i = np.arange(n * n)
rule = sparseacc.Rule(i // n, i % n, 0 * i, np.sqrt(1.0 + i), (n, n, 1))
sparseacc.cpu.set_instruction_set("baseline")
sparseacc.set_num_threads(2)

def in_daemons(call, daemons=1):
    running = threading.Semaphore(0)
    def run():
        x = np.ones((100_000, n))
        running.release()
        call(x)
    for _ in range(daemons):
        threading.Thread(target=run, daemon=True).start()
        running.acquire()
    time.sleep(0.1)
"""


def ends(script, code=0):
    """Runs it to its end, which comes soon and without a word."""
    finished = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CALLS + script],
        env=os.environ | {"MALLOC_PERTURB_": "170"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (code, "")


@pytest.mark.parametrize("daemons", [1, 4])
def test_a_daemon_thread_may_be_computing_a_large_result(daemons):
    ends(f"in_daemons(lambda x: rule.vjp(x[:, :1], x, x), {daemons})")


@pytest.mark.parametrize("way", ["in_new_memory", "in_memory_kept_before"])
def test_an_exit_has_its_code_while_a_daemon_thread_computes(way):
    warm = "x = np.ones((100_000, n)); rule.vjp(x[:, :1], x, x); del x" if way == "in_memory_kept_before" else ""
    ends(f"{warm}\nin_daemons(lambda x: rule.vjp(x[:, :1], x, x)); sys.exit(3)", code=3)


def test_an_exit_does_not_wait_for_a_daemon_threads_call():
    """A call of some hours."""
    ends("in_daemons(lambda x: rule.coefficient_vjp(*[np.broadcast_to(x[:1, :k], (10**9, k)) for k in (1, n, n)]))")


def test_a_daemon_threads_call_of_xla_has_its_rule_to_the_end():
    """One that was exported, so that nothing in JAX keeps the rule. A thread that waited for the result would die with
    the interpreter, as in any call of JAX: XLA's own threads compute here."""
    pytest.importorskip("jax", reason="JAX is not installed")
    ends("""
import jax, jax.export, sparseacc.jax

check = jax.export.DisabledSafetyCheck.custom_call("sparseacc_product")
a, b = jax.export.symbolic_shape("a, b")
many, few = jax.ShapeDtypeStruct((a, 1, n), "f4"), jax.ShapeDtypeStruct((b, n), "f4")
product = jax.jit(lambda many, few: sparseacc.jax.product(rule, many, few))
product = jax.jit(jax.export.export(product, disabled_checks=[check])(many, few).call)
arrays = np.ones((10_000, 1, n), np.float32), np.ones((250, n), np.float32)
sparseacc.cpu.set_instruction_set(sparseacc.cpu.instruction_sets()[-1])
product(*arrays).block_until_ready()  # the next is C's, and takes longer than the end
sparseacc.cpu.set_instruction_set("baseline")
sparseacc.set_num_threads(1)
in_daemons(lambda _: (product(*arrays), time.sleep(100)))
""")
