"""The GPU half: CUDA source strings, compiled at run time, on CuPy arrays. Sources need neither CuPy nor a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import algebra
from ..terms import Terms
from .coefficients import coefficients_kernel
from .operands import CHANNELS, ROWS, STORED
from .rows import rows_kernel
from .source import Access, Source, Spec

__all__ = ["Source", "source"]

_OPERATIONS = {
    operation.name: operation
    for operation in (
        algebra.FORWARD,
        algebra.VJP,
        algebra.JVP,
        algebra.VJP_VJP,
        algebra.COEFFICIENT_VJP,
        algebra.WEIGHTED_FORWARD,
        algebra.WEIGHTED_VJP,
        algebra.WEIGHTED_JVP,
        algebra.WEIGHTED_VJP_VJP,
        algebra.WEIGHTED_COEFFICIENT_VJP,
    )
}


def source(rule: Terms, op: str = "forward", dtype: Any = "float32", axis: str = "last") -> Source:
    """The CUDA source of an operation of a rule, to be compiled and launched in a pipeline of one's own.

    Parameters
    ----------
    rule : Rule
    op : {"forward", "vjp", "jvp", "vjp_vjp", "coefficient_vjp"}, or with "weighted_" before each
        The operation: its inputs are the arrays of the method of that name, in its order, none of them None. With
        weights those follow x1 and x2, and what belongs to them (dweights, zw) what belongs to x1 and x2.
    dtype : {"float32", "float64", "complex64", "complex128", "float16", "bfloat16"}
        Of all arrays; a NumPy dtype will do as well.
    axis : {"last", "middle", "first"}
        Of contiguous arrays, all with the same batch: "last", shape (rows, n); "middle", (batch, n, channels), which
        are batch * channels rows; "first", (n, rows), which is "middle" with as many channels as rows.

    Returns
    -------
    Source
        `code`, `name`, `options`, `arguments` and ``launch(rows)`` say how to compile and call it. Its arguments are
        pointers to the inputs and to the outputs (``out``; ``g_x1`` is the gradient with respect to x1), then to
        `tables` if there are any (a coefficient_vjp has one, and rules of many thousand terms), then 64-bit integers:
        ``rows``, and unless the axis is last ``n1``, the number of channels. The output of coefficient_vjp are partial
        sums to be added up, float64 or complex128, of shape (launch(rows).grid[0], nnz).

    Raises
    ------
    ValueError
        If op, dtype or axis is none of those above, or the rule has no terms.

    Examples
    --------
    >>> kernel = sparseacc.cuda.source(sparseacc.clebsch_gordan(1, 1, 1))
    >>> kernel.name, kernel.arguments
    ('sparseacc_forward', ('x1', 'x2', 'out', 'rows'))
    >>> print(kernel.code[: kernel.code.index(",")])
    // forward by a rule of shape (3
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    for what, value, known in (("op", op, _OPERATIONS), ("dtype", name, STORED), ("axis", axis, _DIMS)):
        if value not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}, not {value!r}")
    if not rule.nnz:
        raise ValueError(f"{rule!r} has no terms to compute")
    operation = _OPERATIONS[op]
    how = ROWS if axis == "last" else CHANNELS
    accesses = [Access(how)] * len(operation.inputs)
    accesses += [Access(ROWS, wide=True) if operation.contraction else Access(how)] * len(operation.outputs)
    spec = Spec(operation, (True,) * len(operation.outputs), name, tuple(accesses), _DIMS[axis])
    return coefficients_kernel(rule, spec) if operation.contraction else rows_kernel(rule, spec)


_DIMS = {"last": 1, "middle": 2, "first": 2}
