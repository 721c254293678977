"""Measures the ways beside each other: checked first, interleaved, medians and quartiles."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import sleep
from typing import Any, NamedTuple

import numpy as np

from ..calls.arrays import Array
from .cases import CASES

OURS = "sparseacc"
TURN = 5e-3
"""Seconds of calls that are timed as one, and for which each way is called before."""
LONG = 20 * TURN
"""Seconds of a call that is not called before each turn: for it, to wake up counts little."""
LEAST, LONGEST = 3, 2.0
"""Repeats, for a spread; and the seconds after which there are no more for its sake."""
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@dataclass
class Result:
    """Nanoseconds of each way for a unit (a row, an edge or an atom), of one operation in one case.

    Attributes
    ----------
    case : Case, Layer or Potential
        What was computed.
    operation : str
        "product" or "forward"; "gradient", which is all gradients with the result that autograd computes before them;
        or "energy and forces".
    nnz : int
        The rule's terms; 0 if there are many rules.
    times, spreads : dict
        By way: medians, and the lower and the upper quartile.
    repeats : dict
        How many times each was timed.
    left_out : dict
        Why a way was not timed.
    limit : float
        About the least that the machine can take (see the module `limits`); 0 if it is not known.
    """

    case: Any
    operation: str
    nnz: int = 0
    times: dict[str, float] = field(default_factory=dict)
    spreads: dict[str, list[float]] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    limit: float = 0.0

    @property
    def best(self) -> str:
        """The fastest way."""
        return min(self.times, key=self.times.__getitem__)

    @property
    def unsteady(self) -> float:
        """How far the quartiles of our own calls are apart, over their median."""
        low, high = self.spreads.get(OURS, (0, 0))
        return (high - low) / self.times[OURS]


def results_of(data: dict[str, Any]) -> list[Result]:
    """Those that JSON has in it."""
    kind = CASES[data.get("kind", "product")]
    return [Result(**result | {"case": kind(**result["case"])}) for result in data["beside"]]


class UnsuitedError(Exception):
    """A way does not do this case."""


class Timed(NamedTuple):
    """What is timed: the result as an array, and its gradients as arrays; None if the way has no gradient.

    `forms` bring the result and each gradient into the form of ours, where they have another, before they are compared.
    """

    result: Callable[[], Any]
    gradient: Callable[[], Sequence[Any]] | None
    forms: Sequence[Callable[[Any], Array]] = ()


def ready(
    ways: Mapping[str, Callable[[], Timed]],
    expected: tuple[Array, Sequence[Array]],
    results: tuple[Result, Result],
    dtype: str,
    step: Callable[[str], None],
) -> tuple[dict[str, Callable[[], Any]], dict[str, Callable[[], Any]]]:
    """Makes each way and compares what it computes; returns what is to be timed for the result and for the gradient.

    Raises
    ------
    ArithmeticError
        If a way computes something else than is expected.
    """
    forward, backward = results
    calls: tuple[dict[str, Callable[[], Any]], dict[str, Callable[[], Any]]] = {}, {}
    for name, make in ways.items():
        step(name)
        try:
            way = make()
        except (ImportError, UnsuitedError) as error:
            why = "not installed" if isinstance(error, ModuleNotFoundError) else " ".join(str(error).split())
            forward.left_out[name] = backward.left_out[name] = why
            continue
        forms = way.forms or [np.asarray] * (1 + len(expected[1]))
        check(name, [forms[0](way.result())], [expected[0]], dtype)
        calls[0][name] = way.result
        if way.gradient is None:
            backward.left_out[name] = "no gradient of its own"
        else:
            gradients = [form(each) for form, each in zip(forms[1:], way.gradient(), strict=True)]
            check(name, gradients, expected[1], dtype)
            calls[1][name] = way.gradient
    return calls


def check(name: str, results: Sequence[Array], expected: Sequence[Array], dtype: str) -> None:
    """Compares with what double precision says; an ArithmeticError if it is something else."""
    for result, right in zip(results, expected, strict=True):
        error = abs(result - right).max()
        if not error <= TOLERANCE[dtype] * max(abs(right).max(), 1):
            raise ArithmeticError(f"{name} is wrong by {error}")


def time_all(result: Result, calls: dict[str, Callable[[], Any]], count: int, seconds: float) -> None:
    """Fills in the times of so many units."""
    for name, times in _interleaved(calls, seconds).items():
        low, middle, high = np.quantile(times, [0.25, 0.5, 0.75]) / count * 1e9
        result.times[name], result.spreads[name] = float(middle), [float(low), float(high)]
        result.repeats[name] = len(times)


def _interleaved(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Seconds a call, in turns of some milliseconds, until each has had its time.

    The threads of some libraries go on spinning for a while after a call, on the processors that the next one needs:
    every turn waits for that first. Then it calls without timing for as long as a turn: a virtual machine's processor
    may take milliseconds to wake up, which some ways wait for in their first call, and others work on without. As many
    calls are then timed.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    left = list(calls)
    while left:
        for name in left:
            call = calls[name]
            sleep(TURN)
            count, awake = 0, timeit.default_timer() + TURN
            if times[name] and times[name][-1] > LONG:
                count, awake = 1, 0.0
            while count == 0 or timeit.default_timer() < awake:
                call()
                count += 1
            time = timeit.timeit(call, number=count)
            times[name].append(time / count)
            spent[name] += time
        left = [name for name in left if spent[name] < (seconds if len(times[name]) >= LEAST else LONGEST)]
    return times
