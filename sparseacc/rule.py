"""The rule: an immutable sparse tensor C[m1, m2, mu] of order 3, and the operations that it defines."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, cast, overload

import numpy as np
import numpy.typing as npt

from . import cpu, dispatch
from .arrays import AnyArray, Array, Foreign, Host
from .operations import COEFFICIENT_VJP, FORWARD, JVP, VJP, VJP_VJP
from .terms import AXES, as_text, checked_coefficients, checked_index, checked_shape, from_text, on_host

if TYPE_CHECKING:
    from typing_extensions import Self


def _refuse(*_: object) -> NoReturn:
    raise ValueError("this Rule was never initialised: make one with Rule(m1, m2, mu, C, shape)")


class _Nothing:
    """What is in a rule before it is initialised. Whatever is asked of it says so."""

    __getattr__ = __getitem__ = __len__ = __eq__ = __hash__ = _refuse


_NOTHING: Any = _Nothing()


class _Blank:
    """Makes rules that say of themselves that they were never initialised. A class of its own has no part in the
    signature of `Rule`, which is that of __init__.
    """

    __slots__ = ()

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        rule = super().__new__(cls)
        for slot in ("shape", "_terms", "_programs", "_plans", "_text_kept", "_hash"):
            object.__setattr__(rule, slot, _NOTHING)
        return rule


class Rule(_Blank):
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

    Raises
    ------
    TypeError
        If indices are not integers, C is not real, or shape is not three integers.
    ValueError
        If lengths differ, an array is not 1-D, an index is negative or out of range, C is not finite, or a
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

    shape: tuple[int, int, int]
    _terms: tuple[bytes, bytes, bytes, bytes]
    _hash: int
    _programs: dict[Any, Any]
    _plans: dict[Any, Any]
    _text_kept: str
    __slots__ = {  # noqa: RUF023 - with what `help` shows
        "shape": "``(n1, n2, n_out)``: the lengths of the active axis of the inputs and of the output.",
        "_terms": "m1, m2, mu and C: bytes, which nobody can change. An array could be, by its dtype for instance.",
        "_hash": "Filled last: a rule that has it is whole.",
        "_programs": "What execution keeps for this rule.",
        "_plans": "The same, for certain shapes.",
        "_text_kept": "What `_text` has made, empty before.",
        "__weakref__": None,
    }

    def __init__(
        self,
        m1: AnyArray,
        m2: AnyArray,
        mu: AnyArray,
        C: AnyArray,
        shape: Sequence[SupportsIndex],
    ) -> None:
        if self._hash is not _NOTHING:
            raise TypeError("a Rule is immutable: make a new one instead of calling __init__ again")
        sizes = checked_shape(shape)
        indices = [
            checked_index(values, name, size) for values, name, size in zip((m1, m2, mu), AXES, sizes, strict=True)
        ]
        coefficients = checked_coefficients(C)
        for name, array in zip(AXES, indices, strict=True):
            if len(array) != len(coefficients):
                raise ValueError(
                    f"m1, m2, mu and C must have one entry for each term, but {name} has {len(array)} "
                    f"and C has {len(coefficients)}"
                )
        terms = (*(index.tobytes() for index in indices), coefficients.tobytes())
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "_terms", terms)
        object.__setattr__(self, "_programs", {})
        object.__setattr__(self, "_plans", {})
        object.__setattr__(self, "_text_kept", "")
        object.__setattr__(self, "_hash", hash((sizes, *terms)))

    @classmethod
    def from_dense(cls, array: AnyArray) -> Rule:
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
        >>> sparseacc.Rule.from_dense([[[2.0, 0.0]]])
        Rule(shape=(1, 1, 2), nnz=1)
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

    def transpose(self, order: Sequence[SupportsIndex]) -> Rule:
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
        return Rule(m1, m2, mu, self.C, tuple(self.shape[i] for i in axes))

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
    def nnz(self) -> int:
        """The number of terms."""
        return len(self._terms[3]) // 8

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rule):
            return NotImplemented
        return self is other or (
            self._hash == other._hash and self.shape == other.shape and self._terms == other._terms
        )

    def __hash__(self) -> int:
        return hash(self._hash)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.m1, self.m2, self.mu, self.C, self.shape)
        if type(self) is Rule:
            return Rule, arguments
        return _restored, (type(self), arguments), getattr(self, "__dict__", None)

    def __repr__(self) -> str:
        return f"Rule(shape={self.shape}, nnz={self.nnz})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Rule is immutable: make a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Rule is immutable: {name!r} cannot be deleted")

    @property
    def _text(self) -> str:
        """The rule in one line, for frameworks. It is made when one asks for it first."""
        text = self._text_kept
        if not text:
            text = as_text(self.shape, (self.m1, self.m2, self.mu, self.C))
            object.__setattr__(self, "_text_kept", text)
        return text

    @classmethod
    def _from_text(cls, text: str) -> Rule:
        return cls(*from_text(text))


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


def _restored(cls: type[Rule], arguments: tuple[Any, ...]) -> Rule:
    """A copy of an instance of a subclass, whose own __init__ may take other arguments."""
    rule = cls.__new__(cls)
    Rule.__init__(rule, *arguments)
    return rule
