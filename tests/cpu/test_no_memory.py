"""Where memory cannot be allocated there is a MemoryError, whatever needed it, and the next call is right."""

import os
import shutil
import subprocess
import sys

import pytest

COMPILER = shutil.which("cc")

FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

/* Blocks from `least` bytes on: the one after `left` of them is refused, and all later ones if `lasts`. */
static size_t least = (size_t)-1;
static long left;
static int lasts, refused;

void refuse(size_t from, long after, int always)
{
    least = (size_t)-1;
    left = after;
    lasts = always;
    refused = 0;
    least = from;
}

int were_refused(void)
{
    least = (size_t)-1;
    return refused;
}

static int is_refused(size_t size)
{
    if (size < least)
        return 0;
    const long n = __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST);
    if (n > 0 || (n < 0 && !lasts))
        return 0;
    refused++;
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size)
{
    return is_refused(size) ? 0 : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return is_refused(n * size) ? 0 : __libc_calloc(n, size);
}

void *realloc(void *at, size_t size)
{
    return is_refused(size) ? 0 : __libc_realloc(at, size);
}

int posix_memalign(void **at, size_t alignment, size_t size)
{
    if (is_refused(size))
        return ENOMEM;
    *at = __libc_memalign(alignment, size);
    return *at ? 0 : ENOMEM;
}
"""

CALLS = """
import ctypes, itertools, pickle
import numpy as np, sparseacc

shim = ctypes.CDLL(None)
shim.refuse.argtypes = ctypes.c_size_t, ctypes.c_long, ctypes.c_int
sparseacc.set_num_threads(2)
rng = np.random.default_rng(0)

def at_random(n, shape, paths=1):
    columns = [rng.integers(0, size, n) for size in (*shape, paths)]
    return sparseacc.Rule(*columns[:3], rng.normal(size=n), shape, path=columns[3], num_paths=paths)

def array(*shape):
    return rng.normal(size=shape).astype(np.float32)

rule = at_random(250, (200, 200, 200), paths=20)
rows = 600  # in tiles, whose memory is not on the stack
x1, x2, dy, w = array(rows, 200), array(rows, 200), array(rows, 200), array(rows, 20)
columns = [np.array(c) for c in (rule.m1, rule.m2, rule.mu, rule.C)]
to, of = rng.integers(0, 50, (2, 2000))
graph = sparseacc.Graph(to, of, 50)
x, y, dout, we = array(50, 200, 9), array(2000, 200), array(50, 200, 9), array(2000, 20)
cubes = sparseacc.symmetric_contraction("9x0e + 9x1o", "9x0e + 9x1o", 3)
species, of_species = np.array([0, 1] * 25), array(2, cubes.num_paths, 9)
atoms, datoms = array(50, 4, 9), array(50, 4, 9)
passing = sparseacc.message_passing, sparseacc.message_passing_vjp, sparseacc.message_passing_vjp_vjp
calls = {
    "product": lambda: rule(x1, x2),
    "product of one axis": lambda: rule(x1[:200].T, x2[:200].T, axis=0),
    "product of other dtypes": lambda: rule(x1[:50].astype("f2"), x2[:50].astype("c8")),
    "vjp": lambda: rule.vjp(dy, x1, x2),
    "vjp, summed": lambda: rule.vjp(dy, x1[:1], x2),
    "jvp": lambda: rule.jvp(x1, x2, x1, x2),
    "vjp_vjp": lambda: rule.vjp_vjp(x1, x2, dy, x1, x2, w, w),
    "coefficient_vjp": lambda: rule.coefficient_vjp(dy, x1, x2),
    "message_passing": lambda: passing[0](rule, graph, x, y, we),
    "message_passing_vjp": lambda: passing[1](rule, graph, dout, x, y, we),
    "message_passing_vjp_vjp": lambda: passing[2](rule, graph, x, y, we, dout, x, y, we),
    "polynomial": lambda: cubes(atoms, of_species, rows_of_weights=species),
    "polynomial.vjp": lambda: cubes.vjp(datoms, atoms, of_species, rows_of_weights=species),
    "polynomial.vjp_vjp": lambda: cubes.vjp_vjp(atoms, of_species, datoms, atoms, of_species, rows_of_weights=species),
    "Polynomial": lambda: sparseacc.Polynomial(cubes.terms, cubes.shape).terms[2].C,
    "symmetric_contraction": lambda: sparseacc.symmetric_contraction("1o", "0e + 1o", 3).terms[2].C,
    "Graph": lambda: passing[0](rule, sparseacc.Graph(to, of, 50), x, y, we),
    "Rule": lambda: sparseacc.Rule(*columns, rule.shape).C,
    "accumulate": lambda: sparseacc.accumulate(x1, x2, columns[2], 200, *columns[:2], columns[3]),
    "tensor_product": lambda: sparseacc.tensor_product("2x0e + 2x1o + 4x2e", "0e + 1o + 2e").C,
    "gaunt": lambda: sparseacc.gaunt(3, 3, 2).C,
    "from_dense": lambda: sparseacc.Rule.from_dense(rule.to_dense()).C,
    "pickle": lambda: pickle.loads(pickle.dumps(rule)).C,
    "transpose": lambda: rule.transpose((1, 0, 2)).C,
}

said = set()

def bits(found):
    return [f.tobytes() for f in (found if isinstance(found, tuple) else (found,))]

def tried(call, least, after, always):
    "What it gives, None for a MemoryError; and whether memory was refused."
    found = None
    shim.refuse(least, after, always)
    try:
        found = call()
    except MemoryError as error:
        said.add(str(error).partition(" of ")[0])
    except SystemError as error:  # of NumPy, which knows and has not said so
        assert "without" in str(error) and "exception" in str(error), error
    refused = shim.were_refused()
    return found if found is None else bits(found), refused
"""

# Blocks of 512 bytes and fewer are of Python's own memory: it takes them from large ones.
SWEEP = (
    CALLS
    + """
for name, call in calls.items():
    expected, errors = bits(call()), 0
    for always, planned in itertools.product((0, 1), repeat=2):
        assert bits(call()) == expected, name
        step, after, refused = 1, 0, 1
        while refused:
            if not planned:
                sparseacc.cache_clear()
            found, refused = tried(call, 600, after, always)
            assert found in (None, expected), name
            errors += found is None
            after += step
            step += after > 20 * step
    assert bits(call()) == expected, name
    print(name, errors)
    assert errors, name
assert {f"no memory for {what}" for what in ("a tile", "the rows", "the coefficients")} <= said, said  # the kernels'
"""
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    if COMPILER is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler, and glibc")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "failing.c").write_text(FAILING)
    command = [COMPILER, "-O1", "-shared", "-fPIC", "failing.c", "-o", "failing.so", "-ldl"]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "failing.so"


def run(script, shim):
    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONMALLOC": "pymalloc"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_any_block_may_be_refused(shim):
    errors = dict(line.rsplit(" ", 1) for line in run(SWEEP, shim).splitlines())
    assert sum(map(int, errors.values())) > 1000
