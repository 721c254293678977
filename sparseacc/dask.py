"""Sparse accumulation on Dask arrays: lazy, chunk by chunk, on any scheduler of Dask's."""

from __future__ import annotations

from typing import Any

from .calls.arrays import is_dask
from .extras import how_to_install
from .rule import Rule

try:
    from . import chunks
except ImportError as error:
    raise ModuleNotFoundError(f"sparseacc.dask needs dask.array: {how_to_install('dask')}", name="dask") from error

__all__ = ["product"]


def product(rule: Rule, x1: Any, x2: Any, weights: Any = None, *, axis: int = -1) -> Any:
    """The product by a rule as a Dask array: what ``rule(x1, x2, weights)`` is if one of them is a Dask array.

    Nothing is computed before Dask is asked for it. Each task multiplies one chunk of the batch; so it is in the
    derivatives (``rule.vjp``, ``rule.jvp``, ``rule.vjp_vjp``, ``rule.coefficient_vjp``), which take Dask arrays too.

    Parameters
    ----------
    rule : sparseacc.Rule
        Of shape ``(n1, n2, n_out)``.
    x1, x2 : dask.array.Array or array_like
        Of length n1 and n2 along `axis`, in one chunk along it; the other axes broadcast, in any chunks. Chunks are
        NumPy's or CuPy's, of any dtype that `Rule` takes. What is no Dask array becomes one of one chunk.
    weights : dask.array.Array or array_like, optional
        Of length num_paths along `axis`; the other axes broadcast. None is all ones.
    axis : int
        The active axis of x1, x2, weights and the result.

    Returns
    -------
    dask.array.Array
        The broadcast batch with n_out at `axis`, in the chunks that ``x1 * x2`` would have along the batch, and one
        along `axis`. Bitwise what NumPy arrays give, whatever the chunks are.

    Raises
    ------
    TypeError
        If rule is not one, a dtype cannot be computed with, or an array is one of a third library.
    ValueError
        If an array has several chunks along `axis` or chunks of unknown sizes, a length is not the rule's, the batches
        do not broadcast, or the axis is out of range (`numpy.exceptions.AxisError`).

    Examples
    --------
    >>> import dask.array as da
    >>> import sparseacc.dask
    >>> rule = sparseacc.clebsch_gordan(1, 1, 2)
    >>> x = da.ones((1000, 3), chunks=(250, 3))
    >>> y = sparseacc.dask.product(rule, x, np.ones(3))
    >>> y.chunks
    ((250, 250, 250, 250), (5,))
    >>> np.array_equal(y.compute(), rule(np.ones((1000, 3)), np.ones(3)))
    True
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a sparseacc.Rule, not {type(rule).__name__}")
    if not any(map(is_dask, (x1, x2, weights))):
        x1 = chunks.as_dask(x1, "x1")
    return rule(x1, x2, weights, axis=axis)
