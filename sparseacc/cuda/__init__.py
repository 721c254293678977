"""The GPU half: CUDA source strings, compiled at run time, on CuPy arrays. Sources need neither CuPy nor a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..algebra import OPERATIONS
from ..calls.arrays import as_index
from ..calls.choices import chosen, chosen_axis, chosen_dtype, unique_name
from ..terms import Terms, check_terms
from .coefficients import coefficients_kernel
from .message_kernels import messages_kernel
from .operands import CHANNELS, ROWS, STORED
from .passes import Pass
from .rows import rows_kernel
from .source import Access, Source, Spec

__all__ = ["Source", "source"]

_MESSAGES = {"message_passing": (("out",), "out"), "message_passing_vjp": (("x", "y", "w"), "x")}
"""The outputs, and the slot by whose rows the edges are sorted."""


def source(
    rule: Terms, op: str = "forward", dtype: Any = "float32", axis: str | int | None = None, *, channels: int = 64
) -> Source:
    """The CUDA source of an operation of a rule, to be compiled and launched in a pipeline of one's own.

    Parameters
    ----------
    rule : Rule
    op : {"forward", "vjp", "jvp", "vjp_vjp", "coefficient_vjp"}, or with ``"weighted_"`` before each, or \
{"message_passing", "message_passing_vjp"}
        The operation: its inputs are the arrays of the method or function of that name, in its order, none of them
        None. With weights those follow x1 and x2, and what belongs to them (dweights, zw) what belongs to x1 and x2.
    dtype : {"float32", "float64", "complex64", "complex128", "float16", "bfloat16"}
        Of all arrays; a NumPy dtype will do as well.
    axis : {"last", "middle", "first"} or {-1, -2, 0}
        Of contiguous arrays, all with the same batch: "last" or -1, shape (rows, n); "middle" or -2, (batch, n,
        channels), which are batch * channels rows; "first" or 0, (n, rows), which is "middle" with as many channels as
        rows. By default "last"; message passing has "middle" alone.
    channels : int
        Of message passing, whose kernels are for one number of channels.

    Returns
    -------
    Source
        `code`, `name`, `options`, `arguments` and ``launch(rows)`` say how to compile and call it. The name ends in a
        digest of the content, so that no two kernels of a program have the same. Its arguments are pointers to the
        inputs and to the outputs (``out``; ``g_x1`` is the gradient with respect to x1), then to `tables` if there are
        any (a coefficient_vjp has one, and rules of many thousand terms), then 64-bit integers: ``rows``, and unless
        the axis is last ``n1``, the number of channels. The output of coefficient_vjp are partial sums to be added up,
        float64 or complex128, of shape (launch(rows).grid[0], nnz).

        Message passing has real arrays x (nodes, n1, channels), y (edges, n2), w (edges, num_paths, channels) and out
        or dout (nodes, n_out, channels), and takes the edges sorted by receiver, or by sender for the gradients dx, dy
        and dw: ``order`` has the edges, ``begins`` where those of each node begin in it, and their end, ``x_rows`` the
        sender and ``out_rows`` the receiver of each edge in that order, all as 64-bit integers. Then come `tables`, if
        there are any, and the integers ``segments``, the number of nodes to sum into, which `launch` takes, and
        ``edges``. With more than 256 channels dy is an array of partial sums to be added up, float32 or float64, of
        shape (channels / 256 rounded up, edges, n2).

    Raises
    ------
    TypeError
        If rule is not a Rule.
    ValueError
        If op, dtype or axis is none of those above, or the rule has no terms; of message passing, if the dtype is
        complex, channels is not positive, or the rule is too large for one kernel of all gradients.

    Examples
    --------
    >>> kernel = sparseacc.cuda.source(sparseacc.clebsch_gordan(1, 1, 1))
    >>> kernel.name.startswith("sparseacc_forward_"), kernel.arguments
    (True, ('x1', 'x2', 'out', 'rows'))
    >>> print(kernel.code[: kernel.code.index(",")])
    // forward by a rule of shape (3
    """
    of_messages = chosen("op", op, [*OPERATIONS, *_MESSAGES]) in _MESSAGES
    name = chosen_dtype(dtype, [known for known, stored in STORED.items() if stored.planes == 1 or not of_messages])
    default = "middle" if of_messages else "last"
    where = chosen_axis(default if axis is None else axis, ["middle"] if of_messages else _DIMS)
    check_terms(rule)
    if of_messages:
        kernel = _messages(rule, op, name, as_index(channels, "channels"))
    else:
        operation = OPERATIONS[op]
        how = ROWS if where == "last" else CHANNELS
        accesses = [Access(how)] * len(operation.inputs)
        accesses += [Access(ROWS, wide=True) if operation.contraction else Access(how)] * len(operation.outputs)
        spec = Spec(operation, (True,) * len(operation.outputs), name, tuple(accesses), _DIMS[where])
        kernel = coefficients_kernel(rule, spec) if operation.contraction else rows_kernel(rule, spec)
    own = unique_name(kernel.name, rule._digest, kernel.code.encode(), where.encode())
    return replace(kernel, code=kernel.code.replace(f"{kernel.name}(", f"{own}("), name=own)


def _messages(rule: Terms, op: str, dtype: str, channels: int) -> Source:
    if channels < 1:
        raise ValueError(f"channels is {channels}, but must be positive")
    outputs, column = _MESSAGES[op]
    kernel = messages_kernel(rule, Pass(outputs, column, (), dtype, channels, ("w",), ("x", "out"), weighted=True))
    if kernel is None:
        raise ValueError(f"{rule!r} is too large for one kernel of all gradients")
    return kernel


_DIMS = {"last": 1, "middle": 2, "first": 2}
