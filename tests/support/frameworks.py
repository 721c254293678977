"""Arrays of other frameworks for tests: each is skipped where the framework is not installed."""

import ml_dtypes
import numpy as np
import pytest


def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def jax():
    return pytest.importorskip("jax", reason="JAX is not installed")


class Torch:
    name = "torch"

    def __init__(self):
        self.kind = torch().Tensor

    def array(self, x):
        x = np.array(x)  # a copy of its own, writable
        if x.dtype == ml_dtypes.bfloat16:
            return torch().from_numpy(x.view(np.int16)).view(torch().bfloat16)
        return torch().from_numpy(x)

    def numpy(self, x):
        if x.dtype == torch().bfloat16:
            return x.view(torch().int16).numpy().view(ml_dtypes.bfloat16)
        return x.numpy()

    def address(self, x):
        return x.data_ptr()


class Jax:
    name = "jax"

    def __init__(self):
        self.kind = jax().Array

    def array(self, x):
        array = jax().numpy.array(x)
        assert array.dtype == np.asarray(x).dtype
        return array

    def numpy(self, x):
        return np.asarray(x)

    def address(self, x):
        return x.unsafe_buffer_pointer()


FRAMEWORKS = [Torch, Jax]
