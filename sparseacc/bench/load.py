"""Whether other programs take the processors, so that times mean little."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..cpu.limits import processors, time_of_processors
from .measuring import Result

PROBE = 0.1
LEAST_SHARE = 0.85
MOST_UNSTEADY = 0.3
ADVICE = (
    "Times are too long, those of long calls above all, and factors are wrong. End other programs and run it again."
)


def before() -> str:
    """A warning, or nothing: of the load average, and of the share of the processors that this process gets."""
    count = processors()
    share = _share(count)
    if share < LEAST_SHARE:
        return f"this process gets {share:.0%} of {_counted(count)}: others take the rest. {ADVICE}"
    load, all_of_them = os.getloadavg()[0], os.cpu_count() or count
    if load > all_of_them:
        return f"the load average is {load:.1f} on {_counted(all_of_them)}. {ADVICE}"
    return ""


def after(results: Sequence[Result]) -> str:
    """A warning, or nothing: of the spread of our own calls."""
    unsteady = statistics.median(result.unsteady for result in results)
    if unsteady <= MOST_UNSTEADY:
        return ""
    return f"the middle half of sparseacc's own times spreads over {unsteady:.0%} of the median. {ADVICE}"


def _counted(count: int) -> str:
    return f"{count} processor{'s' if count > 1 else ''}"


def _share(count: int) -> float:
    """The CPU time of so many busy threads over the time that has passed, for each."""
    begin, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(_busy, [begin + PROBE] * count))
    return (time.process_time() - cpu) / (time.perf_counter() - begin) / time_of_processors()


def _busy(end: float) -> None:
    numbers = np.ones(2**17)
    while time.perf_counter() < end:
        np.sqrt(numbers, out=numbers)  # NumPy lets other threads run meanwhile
