"""The command `python -m sparseacc bench`."""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from ..cpu.threads import get_num_threads
from . import load, messages, models, plot, products, record, table, ways
from .measuring import OURS, Result, results_of

BAR = "{percentage:3.0f}% |{bar:20}| {desc}"
SECONDS_EACH = 0.25
"""For each way of each operation in each case of a full run; a call that takes longer is timed three times or once."""


class Kind(NamedTuple):
    """What can be compared: the names of the ways, the operations, the cases, and how one is measured."""

    ways: Sequence[str]
    operations: int
    cases: Callable[[bool, str], Sequence[Any]]
    measure: Callable[..., Iterator[Result]]


KINDS = {
    "product": Kind(tuple(ways.WAYS), 2, products.cases, products.measure),
    "messages": Kind(tuple(messages.WAYS), 2, messages.cases, messages.measure),
    "models": Kind(models.WAYS, 1, models.cases, models.measure),
}


def spelled(name: str) -> str:
    """A way's name as it is typed: without capitals, spaces and hyphens."""
    return name.lower().replace(" ", "_").replace("-", "_").replace(",", "")


def others(kind: str) -> str:
    """The names that `against` takes."""
    return ", ".join(spelled(name) for name in KINDS[kind].ways if name != OURS)


def run(
    kind: str = "product",
    full: bool = False,
    against: str | None = None,
    dtype: str = "float32",
    plot_file: str | None = None,
    json_file: str | None = None,
    saved: str | None = None,
) -> dict[str, Any]:
    """Runs and prints a comparison, or prints one that was written as JSON.

    Parameters
    ----------
    kind : {"product", "messages", "models"}
        What is compared.
    full : bool
        All cases, for ten minutes, instead of some, for less than one.
    against : str, optional
        Names of ways, with commas between: only these, beside ours.
    dtype : {"float32", "float64"}
        Of the arrays.
    plot_file, json_file : str, optional
        Files for a figure (any format that matplotlib writes) and for the results as JSON.
    saved : str, optional
        A file of such results, which are shown instead of new ones.

    Returns
    -------
    dict
        What is written as JSON.

    Raises
    ------
    ModuleNotFoundError, ValueError
        If matplotlib or what all ways need is missing, a way is not known, or a file cannot be written; before anything
        is timed.
    ArithmeticError
        If a way computes something wrong.
    """
    for option, file in (("--plot", plot_file), ("--json", json_file)):
        folder = os.path.dirname(file or "")
        if folder and not os.path.isdir(folder):
            raise ValueError(f"{option}: there is no folder {folder!r} to write {file!r} to")
    if plot_file is not None:
        plot.load_pyplot(plot_file)
    if saved is not None:
        data = record.read(saved)
        _show(data)
    else:
        data = _measure(kind, full, _names(kind, against), dtype, not full and against is None)
    if json_file is not None:
        record.save(json_file, data)
        print(f"wrote {json_file}")
    if plot_file is not None:
        plot.draw(data, plot_file)
        print(f"wrote {plot_file}")
    return data


def _names(kind: str, against: str | None) -> list[str]:
    """Ours, and those that are asked for."""
    known = {spelled(name): name for name in KINDS[kind].ways}
    if against is None:
        return list(known.values())
    asked = [spelled(name.strip()) for name in against.split(",")]
    for name in asked:
        if name not in known:
            raise ValueError(f"--against: {name!r} is not known for --case {kind}, but {others(kind)} are")
    return [OURS, *(name for key, name in known.items() if key in asked and name != OURS)]


def _measure(kind: str, full: bool, names: Sequence[str], dtype: str, quick: bool) -> dict[str, Any]:
    chosen = KINDS[kind]
    cases = chosen.cases(full, dtype)
    if warning := load.before():
        _warn(warning)
    results: list[Result] = []
    seconds = SECONDS_EACH if full else SECONDS_EACH / 6
    with warnings.catch_warnings(), _progress(len(cases) * (len(names) + chosen.operations)) as (step, say):
        warnings.simplefilter("ignore")  # the libraries' own
        for case in cases:
            own = list(chosen.measure(case, names, dtype, seconds, quick, partial(step, case)))
            if not results:
                say(table.about(_made(kind, dtype, own)) + "\n")
            results += own
            say(table.of_case(own))
    print(table.notes(results), flush=True)
    data = _made(kind, dtype, results)
    if warning := warning or load.after(results):
        _warn(warning)
        data["warning"] = warning
    return data


def _made(kind: str, dtype: str, results: Sequence[Result]) -> dict[str, Any]:
    return record.made(kind=kind, dtype=dtype, threads=get_num_threads(), beside=[asdict(result) for result in results])


def _show(data: dict[str, Any]) -> None:
    results = results_of(data)
    print(f"{data['date']}: {table.about(data)}\n")
    for case in dict.fromkeys(result.case for result in results):
        print(table.of_case([result for result in results if result.case == case]))
    print(table.notes(results), flush=True)
    if "warning" in data:
        _warn(data["warning"])


def _warn(text: str) -> None:
    print(textwrap.fill(f"warning: {text}", table.WIDTH), file=sys.stderr, flush=True)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[Any, str], None], Callable[[str], None]]]:
    """Functions to call before each step, with the case and what it is, and to print with.

    On a terminal there is a bar by tqdm, or else a counter.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        counter = _Counter(total)
        yield counter.step, counter.say
        counter.clear()
        return
    with tqdm(total=total, file=sys.stderr, leave=False, disable=None, bar_format=BAR) as bar:

        def step(case: Any, what: str) -> None:
            bar.set_description_str(f"{case}: {what}")
            bar.update()

        def say(text: str) -> None:
            bar.clear()
            print(text, flush=True)
            bar.refresh()

        yield step, say


class _Counter:
    """A counter on stderr, if that is a terminal."""

    def __init__(self, total: int) -> None:
        self.done, self.total, self.shown = 0, total, sys.stderr.isatty()

    def step(self, case: Any, what: str) -> None:
        self.done += 1
        self._write(f"{self.done} of {self.total}, {case}: {what}")

    def say(self, text: str) -> None:
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self.shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
