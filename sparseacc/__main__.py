"""The command line: ``python -m sparseacc`` runs the main job, ``info`` tells what is installed, ``bench`` compares."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import metadata

from . import cpu
from .bench.command import KINDS, others, run
from .cpu._kernel import lib
from .cpu.threads import VARIABLE, get_num_threads
from .extras import how_to_install
from .version import __version__

OPTIONAL = ("scipy", "ml_dtypes", "cupy", "torch", "jax")


def job(arguments: argparse.Namespace) -> int:
    """Runs the main job; 1 if a check fails or it cannot run."""
    from . import demo

    try:
        return 0 if demo.run() else 1
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def bench(arguments: argparse.Namespace) -> int:
    """Times what is computed here beside other ways; 1 if it cannot."""
    a = arguments
    try:
        run(a.case, a.full, a.against, a.dtype, a.plot, a.json, a.from_json)
    except BrokenPipeError:
        raise
    except (ArithmeticError, ModuleNotFoundError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def info(arguments: argparse.Namespace) -> int:
    """Prints versions, the instruction set, threads and devices."""
    print(f"sparseacc        {__version__}")
    print(f"python           {platform.python_version()} ({platform.python_implementation()})")
    for package in ("numpy", "cffi"):
        print(f"{package:16} {metadata.version(package)}")
    for package in OPTIONAL:
        print(f"{package:16} {_version(package)} (optional)")
    print(f"machine          {platform.machine()}, {platform.system()}")
    gpus, why_none = _gpus()
    print(f"devices          {', '.join(['CPU', *gpus])}")
    if not gpus:
        print(f"cuda             no device: {why_none}")
    print(f"instruction set  {cpu.instruction_set()} (of {', '.join(cpu.instruction_sets())})")
    straight = lib.sa_straights()
    print(f"straight-line    {f'{straight} operations of common rules' if straight else 'left out of this build'}")
    print(f"threads          {get_num_threads()} ({VARIABLE} is {os.environ.get(VARIABLE) or 'not set'})")
    return 0


def _version(package: str) -> str:
    names = [package] if package != "cupy" else ["cupy-cuda12x", "cupy-cuda13x", "cupy"]
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return "not installed"


def _gpus() -> tuple[list[str], str]:
    """What CuPy finds, and why there is none."""
    try:
        import cupy
    except ModuleNotFoundError:
        return [], f"CuPy is not installed: {how_to_install('cuda12')}, or cuda13"
    except ImportError as error:
        return [], f"CuPy cannot be imported: {_one_line(error)}"
    runtime = cupy.cuda.runtime
    try:
        names = [runtime.getDeviceProperties(n)["name"].decode() for n in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError as error:  # no driver, or no device
        return [], f"CuPy says {_one_line(error)}"
    return names, "CuPy finds none"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Those of bench."""
    ways = "; ".join(f"{case}: {others(case)}" for case in KINDS)
    parser.add_argument(
        "--case",
        choices=list(KINDS),
        default="product",
        help="Clebsch-Gordan products (the default); layers of message passing; or energies and forces of models of "
        "MACE, NequIP and SevenNet before and after sparseacc.torch.accelerate",
    )
    parser.add_argument("--against", metavar="NAME[,NAME]", help=f"only these ways beside ours. Of {ways}")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="some cases (the default)")
    length.add_argument("--full", action="store_true", help="all cases and all ways: some ten minutes")
    parser.add_argument("--plot", metavar="FILE", help="draw the times (needs matplotlib)")
    parser.add_argument("--json", metavar="FILE", help="write medians, quartiles, the machine and the versions")
    parser.add_argument("--from-json", metavar="FILE", help="show, and draw, what --json wrote; nothing is timed")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sparseacc",
        description="Sparse accumulation and Clebsch-Gordan products on arrays.",
        epilog="Without a command: energies and forces of 22 molecular complexes by a model of two layers of message "
        "passing; checks that they turn with the molecules and are each other's gradient, and times the layers beside "
        "NumPy. It needs scipy.",
    )
    parser.add_argument("--version", action="version", version=f"sparseacc {__version__}")
    parser.set_defaults(run=job)
    commands = parser.add_subparsers(metavar="command", title="commands")
    commands.add_parser("info", help="versions, instruction set, threads, devices").set_defaults(run=info)
    bench_parser = commands.add_parser(
        "bench",
        help="times products, layers and models beside NumPy, C, and numba, PyTorch, JAX and e3nn where there are any",
        description="Prints a table for each case. What each way computes is compared with double precision first. It "
        "takes less than a minute.",
    )
    _add_options(bench_parser)
    bench_parser.set_defaults(run=bench)
    parsed = parser.parse_args(arguments)
    try:
        status = int(parsed.run(parsed))
        print(end="", flush=True)
    except BrokenPipeError:  # who read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at exit
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
