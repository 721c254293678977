"""The rule: an immutable sparse tensor C[m1, m2, mu] of order 3, and the product that it defines."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from . import cpu, dispatch
from .algebra import FORWARD, WEIGHTED_FORWARD
from .calls.arrays import AnyArray, Array, Foreign, Host
from .calls.plans import Cache
from .derivatives import Derivatives
from .description import Meaning, meaning_of_terms, rule_in_words
from .terms import from_text


class Rule(Derivatives):
    """A sparse tensor ``C[m1, m2, mu]`` of order 3, which says how two arrays are multiplied.

    The product is ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]`` for every term k. Every term belongs to
    a path, and weights may scale the paths: each term is then multiplied by ``weights[..., path[k]]``, too. A rule is
    immutable, hashable, comparable by content (the terms in their order) and picklable.

    Parameters
    ----------
    m1, m2, mu : array_like of int, shape (nnz,)
        Indices of the terms into the first input, the second input and the output. Any order; repeated
        terms add up; outputs without a term are zero.
    C : array_like of float, shape (nnz,)
        Coefficients: real and finite. Kept in float64, used at the precision of the computation.
    shape : tuple of 3 int
        ``(n1, n2, n_out)``: the lengths of the active axis of the inputs and of the output.
    path : array_like of int, shape (nnz,), optional
        The path that each term belongs to, which weights may scale. By default all terms are of path 0.
    num_paths : int, optional
        The number of paths; by default one more than the largest in `path`, and 1 without it.

    Attributes
    ----------
    m1, m2, mu, path : ndarray of int32, shape (nnz,)
        The terms' indices and paths, as read-only views.
    C : ndarray of float64, shape (nnz,)
        The terms' coefficients, as a read-only view.
    shape : tuple of 3 int
        ``(n1, n2, n_out)``.
    nnz, num_paths : int
        The numbers of terms and of paths.

    Raises
    ------
    TypeError
        If indices or paths are not integers, C is not real, or shape is not three integers.
    ValueError
        If lengths differ, an array is not 1-D, an index or path is negative or out of range, C is not finite, or a
        dimension is negative or above 2**31 - 1.

    Examples
    --------
    The cross product of two vectors:

    >>> import numpy as np
    >>> import sparseacc
    >>> cross = sparseacc.Rule(
    ...     [1, 2, 2, 0, 0, 1], [2, 1, 0, 2, 1, 0], [0, 0, 1, 1, 2, 2], [1, -1, 1, -1, 1, -1], (3, 3, 3)
    ... )
    >>> cross(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0]))
    array([-1., -1.,  1.])
    >>> cross.nnz
    6
    """

    __slots__ = ()

    @overload
    def __call__(
        self, x1: Host, x2: Host, weights: Host | None = ..., *, axis: int = ..., out: Array | None = ...
    ) -> Array: ...
    @overload
    def __call__(
        self,
        x1: Foreign | Host,
        x2: Foreign | Host,
        weights: Foreign | Host | None = ...,
        *,
        axis: int = ...,
        out: Foreign | Array | None = ...,
    ) -> Foreign: ...
    @overload
    def __call__(
        self, x1: AnyArray, x2: AnyArray, weights: AnyArray | None = ..., *, axis: int = ..., out: Any = ...
    ) -> Any: ...
    def __call__(self, x1: Any, x2: Any, weights: Any = None, *, axis: int = -1, out: Any = None) -> Any:
        """The product: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]`` over all terms.

        With weights it is ``out[..., mu[k]] += C[k] * weights[..., path[k]] * x1[..., m1[k]] * x2[..., m2[k]]``.

        Parameters
        ----------
        x1, x2 : array_like
            Of length ``shape[0]`` and ``shape[1]`` along `axis`; the other axes broadcast by NumPy's rules, without a
            copy. float32, float64, complex64, complex128, or float16 and bfloat16 (summed in float32). Different
            dtypes promote as NumPy promotes them, integers to float64. Any strides.
        weights : array_like, optional
            Of length ``num_paths`` along `axis`; the other axes broadcast like those of x1 and x2. So with ``axis=-2``
            shapes such as (edges, num_paths, channels), (edges, num_paths, 1) and (num_paths, 1) will do. None is all
            ones.
        axis : int
            The active axis of x1, x2, weights and the result.
        out : ndarray, optional
            Where to write the result: of its shape and dtype, writable, sharing no memory with an input.
            Arguments that are refused leave it as it was; a signal that ends the call (Ctrl-C), or memory that is
            missing, leaves it written in part.

        Returns
        -------
        ndarray
            The broadcast batch with ``shape[2]`` at `axis`. Each number is within
            ``(n_terms + 2) * eps * sum(|C x1 x2|)`` of the exact one, and bitwise the same for any number of threads
            and any place in the batch. Beyond the dtype's range it is infinite, without a warning. The bound holds as
            long as ``x1 x2``, ``C x1``, ``C x2``, ``C x1 x2`` and sums of them stay within the normal numbers of the
            dtype that is computed in: ``x1 x2`` may be formed first, and be infinite where C would have made it small.
            With weights it is that of ``sum(|C weights x1 x2|)``, and products with them must stay there, too.

        Raises
        ------
        TypeError
            If a dtype is not one of those above, or has no common one; if an array is None or cannot be read, or has a
            mask or units, which would be lost; if out is not an ndarray of the result's dtype.
        ValueError
            If a length is not the rule's, the batches do not broadcast, the axis is out of range
            (`numpy.exceptions.AxisError`), or out has another shape, is read-only, or overlaps an input. If the dtype
            that is computed in cannot hold a coefficient (float32 would make 1e39 infinite and 1e-50 zero).
        MemoryError
            If the result or a tile of it does not fit in memory, or has more bytes than can be counted.

        Examples
        --------
        >>> rule = sparseacc.clebsch_gordan(1, 1, 0)
        >>> rule(np.ones((100, 3), np.float32), np.ones((100, 3), np.float32)).shape
        (100, 1)
        >>> rule(np.ones((100, 3, 16)), np.ones((3, 1)), axis=-2).shape
        (100, 1, 16)

        Two paths, each into an output of its own, and a weight for each of them:

        >>> rule = sparseacc.Rule([0, 0], [0, 0], [0, 1], [1.0, 1.0], (1, 1, 2), path=[0, 1])
        >>> rule([2.0], [3.0], [10.0, 100.0])
        array([ 60., 600.])
        """
        if weights is not None:
            return dispatch.execute(self, WEIGHTED_FORWARD, (x1, x2, weights), axis, (True,), out)[0]
        if type(x1) is np.ndarray and type(x2) is np.ndarray and (out is None or type(out) is np.ndarray):
            return cpu.product(self, x1, x2, axis, out)
        return dispatch.execute(self, FORWARD, (x1, x2), axis, (True,), out)[0]

    def describe(self) -> str:
        """What the rule is, in words: its sizes, its terms, its paths, and what a row costs.

        Of a tensor product there is a line for each path, with the degrees that it couples. If the terms are those of
        a `clebsch_gordan`, that is said, however the rule was made.

        Returns
        -------
        str
            Of lines of at most 100 characters. Rows are written as slices: ``0:9:3`` are 0, 3 and 6. Of more than 20
            paths the middle is left out. A term is two multiply-adds in a row without weights: ``x1 * x2``, and that
            times C added to the output.

        Examples
        --------
        >>> print(sparseacc.clebsch_gordan(1, 1, 0, convention="e3nn").describe())
        Rule: its terms are those of clebsch_gordan(1, 1, 0, convention="e3nn")
          x1       3 components
          x2       3 components
          result   1 component
          terms    3, 33.3 % of the 9 entries of C
          paths    1
          C        0.57735
          outputs  each is written
          a row    6 multiply-adds; 7 numbers, 28 bytes in float32
        <BLANKLINE>
        path  l1 x l2 -> l3  rows of x1  rows of x2  rows of result  terms  C
           0  1 x 1 -> 0     0:3         0:3         0:1                 3  0.57735
        """
        return rule_in_words(self, self._meaning())

    def plot(self, ax: Any = None) -> Any:
        """Draws the terms: C as a matrix, with a row for each output and a column for each pair (m1, m2).

        A square stands for an entry: its area for the magnitude of C, its color for the path, and it is empty where C
        is negative. Lines are between irreps. Of a rule of more than 20,000 entries, or of a wide matrix, squares
        stand for several, and are full.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed: the message says how to install it.

        Examples
        --------
        >>> ax = sparseacc.clebsch_gordan(2, 2, 2).plot()  # doctest: +SKIP
        >>> ax.figure.savefig("rule.png")  # doctest: +SKIP
        """
        from .pictures import drawn  # which imports more than a product needs

        return drawn(self, self._meaning(), ax)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from .pictures import as_html

        return as_html(self, self._meaning())

    def _meaning(self) -> Meaning:
        return meaning_of_terms(self)


def rule_of_text(text: str) -> Rule:
    """The rule that `terms.as_text` has written, made once."""
    rule = _of_texts.get(text)
    if rule is None:
        arguments, paths = from_text(text)
        rule = _of_texts.add(text, Rule(*arguments, **paths))
    return rule


_of_texts: Cache[Rule] = Cache("rules of texts", 1024, 2**28, lambda rule: 50 * rule.nnz)


def transposed(rule: Rule, order: tuple[int, int, int]) -> Rule:
    """`Rule.transpose`, made once."""
    key = rule._digest, order
    found = _transposes.get(key)
    return _transposes.add(key, rule.transpose(order)) if found is None else found


def paths_exchanged(rule: Rule) -> Rule:
    """The rule with its outputs and paths exchanged, made once: with dy for weights its product is their gradient."""
    key = rule._digest, "paths"
    found = _transposes.get(key)
    if found is None:
        shape = (*rule.shape[:2], rule.num_paths)
        exchanged = Rule(rule.m1, rule.m2, rule.path, rule.C, shape, path=rule.mu, num_paths=rule.shape[2])
        found = _transposes.add(key, exchanged)
    return found


_transposes: Cache[Rule] = Cache("transposed rules", 1024, 2**28, lambda rule: 24 * rule.nnz)
