"""What execution keeps between calls: programs, kernels and plans, bounded and in one place.

Keys begin with the digest of a rule, so that equal rules share what is kept, however they were made, and a rule that is
gone keeps nothing alive but what its turn has not come yet to be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_caches: list[Cache] = []  # type: ignore[type-arg]
_others: list[tuple[str, Callable[[], int], Callable[[], None]]] = []


class Cache(dict[Hashable, T], Generic[T]):
    """A dictionary that is filled by `add` and drops its oldest entries.

    Looking one up is no more than `dict.get`, as a call of few rows costs little else.

    Parameters
    ----------
    kind : str
        What it holds, for `cache_info`.
    most : int
        Entries, at most.
    most_bytes : int, optional
        What all entries may take together, but for the newest.
    size_of : callable, optional
        Bytes that an entry takes.
    newest : int, optional
        Entries that stay, whatever they take.
    """

    def __init__(
        self,
        kind: str,
        most: int,
        most_bytes: int = 2**63,
        size_of: Callable[[T], int] = lambda _: 0,
        newest: int = 1,
    ) -> None:
        super().__init__()
        self.kind, self._most, self._most_bytes, self._size_of, self._newest = kind, most, most_bytes, size_of, newest
        self._added = 0  # bytes, as far as threads do not come in between
        _caches.append(self)

    def add(self, key: Hashable, value: T) -> T:
        """Keeps a value, in place of the oldest ones if it has to, and returns it."""
        self[key] = value
        size = self._size_of(value)  # before the sum is read, which other threads add to
        self._added += size
        while len(self) > self._most:
            self._drop_oldest()
        if self._added > self._most_bytes:
            self._added = self.bytes()
            if self._added > self._most_bytes:  # an eighth more, as all are looked at
                while len(self) > self._newest and self._added > self._most_bytes * 7 // 8:
                    self._drop_oldest()
        return value

    def _drop_oldest(self) -> None:
        with suppress(StopIteration, RuntimeError, KeyError):  # another thread has changed it meanwhile
            self._added -= self._size_of(self.pop(next(iter(self))))

    def bytes(self) -> int:
        """What all entries take together."""
        return sum(map(self._size_of, list(self.values())))


def register(kind: str, size: Callable[[], int], clear: Callable[[], None]) -> None:
    """Lets `cache_info` and `cache_clear` know of what something else keeps: how many bytes, and how to drop it."""
    _others.append((kind, size, clear))


class Kept(NamedTuple):
    """What is kept of one kind.

    Attributes
    ----------
    entries : int
    bytes : int
    """

    entries: int
    bytes: int


def cache_info() -> dict[str, Kept]:
    """What is kept between calls, by its kind.

    Returns
    -------
    dict of str to Kept
        Entries and bytes of "plans" (of calls of one rule, for certain shapes and dtypes), "programs" (operations of a
        rule as the CPU's kernel reads them), "kernels" (those compiled for a GPU), "results" (memory of large results,
        kept for the next ones) and others. Bytes are those of the data alone.

    Examples
    --------
    >>> rule = sparseacc.clebsch_gordan(1, 1, 1)
    >>> y = rule(np.ones(3), np.ones(3))
    >>> sparseacc.cache_info()["plans"].entries > 0
    True
    """
    info = {cache.kind: Kept(len(cache), cache.bytes()) for cache in _caches}
    others = ((kind, size()) for kind, size, _ in _others)
    return info | {kind: Kept(int(held > 0), held) for kind, held in others}


def cache_clear() -> None:
    """Drops all that is kept between calls, and gives its memory back.

    Results do not change: what is needed is made again. What C repeats for torch and XLA
    stays, 64 MB at most.

    Examples
    --------
    >>> sparseacc.cache_clear()
    >>> sum(kept.entries for kept in sparseacc.cache_info().values())
    0
    """
    for cache in _caches:
        cache.clear()
    for _, _, clear in _others:
        clear()
