"""Memory for large results.

The C library returns memory to the system when tens of megabytes are freed at once, and the next results as large get
pages that the system clears first, which takes longer than computing some of them. So the last ones are kept here, up
to a bound. From 16 MB on they are meanwhile offered to the system (MADV_FREE), which takes their pages when anyone
needs memory.
"""

from __future__ import annotations

import itertools
import math
import mmap
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..calls.plans import register
from . import limits
from ._kernel import lib

VARIABLE = "SPARSEACC_KEEP_BYTES"
ALIGNED = 2**20
"""Bytes from which a result begins at a cache line, as stores past the caches need it."""
KEPT = 2**21
"""Bytes from which a result's memory is kept. The C library gives back what is free at the end of its memory when it is
more than twice the largest block that was ever freed: the three results of a double backward are, whatever their
size."""
_OFFERED = 2**24
"""Bytes from which kept memory is offered to the system: that costs some 20 us."""
_MOST = 16
"""Results whose memory is kept: a product, its vjp and its vjp_vjp have six."""
_PAGE = 2**21
"""Bytes of a huge page. The system is asked for those that are filled: one that is hardly begun would be held whole."""
_BEGINNINGS = range(128, 128 + 8 * 192, 192)
"""Where results begin in their memory, one after the other: three that began alike would take the same places in the
caches. That is up to 15 % of a double backward."""
_MOST_LENT = 2**12
"""Results at once in memory that is kept afterwards. Each takes two of the 65,530 mappings that Linux gives a process,
and where none is left, nothing more can be allocated. The C library's take none: neighbours are one to the system."""
_SUPPORTED = hasattr(mmap, "MADV_FREE") and hasattr(mmap, "MADV_HUGEPAGE")

_asked = limits.asked(VARIABLE, 0)


class _Mapped(mmap.mmap):
    """Memory from the system, and what NumPy needs to make an array of it."""

    interface: dict[str, Any]


_beginning = itertools.cycle(_BEGINNINGS)
_lent: set[int] = set()  # by what is in use, which must not be held here; its methods are atomic, too
_kept: deque[_Mapped] = deque(maxlen=_MOST)  # every method that is used is atomic: results are freed in any thread


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array."""
    size = math.prod(shape) * dtype.itemsize
    if size < ALIGNED:
        return np.empty(shape, dtype)
    if size >= KEPT and _SUPPORTED and len(_lent) < _MOST_LENT:
        with suppress(OSError, OverflowError):  # np.empty tells what could not be allocated
            memory = np.asarray(_Lent(_taken(size + _BEGINNINGS.stop)))
            return np.ndarray(shape, dtype, memory, next(_beginning))
        clear()
    memory = np.empty(size + 63, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.ctypes.data % 64)


class _Lent:
    """Memory in use, which is kept when the last array on it is gone.

    Only this object owns it meanwhile, so that it is there for as long as any array is: also for one that a daemon
    thread still computes after the interpreter has ended, which nobody will ever free.
    """

    def __init__(self, memory: _Mapped) -> None:
        self._memory = memory
        self.__array_interface__ = memory.interface
        _lent.add(id(self))

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending():  # else this module may be gone already
            _lent.discard(id(self))
            _keep(self._memory)


def kept() -> int:
    """Bytes that are kept at this moment."""
    return sum(map(len, _kept.copy()))


def clear() -> None:
    """Gives all that is kept back to the system, and what the C library holds of what others have freed."""
    _kept.clear()
    lib.sa_trim_memory()


def _most() -> int:
    """Bytes that may be kept.

    The product, gradient and double backward of 200,000 rows of all couplings to l = 3 have 300 MB in float64. None
    where the process may map no more than so much: what is kept would then be missing elsewhere, and the system
    could not take it.
    """
    if _asked is not None:
        return _asked
    return 0 if limits.addresses_are_limited() else limits.KEPT


def _keep(memory: _Mapped) -> None:
    """Keeps it, in place of the oldest ones if it has to. What is not kept goes back to the system at once."""
    most = _most()
    if len(memory) <= most:
        with suppress(OSError):
            if len(memory) >= _OFFERED:
                memory.madvise(mmap.MADV_FREE, 0, len(memory) - _PAGE)
            _kept.append(memory)
    while kept() > most:
        with suppress(IndexError):  # another thread has taken it
            _kept.popleft()


def _taken(size: int) -> _Mapped:
    """Kept memory that is large enough and not a quarter too large, or new one."""
    whole = size // _PAGE * _PAGE
    size = -(-size // _PAGE) * _PAGE
    for memory in sorted(_kept.copy(), key=len):
        if size <= len(memory) <= size * 5 // 4:
            with suppress(ValueError, IndexError):  # another thread has taken it, or another one meanwhile
                _kept.remove(memory)
                return memory
    memory = _Mapped(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE, 0, whole)
    memory.interface = np.frombuffer(memory, np.uint8).__array_interface__
    return memory


register("results", kept, clear)
