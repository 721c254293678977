"""A rule as a value: the terms of a sparse tensor C[m1, m2, mu], which nobody can change."""

from __future__ import annotations

import base64
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from .calls.arrays import AnyArray, Array
from .calls.dtypes import computed_in
from .calls.plans import Cache
from .checks import AXES, checked_coefficients, checked_index, checked_paths, checked_shape, on_host
from .values import Value, restored

if TYPE_CHECKING:
    from typing_extensions import Self


class Terms(Value):
    """What `Rule` is but for its operations, which engines have no need of: see there."""

    shape: tuple[int, int, int]
    _made_by = "Rule(m1, m2, mu, C, shape)"
    __slots__ = ()

    def __init__(
        self,
        m1: AnyArray,
        m2: AnyArray,
        mu: AnyArray,
        C: AnyArray,
        shape: Sequence[SupportsIndex],
        *,
        path: AnyArray | None = None,
        num_paths: SupportsIndex | None = None,
    ) -> None:
        self._refuse_another_start()
        sizes = checked_shape(shape)
        indices = [
            checked_index(values, name, size, f"shape[{axis}]")
            for axis, (values, name, size) in enumerate(zip((m1, m2, mu), AXES, sizes, strict=True))
        ]
        coefficients = checked_coefficients(C)
        paths, of_terms = checked_paths(path, num_paths, len(coefficients))
        for name, array in zip((*AXES, "path"), (*indices, of_terms), strict=True):
            if len(array) != len(coefficients):
                raise ValueError(
                    f"m1, m2, mu, C and path must have one entry for each term, but {name} has {len(array)} "
                    f"and C has {len(coefficients)}"
                )
        terms = (*(index.tobytes() for index in indices), coefficients.tobytes(), of_terms.tobytes())
        self._keep(sizes, paths, terms)

    __init__.__qualname__ = "Rule"  # which Python names where an argument is missing
    _fill = __init__

    @classmethod
    def from_dense(cls, array: AnyArray) -> Self:
        """The rule of the nonzero entries of a dense tensor.

        Parameters
        ----------
        array : array_like of float, shape (n1, n2, n_out)

        Raises
        ------
        ValueError
            If array is not of order 3, or an entry is not finite.
        TypeError
            If array is not real.

        Examples
        --------
        >>> rule = sparseacc.Rule.from_dense([[[2.0, 0.0]]])
        >>> rule.nnz, rule.shape, rule.C.tolist()
        (1, (1, 1, 2), [2.0])
        """
        dense = on_host(array, "array")
        if dense.ndim != 3:
            raise ValueError(f"array must have 3 dimensions (m1, m2, mu), but its shape is {dense.shape}")
        if dense.dtype.kind in "fiuc" and not np.all(np.isfinite(dense)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(dense))[0])
            raise ValueError(f"array{list(where)} is {dense[where]}: coefficients must be finite")
        m1, m2, mu = np.nonzero(dense)
        return cls(m1, m2, mu, dense[m1, m2, mu], dense.shape)

    def to_dense(self) -> npt.NDArray[np.float64]:
        """The dense tensor, shape ``(n1, n2, n_out)``, float64.

        Examples
        --------
        >>> sparseacc.Rule([0, 0], [0, 0], [1, 1], [2, 3], (1, 1, 2)).to_dense()
        array([[[0., 5.]]])
        """
        where, values = (self.m1, self.m2, self.mu), self.C
        dense = np.zeros(self.shape)
        np.add.at(dense, where, values)
        return dense

    def transpose(self, order: Sequence[SupportsIndex]) -> Self:
        """The rule with its three indices exchanged, as `numpy.transpose` does it.

        Parameters
        ----------
        order : sequence of 3 int
            Which of (m1, m2, mu) becomes m1, m2 and mu.

        Raises
        ------
        ValueError
            If order is not a permutation of (0, 1, 2).

        Examples
        --------
        The gradient with respect to x1 is the product by a transposed rule:

        >>> rule = sparseacc.clebsch_gordan(1, 2, 3)
        >>> dy, x2 = np.ones(7), np.ones(5)
        >>> np.allclose(rule.transpose((2, 1, 0))(dy, x2), rule.vjp(dy, np.ones(3), x2)[0])
        True
        """
        try:
            axes = tuple(operator.index(i) for i in order)
        except Exception as error:
            raise TypeError(f"order must be a permutation of (0, 1, 2), not {order!r}") from error
        if sorted(axes) != [0, 1, 2]:
            raise ValueError(f"order must be a permutation of (0, 1, 2), not {axes}")
        columns = (self.m1, self.m2, self.mu)
        m1, m2, mu = (columns[i] for i in axes)
        shape = tuple(self.shape[i] for i in axes)
        return restored(type(self), (m1, m2, mu, self.C, shape), {"path": self.path, "num_paths": self.num_paths})

    @property
    def m1(self) -> npt.NDArray[np.int32]:
        """The terms' indices into the first input, shape (nnz,): a new read-only view in every access."""
        return np.frombuffer(self._terms[0], np.int32)

    @property
    def m2(self) -> npt.NDArray[np.int32]:
        """The terms' indices into the second input, shape (nnz,): a new read-only view in every access."""
        return np.frombuffer(self._terms[1], np.int32)

    @property
    def mu(self) -> npt.NDArray[np.int32]:
        """The terms' indices into the output, shape (nnz,): a new read-only view in every access."""
        return np.frombuffer(self._terms[2], np.int32)

    @property
    def C(self) -> npt.NDArray[np.float64]:  # noqa: N802 - the field's name
        """The terms' coefficients, shape (nnz,): a new read-only view in every access."""
        return np.frombuffer(self._terms[3], np.float64)

    @property
    def path(self) -> npt.NDArray[np.int32]:
        """The path that each term belongs to, shape (nnz,): a new read-only view in every access."""
        return np.frombuffer(self._terms[4], np.int32)

    @property
    def nnz(self) -> int:
        """The number of terms."""
        return len(self._terms[3]) // 8

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.m1, self.m2, self.mu, self.C, self.shape), {"path": self.path, "num_paths": self.num_paths}

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        cls = type(self)
        return f"{cls.__module__}.{cls.__qualname__}", self._digest, getattr(self, "__dict__", None)

    def __repr__(self) -> str:
        paths = f", num_paths={self.num_paths}" if self.num_paths != 1 else ""
        return f"Rule(shape={self.shape}, nnz={self.nnz}{paths}, {self._mark()})"


