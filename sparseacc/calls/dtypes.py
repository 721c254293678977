"""The dtypes that can be computed with: one table for every engine and framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import Array, converted


class Stored(NamedTuple):
    """How numbers of a dtype are stored and computed with.

    Attributes
    ----------
    component : str
        The dtype of a real number of it.
    real : str
        The real dtype in which it is computed.
    planes : int
        Real numbers that one is made of.
    itemsize : int
        Bytes of one.
    cuda : str
        Its type in CUDA.
    xla : int
        Its number in XLA's foreign-function interface.
    """

    component: str
    real: str
    planes: int
    itemsize: int
    cuda: str
    xla: int


STORED = {
    "float32": Stored("float32", "float32", 1, 4, "float", 11),
    "float64": Stored("float64", "float64", 1, 8, "double", 12),
    "complex64": Stored("float32", "float32", 2, 8, "complex64", 15),
    "complex128": Stored("float64", "float64", 2, 16, "complex128", 18),
    "float16": Stored("float16", "float32", 1, 2, "float16", 10),
    "bfloat16": Stored("bfloat16", "float32", 1, 2, "bfloat16", 16),
}


def computed_in(name: str) -> np.dtype[Any]:
    """The real dtype in which arrays of a dtype are multiplied."""
    return np.dtype(STORED[name].real)


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a batch is summed over."""
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def bfloat16(name: str) -> np.dtype[Any]:
    """NumPy's bfloat16, which a package of its own gives it. `name` is for the message."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise TypeError(f"{name} has dtype bfloat16, which needs ml_dtypes: pip install ml_dtypes") from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def as_array(value: npt.ArrayLike, name: str) -> Array:
    """`value` as an ndarray of a dtype that can be computed with."""
    array = converted(value, name)
    if array.dtype == object:
        raise TypeError(
            f"{name} ({type(value).__name__}) has dtype object, but must hold numbers: "
            f"convert it, as a sparse matrix with {name}.toarray()"
        )
    check_dtype(array.dtype, name)
    return array


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Refuses a dtype that cannot be computed with."""
    if dtype.kind not in "iu" and dtype.name not in STORED:
        raise TypeError(
            f"{name} has dtype {dtype}, but must be one of {', '.join(STORED)} or an integer: "
            f"convert it with {name}.astype(...)"
        )


def common_dtype(arrays: Mapping[str, Array]) -> np.dtype[Any]:
    """The native dtype of the result: as NumPy promotes, integers to float64."""
    try:
        dtype = np.result_type(*(array.dtype for array in arrays.values()))
    except TypeError:
        listed = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise TypeError(f"no common dtype ({listed}): convert one of them with .astype(...)") from None
    return np.dtype(np.float64) if dtype.kind in "iu" else dtype
