"""Polynomials of features, whose paths have weights: values and derivatives."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from .calls.arrays import Array
from .calls.edges import component_axis
from .calls.selection import selected
from .cpu.polynomials import contracted
from .description import polynomial_in_words
from .engines import Arguments
from .graph import row_indices
from .monomials import PolynomialTerms, from_text


class Polynomial(PolynomialTerms):
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

    Attributes
    ----------
    terms : tuple of (m, mu, path, C)
        The terms of degree 1, of degree 2, and so on, in the form in which they are kept: named read-only views.
    shape : tuple of 2 int
        ``(n_in, n_out)``.
    degree, nnz, num_paths : int
        The largest degree, and the numbers of terms and of paths.

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
    >>> polynomial.degree, polynomial.num_paths, polynomial.nnz
    (2, 2, 3)
    >>> polynomial.terms[1].m.tolist(), polynomial.terms[1].C.tolist()
    ([[0, 0], [0, 1]], [1.0, 2.0])
    """

    __slots__ = ()

    def describe(self) -> str:
        """What it holds, in words: its sizes, its terms by degree, and the numbers of a row.

        Returns
        -------
        str
            Of lines of at most 100 characters.

        Examples
        --------
        >>> length = sparseacc.Polynomial([([], [], [], []), ([[0, 0], [1, 1]], [0, 0], [0, 0], [1, 1])], (2, 1))
        >>> print(length.describe())
        Polynomial
          shape  2 components of x, 1 of the result
          paths  1, each with a weight
          terms  2, of up to 2 factors
          a row  4 numbers, 16 bytes in float32: x, weights and result
        <BLANKLINE>
        degree  paths  terms  C
             1      0      0  none
             2      1      2  1
        """
        return polynomial_in_words(self, self._heading())

    def _heading(self) -> str:
        return "Polynomial"

    def __call__(self, x: Any, weights: Any, *, axis: int = -2, rows_of_weights: Any = None, out: Any = None) -> Any:
        """The values: ``out[..., mu] += C[k] * weights[..., path[k]] * x[..., m[k, 0]] * x[..., m[k, 1]] * ...``.

        Parameters
        ----------
        x : array_like, shape (..., n_in, channels)
            float32, float64, or float16 and bfloat16 (computed in float32). Different dtypes promote as NumPy promotes
            them, integers to float64.
        weights : array_like, shape (num_paths, channels), (..., num_paths, channels) or (rows, num_paths, channels)
            The same for all of the batch; or for each of it, as NumPy broadcasts; or, with `rows_of_weights`, rows of
            which each atom has one. Where the channels share weights, their axis has length 1.
        axis : int
            The axis of the components and of the paths, -2 or -1; in that case the channels are before it, in every
            array.
        rows_of_weights : array_like of int, shape (atoms,), optional
            The row of the weights that each atom has, such as the number of its species; x is of shape
            (atoms, n_in, channels) then.
        out : ndarray, optional
            Where to write the result: of its shape and dtype, writable, sharing no memory with an input.

        Returns
        -------
        ndarray, shape (..., n_out, channels)
            Bitwise the same for any number of threads.

        Raises
        ------
        TypeError
            If a dtype cannot be computed with, or rows_of_weights are no integers.
        ValueError
            If shapes do not fit the polynomial or each other, or a row of weights is not there.

        Examples
        --------
        The squared length of a vector, for two channels, with weights of two species:

        >>> squares = ([[0, 0], [1, 1], [2, 2]], [0, 0, 0], [0, 0, 0], [1, 1, 1])
        >>> length = sparseacc.Polynomial([([], [], [], []), squares], (3, 1))
        >>> x = np.array([[[1.0, 0.0], [2.0, 3.0], [2.0, 4.0]]] * 2)
        >>> weights = np.array([[[1.0, 1.0]], [[2.0, 0.0]]])
        >>> length(x, weights, rows_of_weights=[0, 1]).tolist()
        [[[9.0, 25.0]], [[18.0, 0.0]]]
        """
        return _Call(self, axis, {"x": x, "weights": weights}, rows_of_weights, out).run(("out",), (True,))[0]

    def vjp(
        self,
        dy: Any,
        x: Any,
        weights: Any,
        *,
        axis: int = -2,
        rows_of_weights: Any = None,
        wrt: int | Collection[int] = (0, 1),
    ) -> tuple[Any, Any]:
        """The gradient: the transposed derivative applied to `dy`.

        Parameters
        ----------
        x, weights, axis, rows_of_weights
            As in a call.
        dy : array_like
            Of the shape of the values.
        wrt : collection of int, or int
            Which gradients: 0 for x, 1 for weights.

        Returns
        -------
        dx, dw : ndarray or None
            Of the shapes of x and weights; None where not in `wrt`.

        Raises
        ------
        TypeError, ValueError
            As a call does; ValueError if dy has another shape, or wrt other entries.

        Examples
        --------
        >>> polynomial = sparseacc.symmetric_contraction("8x0e + 8x1o", "8x0e", 3)
        >>> x, weights, dy = np.ones((5, 4, 8)), np.ones((polynomial.num_paths, 8)), np.ones((5, 1, 8))
        >>> dx, dw = polynomial.vjp(dy, x, weights)
        >>> dx.shape == x.shape, dw.shape == weights.shape
        (True, True)
        """
        wanted = selected(wrt, ("x", "weights"))
        call = _Call(self, axis, {"dy": dy, "x": x, "weights": weights}, rows_of_weights)
        dx, dw = call.run(("x", "w"), wanted)
        return dx, dw

    def vjp_vjp(
        self,
        zx: Any,
        zw: Any,
        dy: Any,
        x: Any,
        weights: Any,
        *,
        axis: int = -2,
        rows_of_weights: Any = None,
        wrt: int | Collection[int] = (0, 1, 2),
    ) -> tuple[Any, Any, Any]:
        """The double backward: gradients of <zx, dx> + <zw, dw> for those of `vjp`.

        Parameters
        ----------
        dy, x, weights, axis, rows_of_weights
            As in `vjp`.
        zx, zw : array_like or None
            Of the shapes of x and weights; None is zero.
        wrt : collection of int, or int
            Which gradients: 0 for dy, 1 for x, 2 for weights.

        Returns
        -------
        ddy, dx, dw : ndarray or None
            The gradients with respect to dy, x and weights, of their shapes; None where not in `wrt`.

        Raises
        ------
        TypeError, ValueError
            As `vjp` does; ValueError if zx or zw has another shape than x or weights.

        Examples
        --------
        >>> polynomial = sparseacc.symmetric_contraction("8x0e + 8x1o", "8x0e", 3)
        >>> x, weights, dy = np.ones((5, 4, 8)), np.ones((polynomial.num_paths, 8)), np.ones((5, 1, 8))
        >>> ddy, dx, dw = polynomial.vjp_vjp(x, None, dy, x, weights)
        >>> ddy.shape, dx.shape, dw.shape == weights.shape
        ((5, 1, 8), (5, 4, 8), True)
        """
        wanted = selected(wrt, ("dy", "x", "weights"))
        named = {"zx": zx, "zw": zw, "dy": dy, "x": x, "weights": weights}
        ddy, dx, dw = _Call(self, axis, named, rows_of_weights).run(("out", "x", "w"), wanted)
        return ddy, dx, dw

    def compute(self, arrays: Mapping[str, Array], rows: Array, results: Mapping[str, Array]) -> None:
        """For the bridges: what is named in `results` (out, x, w), of NumPy arrays (x, w, dout, zx, zw) of one dtype,
        each (atoms, components, channels), and of the row of weights of each atom.
        """
        _check_rows(rows, len(arrays["w"]))
        found = contracted(self, arrays, rows.astype(np.int64), tuple(results))
        for name, array in found.items():
            results[name][...] = array


