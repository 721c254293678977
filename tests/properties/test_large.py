"""Calls on very many rows: they count them right, end at once where there is nothing to do, and answer signals."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import numbers

import sparseacc
from sparseacc.cpu import execution, turns

NATIVE = Path(sparseacc.cpu.__file__).parent / "native"
COMPILER = shutil.which("cc")

NOTHING_TO_DO = """
import numpy as np, sparseacc
x = np.empty((2**45, 0))
rule = sparseacc.Rule([], [], [], [], (0, 0, 0))
assert rule(x, x).shape == rule(x, x, out=np.empty_like(x)).shape == x.shape
assert [dx.shape for dx in rule.vjp(x, x, x)] == [x.shape] * 2
assert [dx.shape for dx in rule.vjp_vjp(x, x, x, x, x)] == [x.shape] * 3
assert rule.jvp(x, x, x, x).shape == x.shape
assert rule.coefficient_vjp(x, x, x).shape == (0,)
shared = sparseacc.Rule([], [], [], [], (0, 3, 0)).vjp(x, x, np.ones((1, 3)))
assert shared[0].shape == x.shape and np.array_equal(shared[1], np.zeros((1, 3)))
one = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))
assert one(np.empty((2**40, 0, 1)), np.ones(1)).shape == (2**40, 0, 1)
a, b, c = (np.broadcast_to(1.0, (2**45, n)) for n in (2, 3, 4))
assert sparseacc.Rule([], [], [], [], (2, 3, 4)).coefficient_vjp(c, a, b).shape == (0,)
"""


def test_a_batch_with_nothing_to_write_or_to_add_is_done_at_once():
    subprocess.run([sys.executable, "-c", NOTHING_TO_DO], check=True, timeout=30)


SIGNALLED = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background would ignore
import numpy as np, sparseacc
n, rows = 100, 200_000
rng = np.random.default_rng(0)
rule = sparseacc.Rule(*rng.integers(0, n, (3, 60_000)), rng.normal(size=60_000), (n, n, n))
x = np.broadcast_to(np.float32(1), (rows, n))
rule(x[:1], x[:1])
outs = [np.full((rows, n), np.nan, np.float32) for _ in range(5)]  # a busy machine signals late
sparseacc.set_num_threads(1)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for out in outs:
        rule(x, x, out=out)
except KeyboardInterrupt:
    print("unfinished" if np.isnan(out).any() else "finished")
"""


def test_a_signal_ends_a_call_of_seconds_before_it_is_finished():
    """Whole vectors of one part after another: what was not reached is as it was."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["unfinished"]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2"])
@pytest.mark.parametrize(
    ("batch1", "batch2"), [((9001,), (9001,)), ((9001,), (1,)), ((60, 200), (60, 1)), ((7,), (7,))], ids=str
)
def test_results_do_not_depend_on_the_turns_of_a_long_call(dtype, batch1, batch2, rng, monkeypatch):
    def everything():
        rule = sparseacc.Rule(*np.indices((3, 3, 5)).reshape(3, -1), np.arange(45.0) / 1000, (3, 3, 5))
        y = rule(x1, x2)
        g1, g2 = rule.vjp(y, x1, x2)
        return [
            array.tobytes() for array in (y, g1, g2, *rule.vjp_vjp(g1, g2, y, x1, x2), rule.coefficient_vjp(y, x1, x2))
        ]

    x1, x2 = (numbers(rng, (*batch, 3), dtype).astype(dtype) / 16 for batch in (batch1, batch2))
    expected = everything()
    for part, seconds in ((1, 0), (100_000, 1), (10**9, 0)):
        for name, value in (("_LONG", 1), ("_PART", part), ("_LARGE_PART", part)):
            monkeypatch.setattr(execution, name, value)
        monkeypatch.setattr(turns, "_TURN", seconds)
        sparseacc.cache_clear()
        assert everything() == expected, part


COUNTS = r"""
#include "body.h"
#include <assert.h>
#include <sys/mman.h>
int64_t sa_l1_bytes(void) { return 32768; }

static int64_t blocks_done;
static void rows_of_nothing(char *const *data, int64_t blocks, const REAL *restrict C, int past_cache)
{
    (void)data, (void)C, (void)past_cache;
    blocks_done += blocks;
}

static char *reserved(int64_t bytes)
{
    void *at = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        exit(77);
    return at;
}

int main(void)
{
    /* Rows whose whole blocks have more than 2**31 columns in all, and an incomplete block at their end. */
    const int64_t rows = ((int64_t)1 << 31) / 11 * LANES + 5 * LANES + 1;
    const int64_t shape[] = {rows}, stride[] = {11 * sizeof(REAL)};
    sa_program p = {.n_inputs = 2, .n_outputs = 1, .columns = {11, 11, 11}, .planes = 1, .dtype = SA_FLOAT64};
    sa_batch batch = {&p, 1, 0, 1, shape, {{0}}};
    for (int o = 0; o < 3; o++)
        batch.operand[o] = (sa_operand){reserved(rows * stride[0]), sizeof(REAL), 0, 0, stride};
    struct plan plan = planned(&batch);
    REAL numbers[33 * LANES] __attribute__((aligned(64)));
    struct walk walk;
    plan.straight_rows = rows_of_nothing;
    start(&walk, &batch, 0);
    run_straight_rows(&batch, &plan, &walk, numbers);
    assert(blocks_done == rows / LANES + 1 && walk.rows == 0);

    /* Two rows of so many columns are no work for buffers of blocks of rows, and these are counted right. */
    const int64_t n = (int64_t)1 << 28, two[] = {2}, apart[] = {n * sizeof(REAL)}, next[] = {sizeof(REAL)};
    sa_program wide = {.n_inputs = 2, .n_outputs = 1, .columns = {1, 1, (int32_t)n}, .planes = 1, .dtype = SA_FLOAT64};
    sa_batch few = {&wide, 1, 0, 1, two, {{0, 8, 0, 0, next}, {0, 8, 0, 0, next}, {0, 8, 0, 0, apart}}};
    assert(numbers_for_lines(&wide) == (1 + 1 + LINE + n + 1) * ACROSS);
    assert(planned(&few).past_cache && planned(&few).way == run_tiles);
    return 0;
}
SA_ISA_END
"""


@pytest.mark.skipif(COMPILER is None or not (NATIVE / "body.h").exists(), reason="needs a C compiler and a checkout")
def test_numbers_of_rows_times_columns_may_exceed_32_bits(tmp_path):
    (tmp_path / "straight_bodies.h").write_text("#define EACH_STRAIGHT(EACH)\n")
    (tmp_path / "counts.c").write_text(COUNTS)
    isa = "avx2" if "avx2" in sparseacc.cpu.instruction_sets() else "baseline"
    command = [COMPILER, "-std=gnu11", "-O0", "-w", "-pthread", f"-DSA_ISA={isa}", "-DSA_REAL_BITS=64", f"-I{NATIVE}"]
    command += ["-I.", "counts.c", "-o", "counts"]
    subprocess.run(command, check=True, cwd=tmp_path)
    done = subprocess.run([tmp_path / "counts"], check=False, timeout=60)
    if done.returncode == 77:
        pytest.skip("this system does not reserve so many addresses")
    assert done.returncode == 0
