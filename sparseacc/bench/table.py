"""What is printed: a table for each case, of at most 100 characters a line."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .measuring import OURS, Result

WIDTH = 100
OPERATIONS = {"gradient": "result and all gradients"}
"""What is printed for the name of an operation."""
LIMIT = "machine's limit"
NANOSECONDS = {"ns": 1, "us": 1e3}


def number(value: float) -> str:
    """Three digits, or as many as there are before the point, up to a million."""
    if value >= 1e6:
        return f"{value:.1e}"
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.2g}"


def about(data: dict[str, Any]) -> str:
    """The package, the machine and the versions, of JSON that was written or read."""
    machine, versions = data["machine"], data["versions"]
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "sparseacc")
    text = [f"sparseacc {versions['sparseacc']}, {threads(data)}, {machine['instruction_set']}, {dtype_of(data)}"]
    text += [machine["processor"], others]
    return "\n".join(textwrap.fill(line, WIDTH) for line in text)


def dtype_of(data: dict[str, Any]) -> str:
    """float32, if it is older than the choice."""
    return str(data.get("dtype", "float32"))


def threads(data: dict[str, Any]) -> str:
    """Their number, with the word."""
    return f"{data['threads']} thread{'s' if data['threads'] > 1 else ''}"


def unit_of(result: Result) -> str:
    """What a time is of: "ns a row"."""
    unit = result.case.unit
    return f"{result.case.time_unit} {'an' if unit[0] in 'aeiou' else 'a'} {unit}"


def in_unit(result: Result, nanoseconds: float) -> float:
    """A time in that unit."""
    return nanoseconds / NANOSECONDS[result.case.time_unit]


def of_case(results: Sequence[Result]) -> str:
    """A line for each way, by the time of the first operation; the operations are beside each other."""
    heads = [f"{OPERATIONS.get(result.operation, result.operation):^40}" for result in results]
    columns = [f"{unit_of(result):>11}{'middle half':>20}{'factor':>8}" for result in results]
    rows = [("", *heads), ("way", *columns)]
    for name in sorted(results[0].times, key=results[0].times.__getitem__):
        rows.append((name, *(_cells(result, name) for result in results)))
    if any(result.limit for result in results):
        rows.append((LIMIT, *(_line(result, result.limit, "") for result in results)))
    lines = ["  ".join([f"{name:16}", *(f"{cells:40}" for cells in rest)]).rstrip() for name, *rest in rows]
    return "\n".join([str(results[0].case), *lines, ""])


def _cells(result: Result, name: str) -> str:
    if name not in result.times:
        return f"{'-':>11}"
    spread = " .. ".join(number(in_unit(result, value)) for value in result.spreads.get(name, ()))
    text = _line(result, result.times[name], "once" if result.repeats.get(name) == 1 else spread)
    return f"{text}*" if name == result.best else text


def _line(result: Result, time: float, spread: str) -> str:
    return f"{number(in_unit(result, time)):>11}{spread:>20}{number(time / result.times[OURS]):>8}"


def notes(results: Sequence[Result]) -> str:
    """What the columns mean, and which ways were left out, and why."""
    lines = ["Times are medians, with the middle half of all repeats; factor: over that of sparseacc; *: fastest."]
    if any(result.limit for result in results):
        lines.append(f"{LIMIT}: about the least that it needs to move the data, or to multiply and add.")
    reasons: dict[str, dict[str, None]] = {}
    for result in results:
        for name, why in result.left_out.items():
            reasons.setdefault(why, {})[name] = None
    lines += [f"Left out, {why}: {', '.join(names)}." for why, names in reasons.items()]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)
