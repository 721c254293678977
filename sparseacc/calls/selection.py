"""Which gradients a caller wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def selected(wrt: Any, names: Sequence[str], absent: str = "") -> tuple[bool, ...]:
    """Whether the gradient for each name is wanted; the number after theirs is that of something `absent`.

    Raises
    ------
    TypeError
        If wrt is neither an integer nor a collection.
    ValueError
        If it holds anything but numbers of names.
    """
    *most, last = (f"{i} ({name})" for i, name in enumerate(names))
    may = f"wrt may hold {', '.join(most)} and {last}, not {wrt!r}"
    try:
        chosen = list(wrt) if isinstance(wrt, Iterable) else [wrt]
        known = all(i in range(len(names)) and not isinstance(i, (bool, np.bool_)) for i in chosen)
        of_absent = absent and not known and len(names) in chosen
    except Exception as error:
        raise TypeError(may) from error
    if not known:
        raise ValueError(f"{may}: {len(names)} is for {absent}, which are not given" if of_absent else may)
    return tuple(i in chosen for i in range(len(names)))
