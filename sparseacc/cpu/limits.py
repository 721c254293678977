"""How many processors and how much memory this process may use, as the user, the system and its cgroup say."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")


def asked(variable: str, least: int) -> int | None:
    """The whole number in an environment variable, None if it is not set.

    Raises
    ------
    ValueError
        If something else is in it, or a number below `least`.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{variable} is {text!r}, but must be a whole number from {least}")
    return int(text)


def processors(root: Path = ROOT) -> int:
    """Those that the process may run on, and no more than its cgroup has time for: a quota of 1.5 is 2."""
    return math.ceil(time_of_processors(root))


def time_of_processors(root: Path = ROOT) -> float:
    """How many processors' time the process may have."""
    found: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    times = [_numbers(group / "cpu.max") for group in _groups(root)]
    for group in _groups(root, "cpu"):
        times.append(_numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us"))
    for time in times:
        if len(time) == 2 and min(time) > 0:
            found = min(found, time[0] / time[1])
    return found


def memory(root: Path = ROOT) -> int:
    """Bytes: the machine's, and no more than its cgroup's limit."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for group in _groups(root):
        found += _numbers(group / "memory.max")
    for group in _groups(root, "memory"):
        found += _numbers(group / "memory.limit_in_bytes")
    return min(found)


def addresses_are_limited() -> bool:
    """Whether what is mapped counts for the process, used or not (ulimit -v, ulimit -d)."""
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)


def _groups(root: Path, controller: str = "") -> Iterator[Path]:
    """The process's cgroup and those around it, in the tree of a controller (version 1) or in the one of version 2.

    In a container the process may be told a path that only the host has. The root that it sees is then its own.
    """
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                top = root / "sys/fs/cgroup" / controller
                own = top / path.lstrip("/")
                yield from (group for group in (own, *own.parents) if group.is_relative_to(top))


def _numbers(file: Path) -> list[int]:
    """Those in a file; none if it is not there, or says "max"."""
    with suppress(OSError, ValueError):
        return [int(word) for word in file.read_text().split()]
    return []


KEPT = min(2**29, memory() // 32)
"""Bytes that may be kept of one kind between calls, where the user has said nothing."""
