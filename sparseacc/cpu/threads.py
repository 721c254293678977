"""How many threads a call may use."""

from __future__ import annotations

import operator
import os
from typing import SupportsIndex

from ._kernel import lib

VARIABLE = "SPARSEACC_NUM_THREADS"


def _default() -> int:
    """SPARSEACC_NUM_THREADS, else the processors that this process may run on."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{VARIABLE} is {text!r}, but must be a whole number from 1")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """The most threads that one call uses. Small batches use fewer.

    The default is the environment's SPARSEACC_NUM_THREADS, or the number of processors that the process may run on.

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


set_num_threads(_default())
