"""What `cpu.source` and `cuda.source` are asked for, checked, and the names of what they write."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

_AXES = {-1: "last", -2: "middle", 0: "first"}


def chosen(what: str, value: Any, known: Iterable[str]) -> str:
    """`value`, which has to be one of those known."""
    names = list(known)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, not {value!r}")
    return value


def chosen_dtype(dtype: Any, known: Iterable[str]) -> str:
    """The name of a dtype; of bfloat16, which NumPy does not have, without ml_dtypes too."""
    names = list(known)
    if dtype is not None and not (isinstance(dtype, str) and dtype in names):  # None is float64 for NumPy
        with suppress(TypeError, ValueError, SyntaxError):  # of what is no dtype
            name = str(np.dtype(dtype).name)
            if name in names:
                return name
    return chosen("dtype", dtype, names)


def chosen_axis(axis: Any, known: Iterable[str]) -> str:
    """The name of an axis, which may be given as a number as well."""
    names = list(known)
    if isinstance(axis, str):
        return chosen("axis", axis, names)
    numbers = {number: name for number, name in _AXES.items() if name in names}
    try:
        if isinstance(axis, bool):
            raise TypeError
        return numbers[operator.index(axis)]
    except (TypeError, KeyError):
        both = ", ".join(f"{name} ({number})" for number, name in numbers.items())
        raise ValueError(f"axis must be one of {both}, not {axis!r}") from None


def unique_name(name: str, *content: bytes) -> str:
    """A name for a function that no function of other content has."""
    digest = hashlib.sha256()
    for part in content:
        digest.update(hashlib.sha256(part).digest())
    return f"{name}_{digest.hexdigest()[:16]}"
