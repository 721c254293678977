"""The derivatives of a rule's product, as its methods."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, overload

import numpy as np

from . import algebra, cpu, dispatch
from .calls.arrays import AnyArray, Array, Foreign, Host
from .calls.selection import selected
from .terms import Terms

Wrt = int | Collection[int]
_BOTH: tuple[int, ...] = tuple(range(2))
"""The default of `wrt`, which is (0, 1, 2) with weights: nobody else's (0, 1) is this object."""


class Derivatives(Terms):
    """What `Rule` is but for its product, of which these are the derivatives: see there."""

    __slots__ = ()

    @overload
    def vjp(self, dy: Host, x1: Host, x2: Host, weights: None = ..., *, axis: int = ...) -> tuple[Array, Array]: ...
    @overload
    def vjp(
        self, dy: Host, x1: Host, x2: Host, weights: None = ..., *, axis: int = ..., wrt: Wrt
    ) -> tuple[Array | None, Array | None]: ...
    @overload
    def vjp(self, dy: Host, x1: Host, x2: Host, weights: Host, *, axis: int = ...) -> tuple[Array, Array, Array]: ...
    @overload
    def vjp(
        self, dy: Host, x1: Host, x2: Host, weights: Host, *, axis: int = ..., wrt: Wrt
    ) -> tuple[Array | None, Array | None, Array | None]: ...
    @overload
    def vjp(
        self, dy: Foreign | Host, x1: Foreign | Host, x2: Foreign | Host, weights: None = ..., *, axis: int = ...
    ) -> tuple[Foreign, Foreign]: ...
    @overload
    def vjp(
        self,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        weights: None = ...,
        *,
        axis: int = ...,
        wrt: Wrt,
    ) -> tuple[Foreign | None, Foreign | None]: ...
    @overload
    def vjp(
        self, dy: Foreign | Host, x1: Foreign | Host, x2: Foreign | Host, weights: Foreign | Host, *, axis: int = ...
    ) -> tuple[Foreign, Foreign, Foreign]: ...
    @overload
    def vjp(
        self,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        weights: Foreign | Host,
        *,
        axis: int = ...,
        wrt: Wrt,
    ) -> tuple[Foreign | None, Foreign | None, Foreign | None]: ...
    @overload
    def vjp(
        self, dy: AnyArray, x1: AnyArray, x2: AnyArray, weights: None = ..., *, axis: int = ..., wrt: Wrt = ...
    ) -> tuple[Any, Any]: ...
    @overload
    def vjp(
        self, dy: AnyArray, x1: AnyArray, x2: AnyArray, weights: AnyArray, *, axis: int = ..., wrt: Wrt = ...
    ) -> tuple[Any, Any, Any]: ...
    def vjp(
        self, dy: Any, x1: Any, x2: Any, weights: Any = None, *, axis: int = -1, wrt: Wrt = _BOTH
    ) -> tuple[Any, ...]:
        """The gradient: the product's transposed derivative applied to `dy`, in one pass.

        ``dx1[m1] += C * dy[mu] * x2[m2]`` and ``dx2[m2] += C * dy[mu] * x1[m1]``, summed over broadcast axes. With
        weights both are of terms times ``weights[path]``, and ``dw[path] += C * dy[mu] * x1[m1] * x2[m2]``. For complex
        arrays this is the plain transpose, without conjugation.

        Parameters
        ----------
        dy : array_like
            Of the shape of the product.
        x1, x2 : array_like
            As in the product.
        weights : array_like, optional
            As in the product.
        axis : int
            The active axis.
        wrt : collection of int, or int
            Which gradients: 0 for x1, 1 for x2, 2 for weights. By default all that there are.

        Returns
        -------
        dx1, dx2 : ndarray or None
            Of the shapes of x1 and x2 and the inputs' common dtype; None where not in `wrt`.
        dw : ndarray or None
            With weights alone: of their shape.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As the product does; ValueError if dy has another shape than the product, or wrt other entries than 0, 1 and
            (with weights) 2.

        Examples
        --------
        >>> rule = sparseacc.clebsch_gordan(1, 1, 1)
        >>> dx1, dx2 = rule.vjp(np.ones((10, 3)), np.ones((10, 3)), np.ones(3))
        >>> dx1.shape, dx2.shape
        ((10, 3), (3,))
        >>> [gradient.shape for gradient in rule.vjp(np.ones((10, 3)), np.ones((10, 3)), np.ones(3), np.ones(1))]
        [(10, 3), (3,), (1,)]
        """
        if weights is not None:
            wanted = (True, True, True) if wrt is _BOTH else selected(wrt, ("x1", "x2", "weights"))
            return dispatch.execute(self, algebra.WEIGHTED_VJP, (dy, x1, x2, weights), axis, wanted)
        if type(wrt) is tuple and wrt == (0, 1) and type(dy) is type(x1) is type(x2) is np.ndarray:
            return cpu.vjp(self, dy, x1, x2, axis)
        return dispatch.execute(self, algebra.VJP, (dy, x1, x2), axis, selected(wrt, ("x1", "x2"), "weights"))

    @overload
    def jvp(
        self,
        x1: Host,
        x2: Host,
        dx1: Host | None,
        dx2: Host | None,
        weights: Host | None = ...,
        dweights: Host | None = ...,
        *,
        axis: int = ...,
    ) -> Array: ...
    @overload
    def jvp(
        self,
        x1: Foreign | Host,
        x2: Foreign | Host,
        dx1: Foreign | Host | None,
        dx2: Foreign | Host | None,
        weights: Foreign | Host | None = ...,
        dweights: Foreign | Host | None = ...,
        *,
        axis: int = ...,
    ) -> Foreign: ...
    @overload
    def jvp(
        self,
        x1: AnyArray,
        x2: AnyArray,
        dx1: AnyArray | None,
        dx2: AnyArray | None,
        weights: AnyArray | None = ...,
        dweights: AnyArray | None = ...,
        *,
        axis: int = ...,
    ) -> Any: ...
    def jvp(
        self, x1: Any, x2: Any, dx1: Any, dx2: Any, weights: Any = None, dweights: Any = None, *, axis: int = -1
    ) -> Any:
        """The derivative of the product along (dx1, dx2), in one pass: rule(dx1, x2) + rule(x1, dx2).

        With weights it is rule(dx1, x2, weights) + rule(x1, dx2, weights) + rule(x1, x2, dweights).

        Parameters
        ----------
        x1, x2 : array_like
            As in the product.
        dx1, dx2 : array_like or None
            The tangents, of the shapes of x1 and x2; None is zero.
        weights : array_like, optional
            As in the product.
        dweights : array_like, optional
            Their tangent, of their shape; None is zero.
        axis : int
            The active axis.

        Returns
        -------
        ndarray
            Of the shape of the product.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As the product does; ValueError if a tangent has another shape than its array, or there are no weights for
            dweights.

        Examples
        --------
        The product is linear in x1:

        >>> rule = sparseacc.clebsch_gordan(1, 1, 2)
        >>> x = np.arange(3.0)
        >>> np.array_equal(rule.jvp(x, x, x, None), rule(x, x))
        True
        """
        if weights is not None:
            return dispatch.execute(self, algebra.WEIGHTED_JVP, (x1, x2, weights, dx1, dx2, dweights), axis, (True,))[0]
        _no_weights_for(dweights, "dweights")
        return dispatch.execute(self, algebra.JVP, (x1, x2, dx1, dx2), axis, (True,))[0]

    @overload
    def vjp_vjp(
        self,
        z1: Host | None,
        z2: Host | None,
        dy: Host,
        x1: Host,
        x2: Host,
        weights: None = ...,
        zw: None = ...,
        *,
        axis: int = ...,
    ) -> tuple[Array, Array, Array]: ...
    @overload
    def vjp_vjp(
        self,
        z1: Host | None,
        z2: Host | None,
        dy: Host,
        x1: Host,
        x2: Host,
        weights: Host,
        zw: Host | None = ...,
        *,
        axis: int = ...,
    ) -> tuple[Array, Array, Array, Array]: ...
    @overload
    def vjp_vjp(
        self,
        z1: Foreign | Host | None,
        z2: Foreign | Host | None,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        weights: None = ...,
        zw: None = ...,
        *,
        axis: int = ...,
    ) -> tuple[Foreign, Foreign, Foreign]: ...
    @overload
    def vjp_vjp(
        self,
        z1: Foreign | Host | None,
        z2: Foreign | Host | None,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        weights: Foreign | Host,
        zw: Foreign | Host | None = ...,
        *,
        axis: int = ...,
    ) -> tuple[Foreign, Foreign, Foreign, Foreign]: ...
    @overload
    def vjp_vjp(
        self,
        z1: AnyArray | None,
        z2: AnyArray | None,
        dy: AnyArray,
        x1: AnyArray,
        x2: AnyArray,
        weights: None = ...,
        zw: None = ...,
        *,
        axis: int = ...,
    ) -> tuple[Any, Any, Any]: ...
    @overload
    def vjp_vjp(
        self,
        z1: AnyArray | None,
        z2: AnyArray | None,
        dy: AnyArray,
        x1: AnyArray,
        x2: AnyArray,
        weights: AnyArray,
        zw: AnyArray | None = ...,
        *,
        axis: int = ...,
    ) -> tuple[Any, Any, Any, Any]: ...
    def vjp_vjp(
        self, z1: Any, z2: Any, dy: Any, x1: Any, x2: Any, weights: Any = None, zw: Any = None, *, axis: int = -1
    ) -> tuple[Any, ...]:
        """The double backward: gradients of <z1, dx1> + <z2, dx2> for ``dx1, dx2 = vjp(dy, x1, x2)``, in one pass.

        With weights they are of <z1, dx1> + <z2, dx2> + <zw, dw> for ``dx1, dx2, dw = vjp(dy, x1, x2, weights)``.

        Parameters
        ----------
        z1, z2 : array_like or None
            Of the shapes of x1 and x2; None is zero.
        dy, x1, x2, weights : array_like
            As in `vjp`.
        zw : array_like, optional
            Of the shape of weights; None is zero.
        axis : int
            The active axis.

        Returns
        -------
        ddy, ddx1, ddx2 : ndarray
            The gradients with respect to dy, x1 and x2, of their shapes.
        ddw : ndarray
            With weights alone: the gradient with respect to them.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As `vjp` does; ValueError if z1, z2 or zw has another shape than x1, x2 or weights, or there are no weights
            for zw.

        Examples
        --------
        >>> rule = sparseacc.clebsch_gordan(1, 1, 0)
        >>> z, dy, x = np.ones((4, 3)), np.ones((4, 1)), np.ones((4, 3))
        >>> [g.shape for g in rule.vjp_vjp(z, None, dy, x, x)]
        [(4, 1), (4, 3), (4, 3)]
        """
        if weights is not None:
            return dispatch.execute(
                self, algebra.WEIGHTED_VJP_VJP, (z1, z2, zw, dy, x1, x2, weights), axis, (True,) * 4
            )
        _no_weights_for(zw, "zw")
        return dispatch.execute(self, algebra.VJP_VJP, (z1, z2, dy, x1, x2), axis, (True,) * 3)

    @overload
    def coefficient_vjp(
        self, dy: Host, x1: Host, x2: Host, weights: Host | None = ..., *, axis: int = ...
    ) -> Array: ...
    @overload
    def coefficient_vjp(
        self,
        dy: Foreign | Host,
        x1: Foreign | Host,
        x2: Foreign | Host,
        weights: Foreign | Host | None = ...,
        *,
        axis: int = ...,
    ) -> Foreign: ...
    @overload
    def coefficient_vjp(
        self, dy: AnyArray, x1: AnyArray, x2: AnyArray, weights: AnyArray | None = ..., *, axis: int = ...
    ) -> Any: ...
    def coefficient_vjp(self, dy: Any, x1: Any, x2: Any, weights: Any = None, *, axis: int = -1) -> Any:
        """The gradient with respect to C: ``dC[k]`` is the sum over the batch of ``dy[mu[k]] * x1[m1[k]] * x2[m2[k]]``.

        With weights each of these is multiplied by ``weights[path[k]]``.

        Parameters
        ----------
        dy, x1, x2, weights : array_like
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
        if weights is not None:
            return dispatch.execute(self, algebra.WEIGHTED_COEFFICIENT_VJP, (dy, x1, x2, weights), axis, (True,))[0]
        return dispatch.execute(self, algebra.COEFFICIENT_VJP, (dy, x1, x2), axis, (True,))[0]


def _no_weights_for(array: Any, name: str) -> None:
    """Refuses what belongs to weights that are not given."""
    if array is not None:
        raise ValueError(f"{name} is given, but weights are not: pass weights, np.ones({name}.shape) if there are none")
