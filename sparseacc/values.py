"""What all values of sparse terms have in common: nobody can change one, and equal terms are equal values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

V = TypeVar("V", bound="Value")


class Value:
    """Sizes and columns of terms, kept as bytes, with a digest by which they are compared and found."""

    _made_by: ClassVar[str]
    _fill: ClassVar[Callable[..., None]]
    shape: tuple[int, ...]
    num_paths: int
    _terms: tuple[bytes, ...]
    _digest: bytes
    __slots__ = {  # noqa: RUF023 - with what `help` shows
        "shape": "The lengths of the active axis of the inputs and of the output.",
        "num_paths": "The number of paths: the length of the active axis of the weights.",
        "_terms": "The columns of the terms: bytes, which nobody can change. An array could, by its dtype.",
        "_digest": "Of all of it: what is kept for a value is found by this. Set last: a value that has it is whole.",
        "__weakref__": None,
    }

    def _refuse_another_start(self) -> None:
        """Called first by `__init__`, as others may have the value from a cache or as a key."""
        try:
            Value.__dict__["_digest"].__get__(self)
        except AttributeError:
            return
        raise TypeError(f"a {self._kind()} is immutable: make a new one instead of calling __init__ again")

    def _keep(self, shape: tuple[int, ...], num_paths: int, terms: tuple[bytes, ...]) -> None:
        """Called last by `__init__`."""
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "num_paths", num_paths)
        object.__setattr__(self, "_terms", terms)
        object.__setattr__(self, "_digest", _digest_of((*shape, num_paths), terms))

    @classmethod
    def _kind(cls) -> str:
        return cls._made_by.partition("(")[0]

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What `_fill` takes to make an equal value, by position and by name."""
        raise NotImplementedError

    if not TYPE_CHECKING:  # where it would stand for attributes that do not exist

        def __getattr__(self, name):
            if name in Value.__slots__:
                raise ValueError(f"this {self._kind()} was never initialised: make one with {self._made_by}")
            return object.__getattribute__(self, name)  # which raises it, and what a property has raised

    def _mark(self) -> str:
        """What tells values of one shape apart: the same for equal ones, in any process."""
        return f"digest={self._digest[:4].hex()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value):
            return NotImplemented
        return self is other or (
            self._digest == other._digest
            and self.shape == other.shape
            and self.num_paths == other.num_paths
            and self._terms == other._terms
        )

    def __hash__(self) -> int:
        return hash(self._digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (type(self), *self._arguments()), getattr(self, "__dict__", None)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {self._kind()} is immutable: make a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {self._kind()} is immutable: {name!r} cannot be deleted")


def restored(cls: type[V], arguments: tuple[Any, ...], names: dict[str, Any]) -> V:
    """An instance of a subclass, whose own __init__ may take other arguments."""
    value: V = object.__new__(cls)  # whose own __new__ may take other arguments, too
    cls._fill(value, *arguments, **names)
    return value


def keep_what_fits(value: Value, state: Any, cls: type[Value], check: Callable[..., None]) -> None:
    """Takes what a pickle says of a value besides its terms, those attributes that a class annotates, if `check` finds
    that it fits the terms: these were checked before.
    """
    try:
        check(value, **{name: state[name] for name in cls.__annotations__})
    except Exception as error:
        raise ValueError(
            f"this pickle of a {cls.__name__} is damaged: what it says of irreps does not fit its terms ({error})"
        ) from error
    value.__dict__.update(state)


def _digest_of(sizes: tuple[int, ...], terms: Sequence[bytes]) -> bytes:
    from hashlib import blake2b  # which takes 3 ms to import, and is not needed before there is a value

    digest = blake2b(repr((*sizes, *map(len, terms))).encode(), digest_size=16)
    for column in terms:
        digest.update(column)
    return digest.digest()
