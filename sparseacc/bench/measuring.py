"""Measures the ways beside each other: checked first, interleaved, medians."""

from __future__ import annotations

import statistics
import sys
import timeit
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from time import sleep
from typing import Any

import numpy as np

from .. import cpu
from ..calls.arrays import Array
from ..cpu.threads import get_num_threads
from ..extras import how_to_install
from ..rule import Rule
from ..version import __version__
from . import record
from .cases import ALL, QUICK, Case
from .ways import COMPILED, OURS, WAYS, UnsuitedError

MOST_TERMS_COMPILED = 150
SECONDS_EACH = 0.25
"""For each way in each case; a way slower than that is timed once."""
TURN = 5e-3
_LARGE = 2**22
"""Bytes that are worth more than one thread."""


@dataclass
class Result:
    """Nanoseconds a row of each way, in one case.

    Attributes
    ----------
    case : Case
        The rule and the arrays.
    nnz : int
        The rule's terms.
    operation : str
        "product", or "gradient": both gradients, and the product that autograd computes before them.
    times : dict
        Medians by way.
    repeats : dict
        How many times each was timed.
    left_out : dict
        Why a way was not timed.
    limit : float
        The time that the machine takes to move the bytes or to multiply and add (see `limits`).
    """

    case: Case
    nnz: int
    operation: str
    times: dict[str, float] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    limit: float = 0.0

    @property
    def best_other(self) -> str | None:
        """The fastest way that is not ours."""
        others = {name: time for name, time in self.times.items() if name != OURS}
        return min(others, key=others.__getitem__) if others else None


def run(quick: bool = False, plot: str | None = None, raw: str | None = None) -> list[Result]:
    """Runs and prints the comparison.

    Parameters
    ----------
    quick : bool
        Fewer cases and rows, for a minute or two instead of ten minutes.
    plot, raw : str, optional
        Files for a figure (any format that matplotlib writes) and for the results as JSON.

    Returns
    -------
    list of Result

    Raises
    ------
    ModuleNotFoundError
        If a plot is asked for without matplotlib; before anything is timed.
    AssertionError
        If this package computes something wrong.
    """
    if plot is not None:
        _pyplot()
    print(f"sparseacc {__version__}, {cpu.instruction_set()}, {get_num_threads()} threads; float32")
    print("nanoseconds a row, medians of interleaved calls; in brackets: slower than sparseacc by this factor\n")
    results = []
    for case in _progress(QUICK if quick else ALL):
        for result in measure(case, SECONDS_EACH / (4 if quick else 1), quick):
            results.append(result)
            print(_line(result), flush=True)
    print()
    for name, why in dict.fromkeys(item for result in results for item in result.left_out.items()):
        print(f"{name}: left out, {why}")
    if raw is not None:
        compared = [asdict(r) | {"case": r.case._asdict()} for r in results]
        record.write(raw, threads=get_num_threads(), beside=compared)
    if plot is not None:
        draw(results, plot)
    return results


def measure(case: Case, seconds: float, quick: bool = False) -> Iterator[Result]:
    """The product, then the gradient."""
    rule = case.rule()
    x1, x2, dy = case.arrays(rule)
    rows = x1.size // rule.shape[0]
    product, gradients = _expected(rule, x1, x2, dy)
    forward, backward = (Result(case, rule.nnz, operation) for operation in ("product", "gradient"))
    calls: dict[str, dict[str, Any]] = {"product": {}, "gradient": {}}
    for name, make in WAYS.items():
        if name in COMPILED and (quick or rule.nnz > MOST_TERMS_COMPILED):
            why = "not in a quick run" if quick else f"not for more than {MOST_TERMS_COMPILED} terms"
            forward.left_out[name] = backward.left_out[name] = f"it compiles for long: {why}"
            continue
        try:
            way = make(rule, x1, x2, dy)
        except (ImportError, UnsuitedError) as error:
            forward.left_out[name] = backward.left_out[name] = str(error)
            continue
        _check(name, [way.product()], [product])
        calls["product"][name] = way.product
        if way.gradient is None:
            backward.left_out[name] = "it has no gradient of its own"
        else:
            _check(name, way.gradient(), gradients)
            calls["gradient"][name] = way.gradient
    forward.limit, backward.limit = limits(rule, rows)
    for result in (forward, backward):
        for name, times in _interleaved(calls[result.operation], seconds).items():
            result.times[name] = statistics.median(times) / rows * 1e9
            result.repeats[name] = len(times)
        yield result


