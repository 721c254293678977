"""The mathematics: the product and all its derivatives, as one kind of object.

The product is a sum over the terms of a rule,

    out[mu] += C x1[m1] x2[m2],        or with weights        out[mu] += C x1[m1] x2[m2] weights[path],

and so is every derivative of it of any order, with operands exchanged: the gradient with respect to x1 is
``dx1[m1] += C dy[mu] x2[m2]``, and so on. An `Operation` says only which operands there are, by which column of the
rule each is addressed, and which of them are multiplied into which output. Kernels for any device are made from that,
and so are derivatives: `gradient` and `tangent` make operations of operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

M1, M2, MU, PATH, TERM = range(5)
"""The index columns of a rule, in the order of its shape, the path of a term, and the number of the term itself."""

C = -1
"""The coefficients as a factor: an operand addressed by TERM, which the rule has. The other factors are inputs."""

OPTIONAL = frozenset({"z1", "z2", "zw", "dx1", "dx2", "dweights"})
"""The inputs that may be None, which is zero."""


class Product(NamedTuple):
    """For every term of the rule, ``output[o] += factor * factor * ...``, each operand at its own column.

    The factors stand in the order of their columns: C, then MU, then the others.
    """

    output: int
    factors: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The factors but C."""
        return tuple(f for f in self.factors if f != C)


@dataclass(frozen=True)
class Operation:
    """What is multiplied into what.

    Attributes
    ----------
    name : str
        For messages, generated code and keys.
    inputs : tuple of (str, int)
        Each input's name, and the column that addresses it.
    outputs : tuple of int
        The column that addresses each output.
    products : tuple of Product
        What is added to the outputs.
    shapes : tuple of str or None
        The input whose shape each output has; None where it has one of its own.
    """

    name: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    products: tuple[Product, ...]
    shapes: tuple[str | None, ...]

    @property
    def reads(self) -> tuple[int, ...]:
        """The inputs that are in a product."""
        return tuple(sorted({i for product in self.products for i in product.inputs}))

    @property
    def contraction(self) -> bool:
        """Whether the output has a number for every term, a sum over all rows of products without C."""
        return TERM in self.outputs

    @property
    def weighted(self) -> bool:
        """Whether an operand is addressed by the path."""
        return PATH in (*self.outputs, *(column for _, column in self.inputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        """What generated code calls the outputs: the gradient with respect to x1 is g_x1."""
        return tuple(f"g_{like}" if like else "out" for like in self.shapes)

    def columns(self, product: Product) -> tuple[int, ...]:
        """Those that address the output of a product and its inputs."""
        return self.outputs[product.output], *(self.inputs[i][1] for i in product.inputs)

    def restricted(self, present: tuple[bool, ...], wanted: tuple[bool, ...]) -> Operation:
        """The same without the products that read an absent input or write an output that nobody asked for."""
        kept = (p for p in self.products if wanted[p.output] and all(present[i] for i in p.inputs))
        return replace(self, products=tuple(kept))


def gradient(op: Operation, name: str, cotangents: Sequence[str], wrt: Iterable[int] | None = None) -> Operation:
    """The gradient of the sum of cotangent times output, for the factors in `wrt`, by default all inputs.

    Its inputs are the cotangents of all outputs, which `cotangents` names, then those of the operation itself.
    """
    after = len(op.outputs)
    variables = tuple(range(len(op.inputs)) if wrt is None else wrt)
    products = [
        (o, [p.output if n == k else f if f == C else after + f for n, f in enumerate(p.factors)])
        for o, variable in enumerate(variables)
        for p in op.products
        for k, factor in enumerate(p.factors)
        if factor == variable
    ]
    outputs = [(None, TERM) if variable == C else op.inputs[variable] for variable in variables]
    inputs = (*zip(cotangents, op.outputs, strict=True), *op.inputs)
    return _operation(name, inputs, [c for _, c in outputs], products, [like for like, _ in outputs])


def tangent(op: Operation, name: str, tangents: Sequence[str]) -> Operation:
    """The derivative along the tangents of all inputs, which `tangents` names and which follow the inputs."""
    after = len(op.inputs)
    products = [
        (p.output, [after + f if n == k else f for n, f in enumerate(p.factors)])
        for p in op.products
        for k, factor in enumerate(p.factors)
        if factor != C
    ]
    inputs = (*op.inputs, *zip(tangents, (column for _, column in op.inputs), strict=True))
    return _operation(name, inputs, op.outputs, products, op.shapes)


def _operation(
    name: str,
    inputs: tuple[tuple[str, int], ...],
    outputs: Sequence[int],
    products: Iterable[tuple[int, Sequence[int]]],
    shapes: Sequence[str | None],
) -> Operation:
    """One whose products have their factors in order, which rounding depends on."""

    def place(factor: int) -> tuple[bool, bool, int]:
        column = TERM if factor == C else inputs[factor][1]
        return column != TERM, column != MU, column

    ordered = tuple(Product(o, tuple(sorted(factors, key=place))) for o, factors in products)
    return Operation(name, inputs, tuple(outputs), ordered, tuple(shapes))


FORWARD = _operation("forward", (("x1", M1), ("x2", M2)), [MU], [(0, (C, 0, 1))], [None])
VJP = gradient(FORWARD, "vjp", ["dy"])
JVP = tangent(FORWARD, "jvp", ["dx1", "dx2"])
VJP_VJP = gradient(VJP, "vjp_vjp", ["z1", "z2"])
COEFFICIENT_VJP = gradient(FORWARD, "coefficient_vjp", ["dy"], [C])

WEIGHTED_FORWARD = _operation(
    "weighted_forward", (("x1", M1), ("x2", M2), ("weights", PATH)), [MU], [(0, (C, 0, 1, 2))], [None]
)
WEIGHTED_VJP = gradient(WEIGHTED_FORWARD, "weighted_vjp", ["dy"])
WEIGHTED_JVP = tangent(WEIGHTED_FORWARD, "weighted_jvp", ["dx1", "dx2", "dweights"])
WEIGHTED_VJP_VJP = gradient(WEIGHTED_VJP, "weighted_vjp_vjp", ["z1", "z2", "zw"])
WEIGHTED_COEFFICIENT_VJP = gradient(WEIGHTED_FORWARD, "weighted_coefficient_vjp", ["dy"], [C])

OPERATIONS = {
    operation.name: operation
    for operation in (
        FORWARD,
        VJP,
        JVP,
        VJP_VJP,
        COEFFICIENT_VJP,
        WEIGHTED_FORWARD,
        WEIGHTED_VJP,
        WEIGHTED_JVP,
        WEIGHTED_VJP_VJP,
        WEIGHTED_COEFFICIENT_VJP,
    )
}
"""By their names, under which `cpu.source` and `cuda.source` take them."""
