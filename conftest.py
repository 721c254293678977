from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import settings

import sparseacc
from sparseacc.cpu._kernel import lib

# What needs a library that is not installed has no examples to run.
_NEEDED = {
    "torch": "torch",
    "jax": "jax",
    "chunks.py": "dask",
    "dask.py": "dask",
    "cuda/execution.py": "cupy",
    "cuda/messages.py": "cupy",
    "cuda/polynomials.py": "cupy",
}
collect_ignore = [f"sparseacc/{path}" for path, library in _NEEDED.items() if find_spec(library) is None]

settings.register_profile("sparseacc", deadline=None)  # a slow machine is no failure
settings.load_profile("sparseacc")


@pytest.fixture(autouse=True)
def _names_for_docstrings(doctest_namespace):
    doctest_namespace.update(np=np, sparseacc=sparseacc)


@pytest.fixture(autouse=True)
def _restored(request):
    """Every test leaves the process-wide settings as it found them, and nothing of what it has replaced is kept."""
    threads, instruction_set = sparseacc.get_num_threads(), sparseacc.cpu.instruction_set()
    yield
    sparseacc.set_num_threads(threads)
    sparseacc.cpu.set_instruction_set(instruction_set)
    if "monkeypatch" in request.fixturenames:
        sparseacc.cache_clear()


@pytest.fixture(params=sparseacc.cpu.instruction_sets())
def instruction_set(request):
    """Each instruction set that this machine has, in use."""
    sparseacc.cpu.set_instruction_set(request.param)
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture
def straight_line_code():
    """For tests of it: SPARSEACC_STRAIGHT=0 leaves it out of a build."""
    if not lib.sa_straights():
        pytest.skip("built without straight-line code")


@pytest.fixture
def x64():
    """For tests of JAX: with 64 bits."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def _no_compiled_functions():
    """For tests of PyTorch: what others have compiled is forgotten, and what this one compiles."""
    import torch

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