def limits(rule: Rule, rows: int) -> tuple[float, float]:
    """Nanoseconds a row of the product and of the gradient with it, where nothing but the machine limits them.

    The larger of the time to copy as many bytes as are read and written, by all threads, and of 2 nnz multiply-adds for
    the product and 4 nnz for the gradients, at the speed of NumPy's matrix product.
    """
    sizes = np.array([sum(rule.shape), 2 * sum(rule.shape) + rule.shape[0] + rule.shape[1]]) * rows * 4
    square = np.ones((1024, 1024), np.float32)
    peak = len(square) ** 3 / min(timeit.repeat(lambda: square @ square, number=1, repeat=5))
    memory = []
    with ThreadPoolExecutor(get_num_threads()) as pool:
        for size in sizes:
            threads = get_num_threads() if size > _LARGE else 1
            pairs = [np.ones((2, -(-size // 2 // threads)), np.uint8) for _ in range(threads)]
            copy = partial(_each, pool, [partial(np.copyto, *pair) for pair in pairs])
            memory.append(min(timeit.repeat(copy, number=1, repeat=5)))
    product, gradient = (
        max(seconds, n * rule.nnz * rows / peak) / rows * 1e9 for seconds, n in zip(memory, (2, 6), strict=True)
    )
    return product, gradient


def _each(pool: ThreadPoolExecutor, calls: Sequence[Any]) -> None:
    """All calls, each in a thread; a single one in this."""
    if len(calls) == 1:
        calls[0]()
    else:
        wait([pool.submit(call) for call in calls])


def _expected(rule: Rule, *arrays: Array) -> tuple[Array, list[Array]]:
    """In double precision, by the plainest of loops."""
    x1, x2, dy = (array.astype(np.float64) for array in arrays)
    out, dx1, dx2 = np.zeros_like(dy), np.zeros_like(x1), np.zeros_like(x2)
    for m1, m2, mu, C in zip(rule.m1, rule.m2, rule.mu, rule.C, strict=True):
        out[:, mu] += C * x1[:, m1] * x2[:, m2]
        dx1[:, m1] += C * dy[:, mu] * x2[:, m2]
        dx2[:, m2] += C * dy[:, mu] * x1[:, m1]
    return out, [dx1, dx2]


def _check(name: str, results: Sequence[Any], expected: Sequence[Array]) -> None:
    for result, right in zip(results, expected, strict=True):
        error = abs(np.asarray(result) - right).max()
        assert error <= 1e-5 * max(abs(right).max(), 1), f"{name} is wrong by {error}"


def _interleaved(calls: dict[str, Any], seconds: float) -> dict[str, list[float]]:
    """Seconds a call, in turns of some milliseconds, until each has had its time.

    The threads of some libraries go on spinning for a while after a call, on the processors that the next one needs:
    every turn waits for that first. Then it calls without timing for as long as a turn: a virtual machine's processor
    may take milliseconds to wake up, which some ways wait for in their first call, and others work on without. As many
    calls are then timed.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    while any(total < seconds for total in spent.values()):
        for name, call in calls.items():
            if spent[name] < seconds:
                sleep(TURN)
                count, awake = 0, timeit.default_timer() + TURN
                while count == 0 or timeit.default_timer() < awake:
                    call()
                    count += 1
                time = timeit.timeit(call, number=count)
                times[name].append(time / count)
                spent[name] += time
    return times


def _line(result: Result) -> str:
    ours = result.times[OURS]
    others = sorted((time, name) for name, time in result.times.items() if name != OURS)
    listed = ", ".join(f"{name} {time:.3g} ({time / ours:.1f})" for time, name in others)
    return f"{result.case}, {result.operation:8}: {OURS} {ours:.3g}, limit {result.limit:.2g}; {listed}"


def _progress(cases: Sequence[Case]) -> Iterable[Case]:
    try:
        from tqdm import tqdm
    except ImportError:
        return cases
    bar: Iterable[Case] = tqdm(cases, file=sys.stderr, leave=False, disable=None)
    return bar


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"a plot needs matplotlib: {how_to_install('bench')}", name="matplotlib") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw(results: Sequence[Result], file: str) -> None:
    """Plots the time a row over the degree for the largest batch, a panel for each operation."""
    pyplot = _pyplot()
    results = [result for result in results if not (result.case.middle or result.case.every)]
    most = max(result.case.rows for result in results)
    figure, panels = pyplot.subplots(1, 2, figsize=(13, 5), sharey=True, layout="constrained")
    colors = dict(zip(WAYS, pyplot.get_cmap("tab20").colors, strict=False))
    for panel, operation in zip(panels, ("product", "gradient"), strict=True):
        chosen = [result for result in results if result.case.rows == most and result.operation == operation]
        for name in WAYS:
            points = [(result.case.degree, result.times[name]) for result in chosen if name in result.times]
            if points:
                panel.plot(
                    *zip(*points, strict=True), "o-", label=name, color=colors[name], linewidth=3 if name == OURS else 1
                )
        panel.plot(*zip(*((r.case.degree, r.limit) for r in chosen), strict=True), "k--", label="the machine's limit")
        panel.set(title=f"{operation}, {most:,} rows", xlabel="l", yscale="log")
    panels[0].set_ylabel("nanoseconds a row")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(file)
    pyplot.close(figure)
