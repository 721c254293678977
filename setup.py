"""Everything is declared in pyproject.toml but this: cffi takes its modules from nowhere else."""

from contextlib import suppress

from setuptools import setup

with suppress(ImportError):  # without it, the kernels are compiled one after the other
    from pybind11.setup_helpers import ParallelCompile

    ParallelCompile().install()

setup(cffi_modules=["sparseacc/cpu/build.py:ffibuilder"])
