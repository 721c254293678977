"""Writes an operation of a rule in the form that the CPU kernel reads.

A real rotation acts on the pair of components m, -m as on a complex number, and so the terms of a Clebsch-Gordan rule
come in quads, as those of complex arithmetic do: two outputs, two pairs of factors, and two coefficients up to sign,

    first += C1 (a b +- a' b'),    second += C2 (a b' +- a' b).

That takes 6 operations and 4 columns read for 4 terms, where single terms take 8 and 8. Quads are looked for in the
terms of every rule and operation, by their indices and coefficients alone. Outputs are therefore computed two at a
time. `code` (int32) and `coef` hold the number of pairs of outputs, and for each

    code: first, second, quads of signs ++, +-, -+, --, singles of the first, singles of the second,
          then (a, a', b, b') for each quad, then (a, b) for each single           coef: C1, C2 ..., C ...

with all of them tile columns: of the inputs, one to spare that pairs with the last of an odd number, of the outputs.
Outputs without a term do not appear: their columns are zero from the start. The coefficient gradient sums over
rows instead; its terms are grouped by two factors, whose product is formed once:

    code: groups, then for each group a, b, terms, then (c, sum) for each term     coef: the sign of each group

Complex operands have two columns a component, and products of components become real ones:
(p + iq)(r + is) = (pr - qs) + i(ps + qr).
"""

from __future__ import annotations

from itertools import chain, combinations, product, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

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

        if planes * (sum(input_lengths) + sum(output_lengths)) >= 2**31 - 1:
            raise MemoryError(f"{rule!r} is too large: a row of {operation.name} takes 2**31 numbers or more")
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
            code, coef = _products(terms, planes * sum(input_lengths), planes)
            work = len(code)
        lengths = [planes * n for n in (*input_lengths, *output_lengths)]
        real = np.dtype(np.float64 if dtype.itemsize == 8 * planes else np.float32)
        coef = coef.astype(real)
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


class _Term(NamedTuple):
    out: int
    a: int
    b: int
    C: float


def _products(
    products: list[tuple[Any, Any, Any, Floats]], n_inputs: int, planes: int
) -> tuple[npt.NDArray[np.int32], Floats]:
    terms: list[_Term] = []
    for out, a, b, coefficient in products:
        for p, q in product(range(planes), repeat=2):
            sign = -1 if p and q else 1
            columns = (planes * out + (p ^ q), planes * a + p, planes * b + q, sign * coefficient)
            terms += map(_Term, *(column.tolist() for column in columns))
    quads = _quads(terms)

    single: dict[int, list[_Term]] = {}
    used = {i for found in quads.values() for members in found for i in members}
    for i, term in enumerate(terms):
        if i not in used:
            single.setdefault(term.out, []).append(term)
    alone = sorted({term.out for term in terms}.difference(*quads))
    pairs = [*sorted(quads), *zip_longest(alone[::2], alone[1::2], fillvalue=-1)]

    code = [len(pairs)]
    coef: list[float] = []
    for pair in pairs:
        kinds: list[list[tuple[_Term, ...]]] = [[], [], [], []]
        for members in quads.get(pair, ()):
            ab, aabb, abb, aab = (terms[i] for i in members)
            kinds[2 * (ab.C != aabb.C) + (abb.C != aab.C)].append((ab, aabb, abb))
        singles = [sorted(single.get(out, ())) for out in pair]
        code += [n_inputs + 1 + out for out in pair]
        code += [*map(len, kinds), *map(len, singles)]
        for ab, aabb, abb in chain(*map(sorted, kinds)):
            code += [ab.a, aabb.a, ab.b, aabb.b]
            coef += [ab.C, abb.C]
        for term in chain(*singles):
            code += [term.a, term.b]
            coef.append(term.C)
    return np.array(code, np.int32), np.array(coef)


_MOST_CANDIDATES = 16
"""Terms of one output and coefficient to try as the second of a quad: more than Clebsch-Gordan rules have, and a limit
to the time that a rule of a million equal coefficients takes."""

_Quads = dict[tuple[int, int], list[tuple[int, int, int, int]]]


def _quads(terms: list[_Term]) -> _Quads:
    """Quads of each pair of outputs, as indices of the terms a b, a' b', a b', a' b. An output is in one pair."""
    alike: dict[tuple[int, float], list[int]] = {}
    at: dict[tuple[int, int], list[int]] = {}
    for i, term in enumerate(terms):
        alike.setdefault((term.out, abs(term.C)), []).append(i)
        at.setdefault((term.a, term.b), []).append(i)

    found: _Quads = {}
    for group in alike.values():
        for n, i in enumerate(group):
            for j in group[n + 1 : n + 1 + _MOST_CANDIDATES]:
                one, two = terms[i], terms[j]
                if one.a == two.a or one.b == two.b:
                    continue
                for k, m in product(at.get((one.a, two.b), ()), at.get((two.a, one.b), ())):
                    three, four = terms[k], terms[m]
                    if three.out == four.out != one.out and abs(three.C) == abs(four.C):
                        if one.out < three.out:
                            found.setdefault((one.out, three.out), []).append((i, j, k, m))
                        else:  # the same quad with b and b' exchanged
                            found.setdefault((three.out, one.out), []).append((k, m, i, j))

    paired: set[int] = set()
    quads: _Quads = {}
    for pair in sorted(found, key=lambda pair: (-len(found[pair]), pair)):
        if not paired.isdisjoint(pair):
            continue
        paired.update(pair)
        used: set[int] = set()
        quads[pair] = []
        for members in found[pair]:
            if used.isdisjoint(members):
                used.update(members)
                quads[pair].append(members)
    return quads


def _exclusive(counts: Ints) -> Ints:
    """Where each begins, one after the other."""
    return np.cumsum(counts) - counts


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
