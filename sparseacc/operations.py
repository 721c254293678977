"""The mathematics: the product and all its derivatives, as one kind of object.

The product is a sum over the terms of a rule,

    out[mu] += C * x1[m1] * x2[m2],

and so is every derivative of it of any order, with the three index columns exchanged: the gradient with respect to x1
is ``dx1[m1] += C * dy[mu] * x2[m2]``, and so on. An `Operation` says only which operands there are, by which of the
index columns each is addressed, and which pairs of inputs are multiplied into which output. Kernels for any device are
made from that.
"""

from __future__ import annotations

from dataclasses import dataclass

M1, M2, MU, TERM = range(4)
"""The index columns of a rule, in the order of its shape, and the number of the term itself."""

OPTIONAL = frozenset({"z1", "z2", "dx1", "dx2"})
"""The inputs that may be None, which is zero."""


@dataclass(frozen=True)
class Operation:
    """What is multiplied into what.

    Attributes
    ----------
    name : str
        For messages and generated code.
    inputs : tuple of (str, int)
        Each input's name, and the index column that addresses it.
    outputs : tuple of int
        The index column that addresses each output.
    products : tuple of (int, int, int)
        ``(o, i, j)``: for every term of the rule, ``output[o] += C * input[i] * input[j]``, each operand at its own
        column.
    shapes : tuple of str or None
        The input whose shape each output has; None where it has one of its own.
    """

    name: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    products: tuple[tuple[int, int, int], ...]
    shapes: tuple[str | None, ...]

    def restricted(self, present: tuple[bool, ...], wanted: tuple[bool, ...]) -> Operation:
        """The same without the products that read an absent input or write an output that nobody asked for."""
        return Operation(
            self.name,
            self.inputs,
            self.outputs,
            tuple(p for p in self.products if wanted[p[0]] and present[p[1]] and present[p[2]]),
            self.shapes,
        )


FORWARD = Operation("forward", (("x1", M1), ("x2", M2)), (MU,), ((0, 0, 1),), (None,))

VJP = Operation(
    "vjp",
    (("dy", MU), ("x1", M1), ("x2", M2)),
    (M1, M2),
    ((0, 0, 2), (1, 0, 1)),
    ("x1", "x2"),
)

JVP = Operation(
    "jvp",
    (("x1", M1), ("x2", M2), ("dx1", M1), ("dx2", M2)),
    (MU,),
    ((0, 2, 1), (0, 0, 3)),
    (None,),
)

# The gradients of sum C dy[mu] (z1[m1] x2[m2] + x1[m1] z2[m2]) with respect to dy, x1 and x2.
VJP_VJP = Operation(
    "vjp_vjp",
    (("z1", M1), ("z2", M2), ("dy", MU), ("x1", M1), ("x2", M2)),
    (MU, M1, M2),
    ((0, 0, 4), (0, 3, 1), (1, 2, 1), (2, 2, 0)),
    ("dy", "x1", "x2"),
)

# dC[k] = sum over the batch of dy[mu[k]] x1[m1[k]] x2[m2[k]]: the one derivative that is not a product of two inputs.
# Its single output is addressed by the terms themselves, TERM.
COEFFICIENT_VJP = Operation("coefficient_vjp", (("dy", MU), ("x1", M1), ("x2", M2)), (TERM,), (), (None,))
