"""The rule: an immutable sparse tensor C[m1, m2, mu] of order 3, and the operations that it defines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, cast, overload

import numpy as np

from . import cpu, dispatch
from .algebra import COEFFICIENT_VJP, FORWARD, JVP, VJP, VJP_VJP
from .calls.arrays import AnyArray, Array, Foreign, Host
from .calls.plans import Cache
from .terms import Terms, from_text


class Rule(Terms):
    """A sparse tensor ``C[m1, m2, mu]`` of order 3, which says how two arrays are multiplied.

    The product is ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]`` for every term k. A rule is immutable,
    hashable, comparable by content (the terms in their order) and picklable.

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
    def __call__(self, x1: Host, x2: Host, *, axis: int = ..., out: Array | None = ...) -> Array: ...
    @overload
    def __call__(
        self, x1: Foreign | Host, x2: Foreign | Host, *, axis: int = ..., out: Foreign | Array | None = ...
    ) -> Foreign: ...
    @overload
    def __call__(self, x1: AnyArray, x2: AnyArray, *, axis: int = ..., out: Any = ...) -> Any: ...
    def __call__(self, x1: Any, x2: Any, *, axis: int = -1, out: Any = None) -> Any:
        """The product: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]`` over all terms.

        Parameters
        ----------
        x1, x2 : array_like
            Of length ``shape[0]`` and ``shape[1]`` along `axis`; the other axes broadcast by NumPy's rules, without a
            copy. float32, float64, complex64, complex128, or float16 and bfloat16 (summed in float32). Different
            dtypes promote as NumPy promotes them, integers to float64. Any strides.
        axis : int
            The active axis of x1, x2 and the result.
        out : ndarray, optional
            Where to write the result: of its shape and dtype, writable, sharing no memory with an input.

        Returns
        -------
        ndarray
            The broadcast batch with ``shape[2]`` at `axis`. Each number is within
            ``(n_terms + 2) * eps * sum(|C x1 x2|)`` of the exact one, and bitwise the same for any number of threads
            and any place in the batch. Beyond the dtype's range it is infinite, without a warning. The bound holds as
            long as ``x1 x2``, ``C x1``, ``C x2``, ``C x1 x2`` and sums of them stay within the normal numbers of the
            dtype that is computed in: ``x1 x2`` may be formed first, and be infinite where C would have made it small.

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
        """
        if type(x1) is np.ndarray and type(x2) is np.ndarray and (out is None or type(out) is np.ndarray):
            return cpu.product(self, x1, x2, axis, out)
        return dispatch.execute(self, FORWARD, (x1, x2), axis, (True,), out)[0]

    @overload
    def vjp(self, dy: Host, x1: Host, x2: Host, *, axis: int = ...) -> tuple[Array, Array]: ...
    @overload
    def vjp(
        self, dy: Host, x1: Host, x2: Host, *, axis: int = ..., wrt: int | Collection[int]
    ) -> tuple[Array | None, Array | None]: ...
    @overload
    def vjp(
        self, dy: Foreign | Host, x1: Foreign | Host, x2: Foreign | Host, *, axis: int = ...
    ) -> tuple[Foreign, Foreign]: ...
    @overload
    def vjp(
        self,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        *,
        axis: int = ...,
        wrt: int | Collection[int],
    ) -> tuple[Foreign | None, Foreign | None]: ...
    @overload
    def vjp(
        self, dy: AnyArray, x1: AnyArray, x2: AnyArray, *, axis: int = ..., wrt: int | Collection[int] = ...
    ) -> tuple[Any, Any]: ...
    def vjp(self, dy: Any, x1: Any, x2: Any, *, axis: int = -1, wrt: int | Collection[int] = (0, 1)) -> tuple[Any, Any]:
        """The gradient: the product's transposed derivative applied to `dy`, in one pass.

        ``dx1[m1] += C * dy[mu] * x2[m2]`` and ``dx2[m2] += C * dy[mu] * x1[m1]``, summed over broadcast axes. For
        complex arrays this is the plain transpose, without conjugation.

        Parameters
        ----------
        dy : array_like
            Of the shape of the product of x1 and x2.
        x1, x2 : array_like
            As in the product.
        axis : int
            The active axis.
        wrt : collection of int, or int
            Which gradients: 0 for x1, 1 for x2.

        Returns
        -------
        dx1, dx2 : ndarray or None
            Of the shapes of x1 and x2 and the inputs' common dtype; None where not in `wrt`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As the product does; ValueError if dy has another shape than the product, or wrt other entries than 0 and 1.

        Examples
        --------
        >>> rule = sparseacc.clebsch_gordan(1, 1, 1)
        >>> dx1, dx2 = rule.vjp(np.ones((10, 3)), np.ones((10, 3)), np.ones(3))
        >>> dx1.shape, dx2.shape
        ((10, 3), (3,))
        """
        if type(wrt) is tuple and wrt == (0, 1) and type(dy) is type(x1) is type(x2) is np.ndarray:
            return cpu.vjp(self, dy, x1, x2, axis)
        wanted = _wanted(wrt)
        return cast("tuple[Any, Any]", dispatch.execute(self, VJP, (dy, x1, x2), axis, wanted))

    @overload
    def jvp(self, x1: Host, x2: Host, dx1: Host | None, dx2: Host | None, *, axis: int = ...) -> Array: ...
    @overload
    def jvp(
        self,
        x1: Foreign | Host,
        x2: Foreign | Host,
        dx1: Foreign | Host | None,
        dx2: Foreign | Host | None,
        *,
        axis: int = ...,
    ) -> Foreign: ...
    @overload
    def jvp(
        self, x1: AnyArray, x2: AnyArray, dx1: AnyArray | None, dx2: AnyArray | None, *, axis: int = ...
    ) -> Any: ...
    def jvp(self, x1: Any, x2: Any, dx1: Any, dx2: Any, *, axis: int = -1) -> Any:
        """The derivative of the product along (dx1, dx2), in one pass: rule(dx1, x2) + rule(x1, dx2).

        Parameters
        ----------
        x1, x2 : array_like
            As in the product.
        dx1, dx2 : array_like or None
            The tangents, of the shapes of x1 and x2; None is zero.
        axis : int
            The active axis.

        Returns
        -------
        ndarray
            Of the shape of the product.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As the product does; ValueError if a tangent has another shape than its array.

        Examples
        --------
        The product is linear in x1:

        >>> rule = sparseacc.clebsch_gordan(1, 1, 2)
        >>> x = np.arange(3.0)
        >>> np.array_equal(rule.jvp(x, x, x, None), rule(x, x))
        True
        """
        return dispatch.execute(self, JVP, (x1, x2, dx1, dx2), axis, (True,))[0]

    @overload
    def vjp_vjp(
        self, z1: Host | None, z2: Host | None, dy: Host, x1: Host, x2: Host, *, axis: int = ...
    ) -> tuple[Array, Array, Array]: ...
    @overload
    def vjp_vjp(
        self,
        z1: Foreign | Host | None,
        z2: Foreign | Host | None,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        *,
        axis: int = ...,
    ) -> tuple[Foreign, Foreign, Foreign]: ...
    @overload
    def vjp_vjp(
        self, z1: AnyArray | None, z2: AnyArray | None, dy: AnyArray, x1: AnyArray, x2: AnyArray, *, axis: int = ...
    ) -> tuple[Any, Any, Any]: ...
    def vjp_vjp(self, z1: Any, z2: Any, dy: Any, x1: Any, x2: Any, *, axis: int = -1) -> tuple[Any, Any, Any]:
        """The double backward: gradients of <z1, dx1> + <z2, dx2> for ``dx1, dx2 = vjp(dy, x1, x2)``, in one pass.

        Parameters
        ----------
        z1, z2 : array_like or None
            Of the shapes of x1 and x2; None is zero.
        dy, x1, x2 : array_like
            As in `vjp`.
        axis : int
            The active axis.

        Returns
        -------
        ddy, ddx1, ddx2 : ndarray
            The gradients with respect to dy, x1 and x2, of their shapes.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As `vjp` does; ValueError if z1 or z2 has another shape than x1 or x2.

        Examples
        --------
        >>> rule = sparseacc.clebsch_gordan(1, 1, 0)
        >>> z, dy, x = np.ones((4, 3)), np.ones((4, 1)), np.ones((4, 3))
        >>> [g.shape for g in rule.vjp_vjp(z, None, dy, x, x)]
        [(4, 1), (4, 3), (4, 3)]
        """
        ddy, ddx1, ddx2 = dispatch.execute(self, VJP_VJP, (z1, z2, dy, x1, x2), axis, (True, True, True))
        return ddy, ddx1, ddx2

    @overload
    def coefficient_vjp(self, dy: Host, x1: Host, x2: Host, *, axis: int = ...) -> Array: ...
    @overload
    def coefficient_vjp(
        self, dy: Foreign | Host, x1: Foreign | Host, x2: Foreign | Host, *, axis: int = ...
    ) -> Foreign: ...
    @overload
    def coefficient_vjp(self, dy: AnyArray, x1: AnyArray, x2: AnyArray, *, axis: int = ...) -> Any: ...
    def coefficient_vjp(self, dy: Any, x1: Any, x2: Any, *, axis: int = -1) -> Any:
        """The gradient with respect to C: ``dC[k]`` is the sum over the batch of ``dy[mu[k]] * x1[m1[k]] * x2[m2[k]]``.

        Parameters
        ----------
        dy, x1, x2 : array_like
            As in `vjp`.
        axis : int
            The active axis.

        Returns
        -------
        ndarray, shape (nnz,)
            In the order of the terms, of the inputs' common dtype. Complex arrays are not conjugated.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As `vjp` does.

        Examples
        --------
        >>> rule = sparseacc.Rule([0, 1], [0, 0], [0, 0], [1.0, 1.0], (2, 1, 1))
        >>> rule.coefficient_vjp([[1.0], [2.0]], [[1.0, 2.0], [3.0, 4.0]], [[1.0], [1.0]])
        array([ 7., 10.])
        """
        return dispatch.execute(self, COEFFICIENT_VJP, (dy, x1, x2), axis, (True,))[0]


def _wanted(wrt: Any) -> tuple[bool, bool]:
    """Whether the gradients with respect to x1 and x2 are asked for."""
    try:
        chosen = list(wrt) if isinstance(wrt, Iterable) else [wrt]
        known = all(i in (0, 1) and not isinstance(i, (bool, np.bool_)) for i in chosen)
    except Exception as error:
        raise TypeError(f"wrt may hold 0 (x1) and 1 (x2), not {wrt!r}") from error
    if not known:
        raise ValueError(f"wrt may hold 0 (x1) and 1 (x2), not {wrt!r}")
    return 0 in chosen, 1 in chosen


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


_transposes: Cache[Rule] = Cache("transposed rules", 1024, 2**28, lambda rule: 24 * rule.nnz)
