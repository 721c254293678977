"""A polynomial as a value, which nobody can change: sums of monomials of one array, each of a path with a weight."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from .calls.arrays import AnyArray, Array
from .calls.plans import Cache
from .checks import checked_coefficients, checked_index, checked_number, checked_sizes, on_host
from .values import Value

_ANY = np.iinfo(np.int32).max


class Monomials(NamedTuple):
    """The terms of one degree nu: ``out[..., mu[k]] += C[k] w[..., path[k]] x[..., m[k, 0]] .. x[..., m[k, nu - 1]]``.

    Each access to `terms` makes new read-only views.
    """

    m: npt.NDArray[np.int32]
    mu: npt.NDArray[np.int32]
    path: npt.NDArray[np.int32]
    C: npt.NDArray[np.float64]


class PolynomialTerms(Value):
    """What `Polynomial` is but for its calls, which engines have no need of: see there."""

    shape: tuple[int, int]
    _made_by = "Polynomial(terms, shape)"
    __slots__ = ()

    def __init__(
        self,
        terms: Iterable[tuple[AnyArray, AnyArray, AnyArray, AnyArray]],
        shape: Sequence[SupportsIndex],
        *,
        num_paths: SupportsIndex | None = None,
    ) -> None:
        self._refuse_another_start()
        n_in, n_out = checked_sizes(shape, ("n_in", "n_out"), "two")
        number = checked_number(num_paths)
        try:
            of_degrees = [(m, mu, path, C) for m, mu, path, C in terms]
        except (TypeError, ValueError) as error:
            raise TypeError(f"terms must be a sequence of (m, mu, path, C), one for each degree: {error}") from error
        checked = [
            _checked(f"terms[{nu - 1}]", nu, columns, (n_in, n_out), number)
            for nu, columns in enumerate(of_degrees, start=1)
        ]
        if number is None:
            number = max((int(of_degree.path.max(initial=-1)) + 1 for of_degree in checked), default=0)
        self._keep((n_in, n_out), number, tuple(column.tobytes() for of_degree in checked for column in of_degree))

    __init__.__qualname__ = "Polynomial"  # which Python names where an argument is missing
    _fill = __init__

    @property
    def degree(self) -> int:
        """The largest degree for which terms were given, empty ones included."""
        return len(self._terms) // 4

    @property
    def terms(self) -> tuple[Monomials, ...]:
        """The terms of degree 1, of degree 2, and so on: each (m, mu, path, C), sorted by m, then mu, then path.

        Each row of m is sorted, and no two terms have the same m, mu and path. m has the shape (nnz, nu), the others
        (nnz,), where nnz is the number of terms of that degree: new read-only views in every access.
        """
        return tuple(
            Monomials(
                np.frombuffer(self._terms[4 * nu - 4], np.int32).reshape(-1, nu),
                np.frombuffer(self._terms[4 * nu - 3], np.int32),
                np.frombuffer(self._terms[4 * nu - 2], np.int32),
                np.frombuffer(self._terms[4 * nu - 1], np.float64),
            )
            for nu in range(1, self.degree + 1)
        )

    @property
    def nnz(self) -> int:
        """The number of terms of all degrees together."""
        return sum(map(len, self._terms[3::4])) // 8

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ([tuple(of_degree) for of_degree in self.terms], self.shape), {"num_paths": self.num_paths}

    def __repr__(self) -> str:
        return (
            f"Polynomial(shape={self.shape}, degree={self.degree}, num_paths={self.num_paths}, nnz={self.nnz}, "
            f"{self._mark()})"
        )


def numbered(rows: Array) -> tuple[Array, Array]:
    """The number of each row among the different ones in their order, and of each of these one that is it. Indices are
    not negative.
    """
    key, size = np.zeros(len(rows), np.int64), 1
    for column in rows.T:
        width = int(column.max(initial=-1)) + 1
        if size * width >= 2**63:
            unique, key = np.unique(key, return_inverse=True)
            size = len(unique)
        key, size = key * width + column, size * width
    unique, number = np.unique(key, return_inverse=True)
    example = np.empty(len(unique), int)
    example[number] = np.arange(len(rows))
    return number, example


def changes(rows: Array) -> npt.NDArray[np.bool_]:
    """Which rows, or numbers, are not as the one before."""
    changed = np.ones(len(rows), bool)
    different = rows[1:] != rows[:-1]
    changed[1:] = different.any(axis=1) if rows.ndim > 1 else different
    return changed


def as_text(value: PolynomialTerms) -> str:
    """All of it as text, which a graph of another library may hold."""
    text = _texts.get(value._digest)
    if text is None:
        sizes = (*value.shape, value.num_paths, *(len(of_degree.C) for of_degree in value.terms))
        text = f"{','.join(map(str, sizes))};{base64.b64encode(b''.join(value._terms)).decode()}"
        _texts.add(value._digest, text)
    return text


_texts: Cache[str] = Cache("texts of polynomials", 2**8, 2**26, len)


def from_text(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the polynomial that `as_text` has written, by position and by name."""
    try:
        numbers, letters = text.split(";")
        n_in, n_out, num_paths, *nnz = map(int, numbers.split(","))
        data = base64.b64decode(letters, validate=True)
        needed = sum(n * (4 * nu + 16) for nu, n in enumerate(nnz, start=1))
        if min((0, *nnz)) < 0 or len(data) != needed:
            raise ValueError(f"it has {len(data)} bytes of terms")
    except ValueError as error:
        raise ValueError(f"this is not the text of a Polynomial: {text[:60]!r} ({error})") from error
    terms, at = [], 0
    for nu, n in enumerate(nnz, start=1):
        columns = []
        for dtype, size in (("<i4", n * nu), ("<i4", n), ("<i4", n), ("<f8", n)):
            columns.append(np.frombuffer(data, dtype, size, at))
            at += columns[-1].nbytes
        terms.append((columns[0].reshape(n, nu), *columns[1:]))
    return (terms, (n_in, n_out)), {"num_paths": num_paths}


