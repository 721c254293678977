"""The terms of a large rule as a table in device memory, and the loops over it.

For every product of the operation the terms are sorted by output: `table` has where each output's terms begin, then the
columns of each factor; `coefficients` has C in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..algebra import Operation
from ..calls.arrays import Array
from .operands import Operand, Stored


class Table:
    """The arithmetic of a row of an operation (restricted to what is computed).

    Attributes
    ----------
    tables : tuple of (str, str)
        The constants' names and types.
    arrays : tuple of ndarray
        The constants.
    """

    title = "from a table"

    def __init__(
        self,
        terms: Sequence[Array],
        sizes: tuple[int, ...],
        operation: Operation,
        outputs: Sequence[str],
        stored: Stored,
    ) -> None:
        *columns, C = terms
        self._operation, self._names, self._stored = operation, outputs, stored
        self._sizes, self._terms = sizes, len(C)
        self._begins: list[int] = []
        integers: list[npt.NDArray[np.int32]] = []
        coefficients: list[npt.NDArray[Any]] = []
        for product in operation.products:
            output, *factors = operation.columns(product)
            order = np.argsort(columns[output], kind="stable")
            begins = np.searchsorted(columns[output][order], np.arange(sizes[output] + 1))
            self._begins.append(sum(map(len, integers)))
            integers += [begins.astype(np.int32), *(columns[factor][order] for factor in factors)]
            coefficients.append(C[order])
        self.tables = (("table", "int"), ("coefficients", stored.real))
        real = np.float32 if stored.real == "float" else np.float64
        self.arrays = (np.concatenate(integers), np.concatenate(coefficients).astype(real))

    def declare(self, outputs: Iterable[Operand]) -> Iterator[str]:
        """Nothing: no output is kept."""
        yield from ()

    def compute(self, inputs: Iterable[Operand], outputs: Iterable[Operand]) -> Iterator[str]:
        """Computes this thread's row, one column after the other."""
        named = {operand.name: operand for operand in inputs}
        for operand in outputs:
            yield from self._loop(self._names.index(operand.name), operand, named)

    def _loop(self, o: int, operand: Operand, inputs: dict[str, Operand]) -> Iterator[str]:
        real, wide = self._stored.real, self._stored.planes == 2
        fma = "fmaf" if real == "float" else "fma"
        yield f"for (int column = 0; column < {operand.columns}; ++column) {{"
        yield f"    {real} re = 0{', im = 0' if wide else ''};"
        for n, product in enumerate(self._operation.products):
            if product.output != o:
                continue
            begin = self._begins[n]
            first = begin + self._sizes[self._operation.outputs[o]] + 1
            read = [
                inputs[self._operation.inputs[f][0]].read(f"table[{first + i * self._terms} + k]")
                for i, f in enumerate(product.inputs)
            ]
            yield f"    for (int k = table[{begin} + column]; k < table[{begin + 1} + column]; ++k) {{"
            yield f"        const {real} c = coefficients[{n * self._terms} + k];"
            if wide:
                yield f"        const {self._stored.type} a = {read[0]}, b = {read[1]};"
                yield f"        {real} p = c * a.re, q = c * a.im;"
                for weight in read[2:]:
                    yield f"        const {self._stored.type} w = {weight};"
                    yield f"        const {real} r = {fma}(-q, w.im, p * w.re);"
                    yield f"        q = {fma}(q, w.re, p * w.im);"
                    yield "        p = r;"
                yield f"        re = {fma}(-q, b.im, {fma}(p, b.re, re));"
                yield f"        im = {fma}(q, b.re, {fma}(p, b.im, im));"
            else:
                scaled = "".join(f" * real({weight})" for weight in read[2:])
                yield f"        re = {fma}(c * real({read[0]}){scaled}, real({read[1]}), re);"
            yield "    }"
        yield f"    {operand.write('column', 're', *(['im'] if wide else []))}"
        yield "}"