def lengths(rule: Terms) -> tuple[int, ...]:
    """How long an operand is, by the column that addresses it (algebra.py)."""
    return *rule.shape, rule.num_paths, rule.nnz


def check_terms(rule: object) -> None:
    """Refuses what is no rule, and a rule of which there is nothing to write."""
    if not isinstance(rule, Terms):
        raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
    if not rule.nnz:
        raise ValueError(f"{rule!r} has no terms to compute")


def distinct_terms(rule: Terms, dtype: str, weighted: bool = False) -> tuple[Array, ...]:
    """m1, m2, mu and C for the product of arrays of `dtype`: terms that repeat add up where the first of them stands.

    With weights it is m1, m2, mu, path and C, and only terms of one path repeat.

    A sum that is zero stays a term, as the product of zero and an infinity is NaN.

    Raises
    ------
    ValueError
        If the dtype in which they are multiplied cannot hold a coefficient: it would become infinite, or zero or
        another subnormal number that is less precise than the others.
    """
    columns, C = (rule.m1, rule.m2, rule.mu, *([rule.path] if weighted else [])), rule.C
    first = np.arange(len(C))
    order = np.lexsort(columns)
    ordered = [column[order] for column in columns]
    begins = np.flatnonzero(np.append(True, np.any([c[1:] != c[:-1] for c in ordered], axis=0))[: len(C)])
    if len(begins) < len(C):
        with np.errstate(over="ignore"):
            total = np.add.reduceat(C[order], begins)
        first = order[begins]
        at = np.argsort(first)
        first, C = first[at], total[at]
    real = computed_in(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = C.astype(real)
        held = abs(rounded - C) <= np.finfo(real).eps / 2 * abs(C)
    if not held.all():
        bad = np.argmin(held)
        k, value = first[bad], C[bad]
        what = f"C[{k}] is {value}" if value == rule.C[k] else f"C[{k}] and the terms that repeat it add up to {value}"
        wider = "complex128" if dtype == "complex64" else "float64"
        instead = "scale the coefficients" if real == np.float64 else f"pass {wider} arrays, or scale the coefficients"
        raise ValueError(
            f"{what}, but {dtype} arrays are multiplied in {real}, where it is {float(rounded[bad])}: {instead}"
        )
    return *(column[first] for column in columns), C


def as_text(rule: Terms) -> str:
    """A rule in one line: its shape, then its columns and coefficients in base64, some 15 letters a term.

    The graphs of other libraries hold a rule in this form. It is the whole rule, so that a graph may be saved, and
    loaded in a process that has never seen the rule.
    """
    text = _texts.get(rule._digest)
    if text is None:
        sizes, columns = (*rule.shape, rule.num_paths), (rule.m1, rule.m2, rule.mu, rule.path)
        index = _index_dtype(sizes)
        data = b"".join([*(column.astype(index).tobytes() for column in columns), rule.C.astype("<f8").tobytes()])
        text = f"{','.join(map(str, sizes))};{base64.b64encode(data).decode()}"
        _texts.add(rule._digest, text)
    return text


_texts: Cache[str] = Cache("texts", 1024, 2**28, len)


def from_text(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the rule that `as_text` has written, by position and by name."""
    try:
        numbers, letters = text.split(";")
        sizes = tuple(map(int, numbers.split(",")))
        if len(sizes) != 4:
            raise ValueError(f"it has {len(sizes)} sizes")
        index, data = _index_dtype(sizes), base64.b64decode(letters, validate=True)
        nnz, rest = divmod(len(data), 4 * index.itemsize + 8)
        if rest:
            raise ValueError(f"{rest} bytes are left over")
    except ValueError as error:
        raise ValueError(f"this is not the text of a Rule: {text[:60]!r} ({error})") from error
    m1, m2, mu, path = np.frombuffer(data, index, 4 * nnz).reshape(4, nnz)
    C = np.frombuffer(data, "<f8", nnz, 4 * nnz * index.itemsize)
    return (m1, m2, mu, C, sizes[:3]), {"path": path, "num_paths": sizes[3]}


def _index_dtype(sizes: tuple[int, ...]) -> np.dtype[Any]:
    return np.min_scalar_type(max(sizes)).newbyteorder("<")
