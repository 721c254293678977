"""How many threads a call may use."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsIndex

from ..version import __version__
from . import _kernel, limits
from ._kernel import lib

VARIABLE = "SPARSEACC_NUM_THREADS"


def get_num_threads() -> int:
    """The most threads that one call uses. Small batches use fewer.

    The default is the environment's SPARSEACC_NUM_THREADS, else the first number of OMP_NUM_THREADS, else the number of
    processors that the process may run on, or that its cgroup has time for if these are fewer (a container's limit).
    threadpoolctl, where it is installed, sees and sets it as the user API "sparseacc".

    Examples
    --------
    >>> sparseacc.set_num_threads(2)
    >>> sparseacc.get_num_threads()
    2
    """
    return int(lib.sa_get_threads())


def set_num_threads(n: SupportsIndex) -> None:
    """Sets the most threads that one call uses, in the whole process. No result depends on it.

    Raises
    ------
    TypeError
        If n is not an integer.
    ValueError
        If n is below 1.
    """
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"n must be an integer, not {n!r}") from None
    if number < 1:
        raise ValueError(f"n is {number}, but at least one thread is needed")
    lib.sa_set_threads(min(number, 2**31 - 1))


@contextmanager
def bounded(threads: int) -> Iterator[None]:
    """Calls of the kernel from this thread use no more threads than that meanwhile."""
    before = lib.sa_bound_threads(threads)
    try:
        yield
    finally:
        lib.sa_bound_threads(before)


def _of_openmp() -> int:
    """The first number of OMP_NUM_THREADS; 0 if there is none, which is not for us to complain about."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and len(first) < 10 else 0


def _register() -> None:
    """Lets threadpoolctl see and set the number of threads, where it is installed, whoever imports it and when."""
    try:
        from threadpoolctl import LibController, register
    except ImportError:  # also if it is older than 3.2
        return

    class Controller(LibController):  # type: ignore[misc, unused-ignore]
        user_api = internal_api = "sparseacc"
        filename_prefixes = (Path(_kernel.__file__).name.lower(),)
        check_symbols = ("sa_get_threads",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> Any:
            return __version__

    register(Controller)


set_num_threads(limits.asked(VARIABLE, 1) or _of_openmp() or limits.processors())
_register()
