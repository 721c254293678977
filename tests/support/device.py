"""Arrays on a CUDA device, and the marks of tests that need one. For those who have CuPy."""

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="needs CuPy")

try:
    DEVICES = cupy.cuda.runtime.getDeviceCount()
except cupy.cuda.runtime.CUDARuntimeError:
    DEVICES = 0

MARKS = [
    pytest.mark.cuda,
    pytest.mark.skipif(not DEVICES, reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # files that others leave open
]


def to_device(array):
    """The same shape, strides and misalignment on the device."""
    if array is None:
        return None
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides)]
    before, after = -sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    if not array.size:
        return cupy.zeros(array.shape, array.dtype)
    offset = before + (array.ctypes.data - before) % 16
    host = np.zeros(offset + after + array.itemsize, np.uint8)
    np.ndarray(array.shape, array.dtype, host.data, offset, array.strides)[...] = array
    memory = cupy.asarray(host).data
    return cupy.ndarray(array.shape, array.dtype, memory + offset, array.strides)
