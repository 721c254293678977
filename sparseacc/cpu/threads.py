"""How many threads a call may use."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from . import limits
from ._kernel import lib

VARIABLE = "SPARSEACC_NUM_THREADS"


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


set_num_threads(limits.asked(VARIABLE, 1) or limits.processors())
