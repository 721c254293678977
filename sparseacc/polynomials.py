"""A polynomial as a value: sums of monomials of one array, with a weight for each path, which nobody can change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from .calls.arrays import AnyArray
from .checks import checked_coefficients, checked_index, checked_number, checked_sizes, on_host
from .values import Value

_ANY = np.iinfo(np.int32).max


class Monomials(NamedTuple):
    """The terms of one degree nu: ``out[..., mu[k]] += C[k] w[..., path[k]] x[..., m[k, 0]] .. x[..., m[k, nu - 1]]``.

    Each access to `Polynomial.terms` makes new read-only views.
    """

    m: npt.NDArray[np.int32]
    mu: npt.NDArray[np.int32]
    path: npt.NDArray[np.int32]
    C: npt.NDArray[np.float64]


class Polynomial(Value):
    """A sparse polynomial of one array, a vector of some length for each row, whose paths have weights.

    Its value is the sum over the degrees nu and the terms k of a degree of
    ``C[k] * weights[..., path[k]] * x[..., m[k, 0]] * .. * x[..., m[k, nu - 1]]``, added to ``out[..., mu[k]]``. A
    polynomial is immutable, hashable, comparable by content and picklable. Its terms are kept in one form, so that
    polynomials are equal whatever the order in which terms and factors were given.

    Parameters
    ----------
    terms : sequence of (m, mu, path, C)
        The terms of degree 1, those of degree 2, and so on. Of degree nu, m is an array_like of int, shape (nnz, nu):
        which components of x are multiplied. mu and path are array_like of int, shape (nnz,): the component of the
        output and the path. C is array_like of float, shape (nnz,): real and finite, kept in float64. The factors of a
        term may be in any order, and are sorted. Terms of the same m, mu and path add up. Any of them may be empty.
    shape : tuple of 2 int
        ``(n_in, n_out)``: the lengths of the active axis of the input and of the output.
    num_paths : int, optional
        The number of paths; by default one more than the largest in the terms.

    Raises
    ------
    TypeError
        If indices or paths are not integers, C is not real, shape is not two integers, or terms are not such tuples.
    ValueError
        If lengths or numbers of dimensions do not fit, an index or path is negative or out of range, C or a sum of it
        is not finite, or a dimension is negative or above 2**31 - 1.

    Examples
    --------
    ``weights[0] * x0 + weights[1] * (x0**2 + 2 * x0 * x1)``:

    >>> polynomial = sparseacc.Polynomial(
    ...     [([[0]], [0], [0], [1.0]), ([[0, 0], [1, 0], [0, 1]], [0, 0, 0], [1, 1, 1], [1.0, 1.0, 1.0])], (2, 1)
    ... )
    >>> polynomial
    Polynomial(shape=(2, 1), degree=2, num_paths=2, nnz=3)
    >>> polynomial.terms[1].m.tolist(), polynomial.terms[1].C.tolist()
    ([[0, 0], [0, 1]], [1.0, 2.0])
    """

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
        return f"Polynomial(shape={self.shape}, degree={self.degree}, num_paths={self.num_paths}, nnz={self.nnz})"


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
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    total = np.zeros(len(unique))
    with np.errstate(over="ignore"):
        np.add.at(total, inverse.ravel(), C)
    if not np.isfinite(total).all():
        bad = unique[np.argmin(np.isfinite(total))]
        raise ValueError(
            f"{name}.C: terms of m = {bad[:nu].tolist()}, mu = {bad[nu]} and path = {bad[nu + 1]} add up to infinity"
        )
    return Monomials(np.ascontiguousarray(unique[:, :nu]), unique[:, nu].copy(), unique[:, nu + 1].copy(), total)
