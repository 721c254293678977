"""Arrays of any size go from Zarr to Zarr in the memory of a few chunks."""

import subprocess
import sys

import numpy as np
import pytest

import sparseacc

pytest.importorskip("dask.array", reason="Dask is not installed")
zarr = pytest.importorskip("zarr", reason="Zarr is not installed")

ROWS, CHUNK = 1_200_000, 40_000
PEAK = """
import re, sys
import dask, dask.array as da, numpy as np, sparseacc, zarr

folder, how = sys.argv[1:]
rule = sparseacc.clebsch_gordan(3, 2, 4)

def memory(which):
    return int(re.search(which + r":\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

def run():
    names = ("x1", "x2", "dy")
    if how == "whole":
        x1, x2, dy = (zarr.open_array(f"{folder}/{name}.zarr")[:] for name in names)
        return rule(x1, x2), rule.vjp(dy, x1, x2)
    x1, x2, dy = (da.from_zarr(f"{folder}/{name}.zarr") for name in names)
    results = zip(("y", "dx1", "dx2"), (rule(x1, x2), *rule.vjp(dy, x1, x2)))
    return dask.compute([result.to_zarr(f"{folder}/{name}.zarr", compute=False) for name, result in results])

before = memory("VmRSS")
with dask.config.set(scheduler="threads", num_workers=2):
    run()
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for its memory")
def test_arrays_go_from_zarr_to_zarr_in_the_memory_of_a_few_chunks(tmp_path, rng):
    """Of 30, which have 96 MB in and 96 MB out."""
    rule = sparseacc.clebsch_gordan(3, 2, 4)
    x1, x2, dy = (rng.random((ROWS, n), np.float32) for n in rule.shape)
    for name, array in (("x1", x1), ("x2", x2), ("dy", dy)):
        how = {"shape": array.shape, "dtype": array.dtype, "chunks": (CHUNK, array.shape[1]), "compressors": None}
        zarr.create_array(f"{tmp_path}/{name}.zarr", **how)[:] = array
    command = [sys.executable, "-c", PEAK, str(tmp_path)]
    whole, chunked = (
        float(subprocess.run([*command, how], capture_output=True, text=True, check=True).stdout)
        for how in ("whole", "chunks")
    )
    assert whole > 180
    assert chunked < 95
    for name, expected in zip(("y", "dx1", "dx2"), (rule(x1, x2), *rule.vjp(dy, x1, x2)), strict=True):
        assert np.array_equal(zarr.open_array(f"{tmp_path}/{name}.zarr")[:], expected)
