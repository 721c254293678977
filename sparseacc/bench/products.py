"""The product, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..rule import Rule
from .cases import ALL, QUICK, Case
from .limits import least_seconds
from .measuring import Result, ready, time_all
from .ways import COMPILED, WAYS

MOST_TERMS_COMPILED = 150


def cases(full: bool, dtype: str) -> Sequence[Case]:
    """All, or fewer and smaller ones."""
    return ALL if full else QUICK


def measure(
    case: Case, names: Sequence[str], dtype: str, seconds: float, quick: bool, step: Callable[[str], None]
) -> Iterator[Result]:
    """The product, then the gradient; `step` is called before each way is made, and before each result.

    A quick run leaves out what compiles for long.
    """
    rule = case.rule()
    x1, x2, dy = case.arrays(rule, dtype)
    rows = x1.size // rule.shape[0]
    forward, backward = (Result(case, operation, rule.nnz) for operation in ("product", "gradient"))
    ways: dict[str, Callable[[], Any]] = {}
    for name in names:
        if name in COMPILED and (quick or rule.nnz > MOST_TERMS_COMPILED):
            why = "only with --full or --against" if quick else f"not for more than {MOST_TERMS_COMPILED} terms"
            forward.left_out[name] = backward.left_out[name] = f"long to compile, {why}"
            step(name)
        else:
            ways[name] = partial(WAYS[name], rule, x1, x2, dy)
    calls = ready(ways, _expected(rule, x1, x2, dy), (forward, backward), dtype, step)
    inputs, output = x1.nbytes + x2.nbytes, dy.nbytes
    forward.limit, backward.limit = (
        least_seconds(moved, held, n * rule.nnz * rows, dtype) / rows * 1e9
        for moved, held, n in (
            (inputs + output, inputs + output, 1),
            (3 * inputs + 2 * output, 2 * (inputs + output), 3),
        )
    )
    for result, own in zip((forward, backward), calls, strict=True):
        step(result.operation)
        time_all(result, own, rows, seconds)
        yield result


def _expected(rule: Rule, *arrays: Array) -> tuple[Array, list[Array]]:
    """In double precision, by the plainest of loops."""
    x1, x2, dy = (array.astype(np.float64) for array in arrays)
    out, dx1, dx2 = np.zeros_like(dy), np.zeros_like(x1), np.zeros_like(x2)
    for m1, m2, mu, C in zip(rule.m1, rule.m2, rule.mu, rule.C, strict=True):
        out[:, mu] += C * x1[:, m1] * x2[:, m2]
        dx1[:, m1] += C * dy[:, mu] * x2[:, m2]
        dx2[:, m2] += C * dy[:, mu] * x1[:, m1]
    return out, [dx1, dx2]