def tangent(polynomial: PolynomialTerms) -> Polynomial:
    """The derivative along z: a polynomial of x and z, one after the other, with the same paths and outputs."""
    n_in, n_out = polynomial.shape
    terms: list[Any] = []
    for nu, (m, mu, path, C) in enumerate(polynomial.terms, start=1):
        along = np.repeat(m[None], nu, axis=0)
        for i in range(nu):
            along[i, :, i] += n_in
        terms.append((along.reshape(-1, nu), *(np.tile(column, nu) for column in (mu, path, C))))
    return Polynomial(terms, (2 * n_in, n_out), num_paths=polynomial.num_paths)


def polynomial_of_text(text: str) -> Polynomial:
    """The polynomial that `as_text` has written."""
    arguments, names = from_text(text)
    return Polynomial(*arguments, **names)


class _Call:
    """The arrays of a call, checked, as (atoms, components, channels)."""

    def __init__(
        self, terms: PolynomialTerms, axis: Any, named: Mapping[str, Any], rows_of_weights: Any, out: Any = None
    ) -> None:
        needed = {name: value for name, value in named.items() if value is not None or name[0] != "z"}
        self._terms, self._arguments, self._is_second = terms, Arguments(needed, out), "zx" in named
        call = self._arguments
        if call.dtype.kind == "c":
            name = next(name for name, array in call.arrays.items() if array.dtype.kind == "c")
            raise TypeError(
                f"{name} has dtype {call.arrays[name].dtype}, but polynomials are not computed of complex numbers: "
                f"pass {name}.real, or what else is real of it"
            )
        shapes = {name: tuple(array.shape) for name, array in call.arrays.items()}
        self._axis = component_axis(axis, len(shapes["x"]))
        self._shape = checked_shapes(terms, shapes, self._axis, rows_of_weights is not None)
        self._batch = shapes["x"][:-2]
        if call.out is not None:
            call.engine.check_out(call.out, self._shape, call.dtype, call.arrays)
        self._rows = self._rows_of(rows_of_weights, shapes["weights"][:-2])
        self._shapes = {"out": self._shape, "x": shapes["x"], "w": shapes["weights"]}

    def _rows_of(self, given: Any, weights: tuple[int, ...]) -> Array:
        """The row of the weights that each atom has."""
        if given is None:
            rows = np.arange(math.prod(weights)).reshape(weights)
            return np.broadcast_to(rows, self._batch).ravel()
        rows, _ = row_indices(given, "rows_of_weights")
        if (len(rows),) != self._batch:
            raise ValueError(f"rows_of_weights has {len(rows)} entries, but x has {self._batch[0]} atoms")
        _check_rows(rows, weights[0])
        return rows.astype(np.int64)

    def run(self, slots: Sequence[str], wanted: Sequence[bool]) -> tuple[Any, ...]:
        """What is wanted of the slots, None for the others, as the caller's kind of array."""
        call = self._arguments
        names = tuple(compress(slots, wanted))
        with call.computing():
            arrays = {_SHORT.get(name, name): self._flat(array) for name, array in call.converted().items()}
            if self._is_second and not {"zx", "zw"} & arrays.keys():
                found = {name: np.zeros_like(arrays["dout" if name == "out" else name]) for name in names}
            else:
                found = call.engine.contracted(self._terms, arrays, self._rows, names) if names else {}
            found = {name: self._unflattened(array, self._shapes[name]) for name, array in found.items()}
            if call.out is not None:
                call.engine.write(call.out, found["out"])
        return call.given_back(tuple(map(found.get, slots)))

    def _flat(self, array: Any) -> Any:
        """A view, or a copy where there is none."""
        array = array if self._axis == -2 else array.swapaxes(-1, -2)
        return array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:])

    def _unflattened(self, array: Any, shape: tuple[int, ...]) -> Any:
        if self._axis == -2:
            return array.reshape(shape)
        return array.reshape(*shape[:-2], shape[-1], shape[-2]).swapaxes(-1, -2)


