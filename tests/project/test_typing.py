"""What a type checker says of results: the caller's kind of array in, the same out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparseacc

TEXT = """
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

import sparseacc


class Tensor:
    def __dlpack__(self, *, stream: Any = None) -> Any:
        return None

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


Array = npt.NDArray[Any]
rule, t, rows = sparseacc.clebsch_gordan(1, 1, 1), Tensor(), [[1.0, 2.0, 3.0]]
n, f = np.ones((4, 3)), np.ones((4, 3), np.float32)

assert_type(rule(n, f, axis=0, out=n), Array)
assert_type(rule(rows, n), Array)
assert_type(rule(rows, rows), Array)
assert_type(rule(t, t), Tensor)
assert_type(rule(t, n, out=t), Tensor)
assert_type(rule(rows, t), Tensor)
assert_type(rule(n, rows, rows), Array)
assert_type(rule(t, n, t), Tensor)
assert_type(rule(n, n, t, axis=0), Tensor)
assert_type(rule.vjp(n, n, n), tuple[Array, Array])
assert_type(rule.vjp(n, n, n, None), tuple[Array, Array])
assert_type(rule.vjp(n, n, n, f), tuple[Array, Array, Array])
assert_type(rule.vjp(n, n, n, f, wrt=2), tuple[Array | None, Array | None, Array | None])
assert_type(rule.vjp(t, t, t, n), tuple[Tensor, Tensor, Tensor])
assert_type(rule.vjp(t, t, t, t, wrt=(0, 2)), tuple[Tensor | None, Tensor | None, Tensor | None])
assert_type(rule.vjp(n, n, n, wrt=0), tuple[Array | None, Array | None])
assert_type(rule.vjp(t, t, t), tuple[Tensor, Tensor])
assert_type(rule.vjp(t, n, t, wrt=(0,)), tuple[Tensor | None, Tensor | None])
assert_type(rule.jvp(n, n, None, rows), Array)
assert_type(rule.jvp(t, t, None, t), Tensor)
assert_type(rule.jvp(n, n, None, rows, n, None), Array)
assert_type(rule.jvp(t, t, None, t, t, t), Tensor)
assert_type(rule.vjp_vjp(n, None, n, n, n, n), tuple[Array, Array, Array, Array])
assert_type(rule.vjp_vjp(t, None, t, t, t, t, None), tuple[Tensor, Tensor, Tensor, Tensor])
assert_type(rule.coefficient_vjp(n, n, n, n), Array)
assert_type(rule.coefficient_vjp(t, t, t, t), Tensor)
assert_type(rule.vjp_vjp(n, None, n, n, n), tuple[Array, Array, Array])
assert_type(rule.vjp_vjp(t, None, t, t, t), tuple[Tensor, Tensor, Tensor])
assert_type(rule.coefficient_vjp(n, n, n), Array)
assert_type(rule.coefficient_vjp(t, t, t), Tensor)
assert_type(sparseacc.accumulate(n, rows, [0], 3, [0], [0], [1.0]), Array)
assert_type(sparseacc.accumulate(t, t, t, 3, t, t, t), Tensor)
features = sparseacc.tensor_product("4x0e", "1o")
assert_type(features(n, f), Array)
assert_type(features(t, t), Tensor)
assert_type(features.transpose((2, 1, 0)), sparseacc.Rule)
assert_type(features.irreps_out, str)
assert_type(sparseacc.to_channels(n, "3x0e"), Array)
assert_type(sparseacc.to_channels(rows, "3x0e"), Array)
assert_type(sparseacc.from_channels(t, "3x0e", layout="ir_mul"), Tensor)
assert_type(rule.m1, npt.NDArray[np.int32])
assert_type(rule.C, npt.NDArray[np.float64])
assert_type(rule.shape, tuple[int, int, int])
"""

WRONG = """
import sparseacc

rule = sparseacc.clebsch_gordan(1, 1, 1)
rule.nothing
rule.nnz = 3
rule(1.0)
"""


def checked(tmp_path, text):
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "checked.py").write_text(text)
    root = Path(sparseacc.__file__).parents[1]
    cache = ["--cache-dir", str(root / ".mypy_cache")]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, *cache, "checked.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in result.stdout.splitlines() if line.startswith("checked.py") or "Traceback" in line], result


def test_results_are_of_the_callers_kind(tmp_path):
    errors, result = checked(tmp_path, TEXT)
    assert errors == [], result.stdout


def test_mistakes_are_seen(tmp_path):
    errors, _ = checked(tmp_path, WRONG)
    assert sorted({int(line.split(":")[1]) for line in errors}) == [5, 6, 7]
