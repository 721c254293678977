"""Threads, instruction sets and the 16-bit conversions."""

import os
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import sparseacc
from sparseacc.algebra import FORWARD, JVP, VJP, VJP_VJP
from sparseacc.cpu.programs import Program

IDENTITY = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("layout", ["lanes", "rows", "strided"])
@pytest.mark.filterwarnings("ignore:.*encountered in cast:RuntimeWarning")
def test_every_16_bit_number_is_read_and_written_as_numpy_does(instruction_set, dtype, layout):
    """All 65536 of them times 1 come back (-0 as 0, the sum 0 + -0), and products that need rounding round to nearest
    even."""
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    rule = IDENTITY
    if layout == "rows":
        rule = sparseacc.Rule(range(8), [0] * 8, range(8), [1.0] * 8, (8, 1, 8))
    shape = {"lanes": (-1, 1), "rows": (-1, 8), "strided": (-1, 1)}[layout]
    x = every.reshape(shape)
    if layout == "strided":
        x = np.repeat(x, 2, axis=0)[::2]
    one = np.ones(1, dtype)
    result = rule(x, one).ravel()
    nan = np.isnan(every.astype(np.float32))

    def bits(array):
        return (array.astype(np.float32)[~nan] + 0).view(np.uint32)

    assert np.array_equal(bits(result), bits(every))
    assert np.all(np.isnan(result.astype(np.float32)) == nan)

    scale = np.array([0.37109375], dtype)  # exact in both
    with np.errstate(all="ignore"):
        expected = (every.astype(np.float32) * np.float32(0.37109375)).astype(dtype)
    result = rule(x, scale).ravel()
    assert np.array_equal(bits(result), bits(expected))


def operations_and_terms_in_quads(rule, operation, dtype):
    program = Program(rule, operation, (True,) * len(operation.outputs), np.dtype(dtype))
    code, at = program.pointer.code, 1
    quads = singles = 0
    for _ in range(code[0]):
        groups = code[at + 4]
        at += 5
        for _ in range(groups):
            q, s = code[at + 2] + code[at + 3], code[at + 4] + code[at + 5]
            at += 6 + 4 * q + 2 * s
            quads, singles = quads + q, singles + s
    return 6 * quads + 2 * singles, 4 * quads


def test_terms_of_rotations_and_of_complex_numbers_are_found_in_quads():
    """Speed depends on it: 6 operations for 4 terms. The 3 (2 l + 1) terms with an m or a mu of zero have no quad."""
    for degree in range(3, 9):
        rule = sparseacc.clebsch_gordan(degree, degree, degree)
        for operation in (FORWARD, VJP, JVP, VJP_VJP):
            terms = rule.nnz * len(operation.products)
            operations, in_quads = operations_and_terms_in_quads(rule, operation, "f4")
            assert in_quads >= terms - 3 * (2 * degree + 1) * len(operation.products)
            assert operations == 2 * terms - in_quads // 2
    single = sparseacc.Rule([0, 1], [0, 1], [0, 0], [0.3, 0.4], (2, 2, 1))
    assert operations_and_terms_in_quads(single, FORWARD, "c8") == (12, 8)


def test_a_rule_of_many_equal_coefficients_is_not_searched_forever():
    n = 30_000
    rng = np.random.default_rng(0)
    rule = sparseacc.Rule(*rng.integers(0, 100, (3, n)), np.ones(n), (100, 100, 100))
    x = rng.normal(size=(1, 100))
    assert abs(rule(x, x)[0] - np.einsum("a,b,abc->c", x[0], x[0], rule.to_dense())).max() < 1e-10


def test_instruction_sets_are_named_and_checked():
    names = sparseacc.cpu.instruction_sets()
    assert names[0] == "baseline"
    assert sparseacc.cpu.instruction_set() == names[-1]
    sparseacc.cpu.set_instruction_set("baseline")
    assert sparseacc.cpu.instruction_set() == "baseline"
    with pytest.raises(ValueError, match="'mmx' is not one of this machine's: baseline"):
        sparseacc.cpu.set_instruction_set("mmx")


def test_threads_are_counted_and_checked():
    sparseacc.set_num_threads(3)
    assert sparseacc.get_num_threads() == 3
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="n "):
            sparseacc.set_num_threads(wrong)
    assert sparseacc.get_num_threads() == 3
    sparseacc.set_num_threads(10**12)
    x = np.ones((3, 1))
    assert np.array_equal(IDENTITY(x, x), x)


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_importing_loads_no_framework():
    code = "import sys, sparseacc; print([m for m in ('torch', 'jax', 'cupy', 'dask', 'scipy') if m in sys.modules])"
    assert run(code).stdout.split() == ["[]"]


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system does not tell a process's size")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_tile_that_does_not_fit_in_memory_is_one_error(threads):
    """Its result does: 128 MB, and 6 GB for the tile."""
    code = f"""
import resource, numpy as np, sparseacc
sparseacc.set_num_threads({threads})
rule = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 2**24))
x = np.ones((2, 1), np.float32)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 2**29
resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    rule(x, x)
except MemoryError as error:
    print(error)
"""
    done = run(code)
    said = r"no memory for a tile of rows of Rule\(shape=\(1, 1, 16777216\), nnz=1, digest=[0-9a-f]{8}\)\n"
    assert re.fullmatch(said, done.stdout), done.stderr
