"""The programs that embed what the package writes: they are compiled as their first lines say, and run."""

import importlib.metadata
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from embedding import CC, CXX, EXAMPLES, STRICT, has, launches, run

import sparseacc

pytestmark = [
    pytest.mark.skipif(not EXAMPLES.exists(), reason="not in a clone"),
    pytest.mark.skipif(not has(CC) or not has(CXX), reason="no C and C++ compiler"),
]
RULE = sparseacc.clebsch_gordan(2, 1, 2)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    root = str(Path(sparseacc.__file__).parents[1])
    run("env", f"PYTHONPATH={root}", sys.executable, EXAMPLES / "generate.py", folder)
    return folder


def numbers(rows, columns, seed):
    """Those of the examples."""
    values = (np.arange(rows * columns) * 37 + seed) % 101
    return (values.astype("f4") / np.float32(101) - np.float32(0.5)).reshape(rows, columns)


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_the_cpu_program_prints_what_numpy_computes(standard, generated, tmp_path):
    objects = [tmp_path / f"{name}.o" for name in ("product", "gradient")]
    for target in objects:
        run(*CC, *STRICT, "-O3", "-march=native", "-c", generated / f"{target.stem}.c", "-o", target)
    program = tmp_path / "embed_cpu"
    include = [f"-I{generated}", f"-I{sparseacc.get_include()}"]
    strict = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
    run(*CXX, f"-std={standard}", *strict, *include, EXAMPLES / "embed_cpu.cpp", *objects, "-o", program)
    for rows in (1, 40):
        printed = dict(line.split(" ", 1) for line in run(program, rows).splitlines())
        x1, x2, dy = numbers(rows, 5, 1), numbers(rows, 3, 2), numbers(rows, 5, 3)
        C = RULE.to_dense()
        expected = {
            "out": np.einsum("ra,rb,abc->rc", x1, x2, C),
            "g_x1": np.einsum("rc,rb,abc->ra", dy, x2, C),
            "g_x2": np.einsum("rc,ra,abc->rb", dy, x1, C),
        }
        assert printed.keys() == expected.keys()
        for name, text in printed.items():
            found = np.array(text.split(), float).reshape(expected[name].shape)
            np.testing.assert_allclose(found, expected[name], atol=1e-6)


def test_launches_in_cpp_are_those_of_the_source(tmp_path):
    large = sparseacc.Rule(*[range(2000)] * 3, np.ones(2000), (2000,) * 3)
    for rule, op, dtype, axis in (
        (RULE, "forward", "float32", "last"),
        (RULE, "vjp_vjp", "complex128", "last"),
        (RULE, "vjp", "float64", "middle"),
        (RULE, "coefficient_vjp", "float32", "last"),
        (large, "coefficient_vjp", "float32", "last"),
    ):
        kernel = sparseacc.cuda.source(rule, op, dtype, axis)
        rows = [0, 1, 127, 128, 129, 10**6, 2**31, 2**40, *(kernel.rows_per_block * n for n in (1, 3, 1023, 1025))]
        assert launches(tmp_path, kernel, rows) == [kernel.launch(n) for n in rows]


def test_the_cuda_program_compiles(generated, tmp_path):
    include = cuda_headers()
    if include is None:
        pytest.skip("no headers of CUDA")
    command = [*CXX, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{generated}", f"-I{EXAMPLES}"]
    run(*command, "-isystem", include, "-c", EXAMPLES / "embed_cuda.cpp", "-o", tmp_path / "embed_cuda.o")


def cuda_headers():
    """The folder with those of the driver and of NVRTC: of a toolkit, or of NVIDIA's wheels."""
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "include")]
    for distribution in importlib.metadata.distributions():
        if (distribution.metadata["Name"] or "").startswith("nvidia-cuda-"):
            files = [file for file in distribution.files or () if file.name == "nvrtc.h"]
            folders += [Path(distribution.locate_file(file)).parent for file in files]
    return next((f for f in folders if (f / "cuda.h").exists() and (f / "nvrtc.h").exists()), None)
