"""A long call as several, between which Python answers signals."""

from __future__ import annotations

import time
from collections.abc import Callable

from ._kernel import lib

_TURN = 0.1
"""Seconds that a turn should take at least; it takes at most twice as many where parts are short."""


def in_turns(run: Callable[[int, int], int], parts: int) -> bool:
    """Calls ``run(first, last)`` for all parts, some at a time; returns whether one has failed.

    No result depends on where turns end.
    """
    first, each = 0, 1
    while first < parts:
        begin, last = time.monotonic(), first + each * lib.sa_get_threads()
        if run(first, min(last, parts)):
            return True
        first, seconds = last, time.monotonic() - begin
        if seconds < _TURN:
            each *= 2
        elif seconds > 2 * _TURN:
            each = max(1, each // 2)
    return False
