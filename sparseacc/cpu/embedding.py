"""C sources of operations, and the header that declares them, for programs without Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..algebra import OPERATIONS
from ..calls.choices import chosen, chosen_axis, chosen_dtype, unique_name
from ..terms import Terms, check_terms
from ..version import __version__
from .c_code import REAL, Function, Operand

_SHAPES = {"last": "(rows, {})", "middle": "(rows / n1, {}, n1)", "first": "({}, rows)"}


@dataclass(frozen=True)
class Source:
    """A function as C99.

    Attributes
    ----------
    code : str
        The whole file. It has one function, which calls nothing, and includes stdint.h alone.
    name : str
        The function's name.
    arguments : tuple of str
        What it takes, in this order: pointers to the inputs and to the outputs, then 64-bit integers.
    declaration : str
        Its prototype, as C, C++ (within ``extern "C"``) and cffi's ``cdef`` read it.
    """

    code: str
    name: str
    arguments: tuple[str, ...]
    declaration: str


def source(rule: Terms, op: str = "forward", dtype: Any = "float32", axis: str | int = "last") -> Source:
    """An operation of a rule as a C function, to be compiled into a program of one's own.

    Parameters
    ----------
    rule : Rule
    op : {"forward", "vjp", "jvp", "vjp_vjp", "coefficient_vjp"}, or with ``"weighted_"`` before each
        The operation: its inputs are the arrays of the method of that name, in its order, none of them NULL. With
        weights those follow x1 and x2, and what belongs to them (dweights, zw) what belongs to x1 and x2.
    dtype : {"float32", "float64"}
        Of all arrays; a NumPy dtype will do as well.
    axis : {"last", "middle", "first"} or {-1, -2, 0}
        Of contiguous arrays, all with the same batch: "last" or -1, shape (rows, n); "middle" or -2, (batch, n,
        channels), which are batch * channels rows; "first" or 0, (n, rows), which is "middle" with as many channels as
        rows.

    Returns
    -------
    Source
        `code`, `name`, `arguments` and `declaration` say how to compile and call it. Its arguments are pointers to the
        inputs and to the outputs (``out``; ``g_x1`` is the gradient with respect to x1), none of which overlap an
        output, then 64-bit integers: ``rows``, and unless the axis is last ``n1``, the number of channels, of which
        ``rows`` is a multiple. Outputs are set, whatever they held. That of coefficient_vjp is of shape (nnz,) and
        always double, and summed in double. The name ends in a digest of the content, so that no two functions of a
        program have the same. The function allocates nothing, takes 64 KB of stack at most, and may run in many threads
        at once.

    Raises
    ------
    TypeError
        If rule is not a Rule.
    ValueError
        If op, dtype or axis is none of those above, the rule has no terms, or the dtype cannot hold a coefficient.

    Examples
    --------
    >>> kernel = sparseacc.cpu.source(sparseacc.clebsch_gordan(1, 1, 1), "vjp")
    >>> kernel.name.startswith("sparseacc_vjp_"), kernel.arguments
    (True, ('dy', 'x1', 'x2', 'g_x1', 'g_x2', 'rows'))
    >>> print(kernel.code[: kernel.code.index(",")])
    /* vjp by a rule of shape (3
    """
    operation = OPERATIONS[chosen("op", op, OPERATIONS)]
    dtype, axis = chosen_dtype(dtype, REAL), chosen_axis(axis, _SHAPES)
    check_terms(rule)
    function = Function(rule, operation, dtype, channels=axis != "last")

    def declaration(name: str) -> str:
        return f"void {name}({', '.join(function.parameters)});"

    def shapes(operands: list[Operand]) -> str:
        return ", ".join(f"{o.name} {_SHAPES[axis].format(o.columns)}" for o in operands)

    def text(name: str) -> str:
        to = f"out, the sums over all rows ({rule.nnz})" if operation.contraction else shapes(function.outputs)
        channels = {
            "last": "",
            "middle": "\n * n1 is the number of channels, of which rows is a multiple.",
            "first": "\n * n1 is the number of channels: the same number as rows.",
        }
        return "\n".join(
            (
                f"/* {op} by a rule of shape {rule.shape} with {rule.nnz} terms, {dtype}, axis {axis}:",
                f" * {function.title}.",
                " *",
                f" *     {declaration(name)}",
                " *",
                f" * reads {shapes(function.inputs)}",
                f" * writes {to}",
                f" * all of them contiguous; outputs overlap nothing.{channels[axis]}",
                " *",
                f" * Written by sparseacc {__version__}. Compile it as C99, with -O3 and -march=native or the like.",
                " * Copyright (c) 2026 The sparseacc developers. SPDX-License-Identifier: MIT */",
                "#include <stdint.h>",
                "",
                declaration(name),
                "",
                function.signature(name),
                *body,
                "",
            )
        )

    body = list(function.body())
    content = function.signature(""), "\n".join(body), axis
    name = unique_name(f"sparseacc_{op}", rule._digest, *(part.encode() for part in content))
    return Source(text(name), name, function.arguments, declaration(name))


def get_include() -> str:
    """The folder of ``sparseacc.h``, which has the types of the functions that `cpu.source` writes.

    Examples
    --------
    >>> from pathlib import Path
    >>> Path(sparseacc.get_include(), "sparseacc.h").exists()
    True
    """
    return str(Path(__file__).parents[1] / "include")
