"""Chunks of CuPy are multiplied on their GPU."""

import numpy as np
import pytest

import sparseacc

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
da = pytest.importorskip("dask.array", reason="Dask is not installed")
from device import MARKS  # noqa: E402 - where there is CuPy

pytestmark = MARKS


def test_results_are_those_of_whole_arrays_in_chunks_of_the_gpu(rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    dy, x1, x2 = (cupy.asarray(rng.normal(size=(40, n)).astype(np.float32)) for n in (5, 5, 3))
    lazy = [da.from_array(x, chunks=(11, -1), asarray=False) for x in (dy, x1, x2)]
    results = [rule(*lazy[1:]), *rule.vjp(*lazy), rule.vjp(*lazy[:2], x2[0])[1]]
    expected = [rule(x1, x2), *rule.vjp(dy, x1, x2), rule.vjp(dy, x1, x2[0])[1]]
    for result, value in zip(results, expected, strict=True):
        assert isinstance(result._meta, cupy.ndarray)
        computed = result.compute(scheduler="synchronous")
        assert isinstance(computed, cupy.ndarray)
        assert np.allclose(computed.get(), value.get(), rtol=1e-5, atol=1e-6)
    assert results[0].compute(scheduler="synchronous").get().tobytes() == expected[0].get().tobytes()


def test_chunks_of_the_host_and_the_gpu_are_refused_at_once(rng):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    x = da.from_array(rng.normal(size=(4, 3)), chunks=(2, -1))
    with pytest.raises(ValueError, match="x1"):
        rule(x, cupy.ones((4, 3)))