_SHORT = {"weights": "w", "dy": "dout"}


def _check_rows(rows: Array, weights: int) -> None:
    bad = np.flatnonzero((rows < 0) | (rows >= weights))
    if len(bad):
        raise ValueError(f"rows_of_weights[{bad[0]}] is {rows[bad[0]]}, but weights has {weights} rows")


def checked_shapes(
    terms: PolynomialTerms, shapes: Mapping[str, tuple[int, ...]], axis: int, by_rows: bool
) -> tuple[int, ...]:
    """Refuses arrays that do not fit; returns the shape of the values."""
    x, weights = shapes["x"], shapes["weights"]
    names = "(..., n, channels)" if axis == -2 else "(..., channels, n)"
    for name, n in (("x", terms.shape[0]), ("weights", terms.num_paths)):
        shape = shapes[name]
        if len(shape) < 2:
            raise ValueError(f"{name} must have at least 2 dimensions, {names}, but its shape is {shape}")
        if shape[axis] != n:
            raise ValueError(
                f"{name} has length {shape[axis]} along axis {axis}, but the polynomial needs {n}: "
                f"{name}.shape is {shape}, and it is {terms!r}"
            )
    channels, of_weights = x[-3 - axis], weights[-3 - axis]
    if of_weights not in (1, channels):
        raise ValueError(f"weights has {of_weights} channels and x {channels}: weights.shape is {weights}")
    if by_rows and not len(x) == len(weights) == 3:
        raise ValueError(
            "with rows_of_weights, x must be (atoms, n_in, channels) and weights (rows, num_paths, channels), but "
            f"x.shape is {x} and weights.shape {weights}"
        )
    if not by_rows:
        batch, of_batch = x[:-2], weights[:-2]
        fits = len(of_batch) <= len(batch) and all(
            n in (1, m) for n, m in zip(reversed(of_batch), reversed(batch), strict=False)
        )
        if not fits:
            raise ValueError(
                f"weights does not broadcast to x: their batches are {of_batch} and {batch}; rows_of_weights says "
                "which atom has which row of weights"
            )
    values = list(x)
    values[axis] = terms.shape[1]
    likes = {"zx": ("x", x), "zw": ("weights", weights), "dy": ("the values", tuple(values))}
    for name, (like, needed) in likes.items():
        if shapes.get(name, needed) != needed:
            raise ValueError(f"{name}.shape is {shapes[name]}, but must be that of {like}: {needed}")
    return tuple(values)
