"""The command line: ``python -m sparseacc`` runs the main job, ``python -m sparseacc info`` tells what is installed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import metadata

from . import __version__, cpu, get_num_threads
from .cpu.threads import VARIABLE

OPTIONAL = ("scipy", "ml_dtypes")


def info() -> None:
    """Prints versions, the instruction set, threads and devices."""
    print(f"sparseacc        {__version__}")
    print(f"python           {platform.python_version()}, {platform.system()} {platform.machine()}")
    for package in ("numpy", "cffi", *OPTIONAL):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "not installed (optional)"
        print(f"{package:16} {version}")
    print("devices          CPU")
    print(f"instruction set  {cpu.instruction_set()} (of {', '.join(cpu.instruction_sets())})")
    print(f"threads          {get_num_threads()} ({VARIABLE} is {os.environ.get(VARIABLE) or 'not set'})")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sparseacc", description="Sparse accumulation on arrays.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("info", help="versions, instruction set, threads, devices")
    parser.epilog = "Without a command: couples the neighbour densities of real molecules, and checks and times that."
    if parser.parse_args(arguments).command == "info":
        info()
        return 0
    from . import demo

    try:
        return 0 if demo.run() else 1
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