def _checked(
    name: str, nu: int, columns: tuple[AnyArray, ...], sizes: tuple[int, int], num_paths: int | None
) -> Monomials:
    """The terms of degree nu in the form in which they are kept."""
    factors = on_host(columns[0], f"{name}.m")
    if factors.size == 0 and factors.ndim <= 2:
        factors = np.zeros((0, nu), int)  # an empty list has no second dimension
    if factors.ndim != 2 or factors.shape[1] != nu:
        raise ValueError(
            f"{name}.m must have the shape (nnz, {nu}), the factors of terms of degree {nu}, but has {factors.shape}"
        )
    m = [checked_index(factors[:, i], f"{name}.m[:, {i}]", sizes[0], "shape[0]") for i in range(nu)]
    mu = checked_index(columns[1], f"{name}.mu", sizes[1], "shape[1]")
    limit = (_ANY, "num_paths at most") if num_paths is None else (num_paths, "num_paths")
    path = checked_index(columns[2], f"{name}.path", *limit)
    C = checked_coefficients(columns[3], f"{name}.C")
    for column, index in (("mu", mu), ("path", path), ("C", C)):
        if len(index) != len(factors):
            raise ValueError(
                f"{name}: m, mu, path and C must have one entry for each term, but {column} has {len(index)} and m has "
                f"{len(factors)}"
            )
    keys = np.column_stack([np.sort(np.column_stack(m), axis=1), mu, path])
    number, example = numbered(keys)
    unique = keys[example]
    total = np.zeros(len(unique))
    with np.errstate(over="ignore"):
        np.add.at(total, number, C)
    if not np.isfinite(total).all():
        bad = unique[np.argmin(np.isfinite(total))]
        raise ValueError(
            f"{name}.C: terms of m = {bad[:nu].tolist()}, mu = {bad[nu]} and path = {bad[nu + 1]} add up to infinity"
        )
    return Monomials(np.ascontiguousarray(unique[:, :nu]), unique[:, nu].copy(), unique[:, nu + 1].copy(), total)
