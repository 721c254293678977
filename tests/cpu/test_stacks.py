"""What threads are born with: stacks of 64 KB are enough for every call, and helpers compute as their callers do."""

import ctypes
import platform
import subprocess
import sys

import numpy as np
import pytest

import sparseacc

EVERYTHING = """
import threading
import ml_dtypes
import numpy as np
import sparseacc
from sparseacc.bench import all_couplings

rng = np.random.default_rng(0)
rules = [sparseacc.clebsch_gordan(4, 4, 4), all_couplings(1)]
finished = []

def everything():
    for instruction_set in sparseacc.cpu.instruction_sets():
        sparseacc.cpu.set_instruction_set(instruction_set)
        for rule in rules:
            for dtype in ("f4", "f8", "c8", "c16", "f2", ml_dtypes.bfloat16):
                for axis in (-1, 1, 0):
                    for rows, rows2 in ((1, 1), (60, 60), (60, 1)):
                        def array(n, rows=rows, axis=axis, dtype=dtype):
                            shape = [rows, 5]
                            shape.insert(axis % 3, n)
                            return rng.normal(size=shape).astype(dtype)
                        n1, n2, n_out = rule.shape
                        x1, x2, dy = array(n1), array(n2, rows2), array(n_out)
                        rule(x1, x2, axis=axis)
                        rule.vjp(dy, x1, x2, axis=axis)
                        rule.jvp(x1, x2, x1, x2, axis=axis)
                        rule.vjp_vjp(x1, x2, dy, x1, x2, axis=axis)
                        rule.coefficient_vjp(dy, x1, x2, axis=axis)
    for rule in rules:  # past the caches, and with helpers
        x = np.ones((200_000, rule.shape[0]), np.float32)
        rule(x, x)
    finished.append(True)

threading.stack_size(64 * 1024)
thread = threading.Thread(target=everything)
thread.start()
thread.join()
print(finished)
"""


def test_every_call_runs_in_a_stack_of_64_kb():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVERYTHING], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["[True]"], (done.returncode, done.stderr)


class FlushedSubnormals:
    """Within it this thread flushes subnormals to zero, as torch.set_flush_denormal has it."""

    def __init__(self):
        word, bits = {"x86_64": (7, 0x8040), "aarch64": (0, 1 << 24)}[platform.machine()]  # of fenv_t
        self.math = ctypes.CDLL(None)
        self.before, self.flushed = (ctypes.c_uint32 * 32)(), (ctypes.c_uint32 * 32)()
        assert self.math.fegetenv(self.before) == 0
        assert self.math.fegetenv(self.flushed) == 0
        self.flushed[word] |= bits

    def __enter__(self):
        self.math.fesetenv(self.flushed)
        assert np.float32(1e-30) * np.float32(1e-10) == 0

    def __exit__(self, *_):
        self.math.fesetenv(self.before)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the mode of this processor is not known here"
)
def test_helpers_flush_subnormals_if_and_only_if_the_caller_does(instruction_set):
    rule = sparseacc.clebsch_gordan(8, 8, 8)
    x1, x2 = (np.full((50_000, 17), size, np.float32) for size in (1e-30, 1e-9))

    def results(threads):
        sparseacc.set_num_threads(threads)
        return rule(x1, x2).view(np.uint32)

    kept = results(1)
    with FlushedSubnormals():
        flushed = results(1)
        assert not np.array_equal(kept, flushed)
        for _ in range(3):
            assert np.array_equal(results(4), flushed)
    for _ in range(3):
        assert np.array_equal(results(4), kept)
