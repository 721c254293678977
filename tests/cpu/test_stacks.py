"""What threads are born with: stacks of 64 KB are enough for every call, and helpers compute as their callers do."""

import ctypes
import os
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
whole = sparseacc.tensor_product("2x0e + 2x1o + 4x2e", "0e + 1o + 2e", "0e + 1o + 2e")
finished = []

def messages(dtype):
    nodes, edges = 40, 300
    graph = sparseacc.Graph(*rng.integers(0, nodes, (2, edges)), nodes)
    n1, n2, n_out = whole.shape
    for channels in (1, 5, 64):
        for y_channels in ((), (channels,)):
            x, y, w, dout = (rng.normal(size=shape).astype(dtype) for shape in (
                (nodes, n1, channels), (edges, n2, *y_channels), (edges, whole.num_paths, channels),
                (nodes, n_out, channels)))
            sparseacc.message_passing(whole, graph, x, y, w)
            sparseacc.message_passing_vjp(whole, graph, dout, x, y, w)
            sparseacc.message_passing_vjp_vjp(whole, graph, x, y, w, dout, x, y, w)

contraction = sparseacc.symmetric_contraction("64x0e + 64x1o + 64x2e", "64x0e + 64x1o", 3)

def polynomials(dtype):
    rows = rng.integers(0, 3, 40)
    for channels in (1, 5, 64):
        x, w, dy = (rng.normal(size=(n, size, channels)).astype(dtype)
                    for n, size in ((40, 9), (3, contraction.num_paths), (40, 4)))
        contraction(x, w, rows_of_weights=rows)
        contraction.vjp(dy, x, w, rows_of_weights=rows)
        contraction.vjp_vjp(x, w, dy, x, w, rows_of_weights=rows)

def everything():
    for instruction_set in sparseacc.cpu.instruction_sets():
        sparseacc.cpu.set_instruction_set(instruction_set)
        for dtype in ("f4", "f8", "f2", ml_dtypes.bfloat16):
            polynomials(dtype)
        for dtype in ("f4", "f8", "c8", "f2", ml_dtypes.bfloat16):
            messages(dtype)
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


HELPERS = """
import os
import time
import ml_dtypes
import numpy as np
import sparseacc

def deepest(task):
    "Bytes below a sleeping thread's frame that were ever touched, and that there are."
    with open(f"/proc/self/task/{task}/syscall") as file:
        pointer = int(file.read().split()[-2], 16)
    with open("/proc/self/maps") as file:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in file]
    (begin,) = (begin for begin, end in ranges if begin <= pointer < end)
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(begin // page * 8)
        pages = np.fromfile(file, np.uint64, (pointer - begin) // page + 1)
    return pointer - begin - int(np.flatnonzero(pages >> np.uint64(62))[0]) * page, pointer - begin

page = os.sysconf("SC_PAGE_SIZE")
callers = set(os.listdir("/proc/self/task"))
sparseacc.set_num_threads(3)
rng = np.random.default_rng(0)
for name in sparseacc.cpu.instruction_sets():
    sparseacc.cpu.set_instruction_set(name)
    for degree in (5, 6):
        rule = sparseacc.clebsch_gordan(degree, degree, degree)
        for dtype in ("f4", "f8", "c8", ml_dtypes.bfloat16):
            for axis, rows in ((-1, (9000,)), (1, (40, 256)), (0, (1000, 9))):
                shape = list(rows)
                shape.insert(axis % 3, rule.shape[0])
                x = rng.normal(size=shape).astype(dtype)
                rule.vjp_vjp(x, x, x, x, x, axis=axis)
                rule.coefficient_vjp(x, x, x, axis=axis)
    rule = sparseacc.tensor_product("2x0e + 2x1o + 4x2e", "0e + 1o + 2e", "0e + 1o + 2e")
    n1, n2, n_out = rule.shape
    graph = sparseacc.Graph(*rng.integers(0, 300, (2, 4000)), 300)
    x, y, w, dout = (rng.normal(size=shape).astype("f4") for shape in (
        (300, n1, 40), (4000, n2), (4000, rule.num_paths, 40), (300, n_out, 40)))
    sparseacc.message_passing_vjp_vjp(rule, graph, x, y, w, dout, x, y, w)
    rule = sparseacc.symmetric_contraction("64x0e + 64x1o", "64x0e + 64x1o", 3)
    x, w = rng.normal(size=(4000, 4, 64)).astype("f4"), rng.normal(size=(rule.num_paths, 64)).astype("f4")
    rule.vjp_vjp(x, w, x, x, w)
time.sleep(0.2)
print(*(number for task in set(os.listdir("/proc/self/task")) - callers for number in deepest(task)))
"""


@pytest.mark.skipif(not os.access("/proc/self/syscall", os.R_OK), reason="the system does not show where threads are")
def test_helpers_use_less_of_their_stacks_than_64_kb_and_have_that():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HELPERS], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    used, there = ([int(n) for n in done.stdout.split()[k::2]] for k in range(2))
    assert len(used) == 2
    assert 8 * 1024 < max(used) < 64 * 1024 < min(there), (used, there)


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
