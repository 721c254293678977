"""Sources launched as a program in C++ launches them, on a device: NVRTC, and the geometry that C++ computes."""

import numpy as np
import pytest
from embedding import CXX, EXAMPLES, has, launches
from oracle import Oracle, check
from strategies import numbers

import sparseacc

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
from device import MARKS  # noqa: E402 - where there is CuPy

pytestmark = [
    *MARKS,
    pytest.mark.skipif(not EXAMPLES.exists(), reason="not in a clone"),
    pytest.mark.skipif(not has(CXX), reason="no C++ compiler"),
]


@pytest.mark.parametrize("op", ["forward", "coefficient_vjp"])
@pytest.mark.parametrize(("axis", "batch"), [(-1, (300,)), (-2, (3, 45)), (0, (130,))])
def test_a_kernel_launched_by_the_formulas_in_cpp_is_within_the_bound(op, axis, batch, tmp_path, rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    kernel = sparseacc.cuda.source(rule, op, axis=axis)
    x1, x2, dy = (np.moveaxis(numbers(rng, (*batch, n), "f4"), -1, axis).copy() for n in rule.shape)
    rows = int(np.prod(batch))
    (how,) = launches(tmp_path, kernel, [rows])
    oracle = Oracle(rule, x1, x2, axis)
    expected = oracle.product() if op == "forward" else oracle.coefficient_vjp(dy)
    out = cupy.full(dy.shape, np.nan, "f4") if op == "forward" else cupy.full((how.grid[0], rule.nnz), np.nan)
    given = {"x1": x1, "x2": x2, "dy": dy} | dict(zip(["table"], kernel.tables))
    named = {name: cupy.asarray(array) for name, array in given.items()}
    named |= {"out": out, "rows": np.int64(rows), "n1": np.int64(batch[-1])}
    function = cupy.RawModule(code=kernel.code, options=kernel.options).get_function(kernel.name)
    function(how.grid, how.block, tuple(named[name] for name in kernel.arguments), shared_mem=how.shared_mem)
    check(out.get() if op == "forward" else out.get().sum(axis=0), expected)
