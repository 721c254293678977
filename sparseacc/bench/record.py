"""Writes measurements with what they depend on: the machine, the versions, the day."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

from .. import cpu
from ..version import __version__

LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "torch",
    "jax",
    "e3nn",
    "e3nn_jax",
    "mace",
    "nequip",
    "sevenn",
    "cuequivariance",
    "mops",
    "dask",
    "distributed",
    "zarr",
)


def made(**figures: Any) -> dict[str, Any]:
    """The figures, in four digits, after what they were measured on."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in LIBRARIES}
    versions = {name: version for name, version in loaded.items() if version}
    data = {
        "date": date.today().isoformat(),
        "machine": _machine(),
        "versions": {"sparseacc": __version__, "python": platform.python_version()} | versions,
    } | figures
    rounded: dict[str, Any] = json.loads(json.dumps(data), parse_float=lambda digits: float(f"{float(digits):.4g}"))
    return rounded


def write(file: str, **figures: Any) -> None:
    """Writes what `made` makes as JSON; an element of a list is a line."""
    save(file, made(**figures))


def save(file: str, data: dict[str, Any]) -> None:
    """Writes it as JSON; an element of a list is a line."""
    parts = [f" {json.dumps(name)}: {_lines(value)}" for name, value in data.items()]
    Path(file).write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read(file: str) -> dict[str, Any]:
    """What `python -m sparseacc bench --json` wrote.

    Raises
    ------
    ValueError
        If it holds something else.
    """
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
        results = data["beside"]
    except (ValueError, TypeError, KeyError):
        results = None
    if not results:
        raise ValueError(f"{file!r} does not hold what `python -m sparseacc bench --json FILE` writes")
    return dict(data)


def _lines(value: Any) -> str:
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(element)}" for element in value) + "\n ]"


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "instruction_set": cpu.instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """As Linux calls it. Virtual machines hide the name, but not the numbers."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    first = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in first.items()}
    numbers = ", ".join(f"{name} {named[name]}" for name in ("cpu family", "model") if name in named)
    return f"{named.get('model name', platform.machine())} ({numbers})"


def _caches() -> dict[str, str]:
    """Sizes of the first processor's caches, by level, where Linux tells them."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            sizes[f"L{level}"] = f"{int(size[:-1])} KB" if size.endswith("K") else size
    return sizes
