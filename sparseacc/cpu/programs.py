"""Writes an operation of a rule in the form that the CPU kernel reads.

Terms of one output column that share their first factor are grouped, which saves multiplications:
``C0 a b0 + C1 a b1 = a (C0 b0 + C1 b1)``. To keep the kernel's loops short and even, a group is cut into pairs and at
most one single. `code` (int32) and `coef` then hold, for each column of each output in turn,

    code: pairs, singles, then (a, b0, b1) for each pair, then (a, b) for each single       coef: C0, C1 ..., C ...

with a, b tile columns of the inputs. The coefficient gradient sums over rows instead; its terms are grouped by their
first two factors, whose product is formed once:

    code: groups, then for each group a, b, terms, then (c, sum) for each term              coef: sign of each group

Complex operands have two columns a component, and products of components become real ones:
(p + iq)(r + is) = (pr - qs) + i(ps + qr).
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..operations import COEFFICIENT_VJP, Operation
from ._kernel import ffi, lib

if TYPE_CHECKING:
    from ..rule import Rule

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

_STORED = {"float32": lib.SA_FLOAT32, "float64": lib.SA_FLOAT64, "float16": lib.SA_FLOAT16}
_STORED |= {"bfloat16": lib.SA_BFLOAT16, "complex64": lib.SA_FLOAT32, "complex128": lib.SA_FLOAT64}


class Program:
    """One operation of one rule for one dtype.

    Attributes
    ----------
    pointer : cdata
        The `sa_program` of sparseacc.h.
    inputs : tuple of int
        The operation's inputs that the kernel reads, in the order of its operands.
    outputs : tuple of int
        The operation's outputs that it writes.
    """

    __slots__ = ("_alive", "inputs", "outputs", "pointer")

    def __init__(self, rule: Rule, operation: Operation, wanted: tuple[bool, ...], dtype: np.dtype[Any]) -> None:
        planes = 2 if dtype.kind == "c" else 1
        columns = (rule.m1, rule.m2, rule.mu)
        contraction = operation.name == COEFFICIENT_VJP.name
        read = range(3) if contraction else {i for p in operation.products for i in p[1:]}
        self.inputs = tuple(sorted(read))
        self.outputs = tuple(o for o, asked in enumerate(wanted) if asked)
        sizes = (*rule.shape, rule.nnz)
        input_lengths = [sizes[operation.inputs[i][1]] for i in self.inputs]
        output_lengths = [sizes[operation.outputs[o]] for o in self.outputs]
        input_first = dict(zip(self.inputs, _exclusive(np.array(input_lengths, int)), strict=True))
        output_first = dict(zip(self.outputs, _exclusive(np.array(output_lengths, int)), strict=True))

        if contraction:
            factors = [columns[operation.inputs[i][1]] + input_first[i] for i in self.inputs]
            code, coef = _contraction(factors, planes)
            work = 2 * len(code)
        else:
            terms = [
                (
                    columns[operation.outputs[o]] + output_first[o],
                    columns[operation.inputs[i][1]] + input_first[i],
                    columns[operation.inputs[j][1]] + input_first[j],
                    rule.C,
                )
                for o, i, j in operation.products
            ]
            code, coef = _products(terms, sum(output_lengths) * planes, planes)
            work = len(code)
        real = np.dtype(np.float64 if dtype.itemsize == 8 * planes else np.float32)
        coef = coef.astype(real)
        lengths = [planes * n for n in (*input_lengths, *output_lengths)]
        self._alive = (code, coef)
        self.pointer = ffi.new(
            "sa_program *",
            {
                "n_inputs": len(self.inputs),
                "n_outputs": len(self.outputs),
                "columns": lengths,
                "planes": planes,
                "dtype": _STORED[dtype.name],
                "contraction": contraction,
                "work": work + 4 * sum(lengths),
                "code": ffi.from_buffer("int32_t[]", code),
                "coef": ffi.from_buffer(coef),
            },
        )


def _products(
    products: list[tuple[Any, Any, Any, Floats]], n_columns: int, planes: int
) -> tuple[npt.NDArray[np.int32], Floats]:
    pieces: list[tuple[Ints, Ints, Ints, Floats]] = []
    for out, first, second, coefficient in products:
        group, other = _fewest_groups(out, first, second)
        for p, q in product(range(planes), repeat=2):
            pieces.append(
                (
                    planes * out.astype(np.intp) + (p ^ q),
                    planes * group.astype(np.intp) + p,
                    planes * other.astype(np.intp) + q,
                    -coefficient if p and q else coefficient,
                )
            )
    if not pieces:
        return np.zeros(2 * n_columns, np.int32), np.zeros(0)
    out, a, b, c = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.lexsort((a, out))
    out, a, b, c = out[order], a[order], b[order], c[order]

    new_group = np.ones(len(out), bool)
    new_group[1:] = (out[1:] != out[:-1]) | (a[1:] != a[:-1])
    start = np.maximum.accumulate(np.where(new_group, np.arange(len(out)), 0))
    leads = (np.arange(len(out)) - start) % 2 == 0
    followed = np.append(~new_group[1:], False)
    pair, single = np.flatnonzero(leads & followed), np.flatnonzero(leads & ~followed)

    pairs, singles = (np.bincount(out[k], minlength=n_columns) for k in (pair, single))
    code = np.empty(2 * n_columns + 3 * len(pair) + 2 * len(single), np.int32)
    coef = np.empty(len(out))
    begin = _exclusive(2 + 3 * pairs + 2 * singles)
    code[begin], code[begin + 1] = pairs, singles
    coef_begin = _exclusive(2 * pairs + singles)

    at = begin[out[pair]] + 2 + 3 * _rank(pairs)
    code[at], code[at + 1], code[at + 2] = a[pair], b[pair], b[pair + 1]
    at = coef_begin[out[pair]] + 2 * _rank(pairs)
    coef[at], coef[at + 1] = c[pair], c[pair + 1]
    at = begin[out[single]] + 2 + 3 * pairs[out[single]] + 2 * _rank(singles)
    code[at], code[at + 1] = a[single], b[single]
    coef[coef_begin[out[single]] + 2 * pairs[out[single]] + _rank(singles)] = c[single]
    return code, coef


def _fewest_groups(out: Ints, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """The two factors, ordered so that grouping by (out, the first of them) gives fewer groups."""
    groups = [len(set(zip(out.tolist(), factor.tolist(), strict=True))) for factor in (first, second)]
    return (first, second) if groups[0] <= groups[1] else (second, first)


def _exclusive(counts: Ints) -> Ints:
    """Where each begins, one after the other."""
    return np.cumsum(counts) - counts


def _rank(counts: Ints) -> Ints:
    """0, 1, ..., counts[0] - 1, 0, 1, ..., counts[1] - 1, ..."""
    return np.arange(counts.sum()) - np.repeat(_exclusive(counts), counts)


def _contraction(factors: list[Any], planes: int) -> tuple[npt.NDArray[np.int32], Floats]:
    """Terms of the sums over rows: i^(p + q + r) is +1, +i, -1 or -i for planes p, q, r of the three factors."""
    n = len(factors[0])
    pair = min(combinations(range(3), 2), key=lambda ij: len(set(zip(*(factors[k].tolist() for k in ij), strict=True))))
    (third,) = {0, 1, 2} - set(pair)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for p, q, r in product(range(planes), repeat=3):
        sign, imaginary = (1, 1, -1, -1)[p + q + r], (p + q + r) % 2
        a, b, c = ((planes * factors[k] + plane).tolist() for k, plane in zip((*pair, third), (p, q, r), strict=True))
        for k in range(n):
            groups.setdefault((a[k], b[k], sign), []).extend((c[k], planes * k + imaginary))
    code = [len(groups)]
    for (first, second, _), terms in groups.items():
        code += [first, second, len(terms) // 2, *terms]
    return np.array(code, np.int32), np.array([float(sign) for _, _, sign in groups])
