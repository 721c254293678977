"""Everything is declared in pyproject.toml but this: cffi takes its modules from nowhere else."""

from setuptools import setup

setup(cffi_modules=["sparseacc/cpu/build.py:ffibuilder"])
