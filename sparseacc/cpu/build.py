"""Describes the C extension to cffi, which setuptools calls at install (setup.py, cffi_modules)."""

import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cffi import FFI

here = Path(__file__).parent


def read(path: str) -> SimpleNamespace:
    """A module of the package, which cannot be imported before it is built."""
    return SimpleNamespace(**runpy.run_path(str(here.parent / path)))


def straight_line_code() -> Iterator[Any]:
    """The product, gradient and double backward of all couplings up to l = 5."""
    operations, instructions, racah = read("operations.py"), read("cpu/instructions.py"), read("racah.py")
    for degrees in racah.couplings(straight.DEGREE):
        terms = sorted(racah.real_terms(*degrees, 1))
        lengths = [2 * degree + 1 for degree in degrees]
        mu, m1, m2 = ([term[i] + lengths[column] // 2 for term in terms] for i, column in enumerate((2, 0, 1)))
        for operation in (operations.FORWARD, operations.VJP, operations.VJP_VJP):
            outputs = range(len(operation.outputs))
            code, _ = instructions.products(operation, outputs, (m1, m2, mu), [term[3] for term in terms])
            yield straight.Straight(
                "_".join(map(str, (operation.name, *degrees))),
                code,
                [lengths[column] for _, column in operation.inputs],
                [lengths[column] for column in operation.outputs],
            )


def write(name: str, text: str) -> None:
    """A header, unless it is there already: what depends on it is compiled again when it is newer."""
    path = here / name
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


straight = read("cpu/straight.py")
# Without it a build takes seconds instead of minutes, and common rules run by the loop that every rule has.
functions = [] if os.environ.get("SPARSEACC_STRAIGHT") == "0" else list(straight_line_code())
write("straight_table.h", straight.table(functions))
write("straight_bodies.h", straight.bodies(functions))

ffibuilder = FFI()
for header in ("sparseacc.h", "xla.h", "torch.h"):
    ffibuilder.cdef((here / header).read_text().split("/* cffi begins */")[1].split("/* cffi ends */")[0])
ffibuilder.cdef('extern "Python+C" int sa_xla_first(sa_xla_frame *, char *message, int64_t size);')
ffibuilder.set_source(
    "sparseacc.cpu._kernel",
    '#include "sparseacc.h"\n#include "xla.h"\n#include "torch.h"',
    sources=[f"sparseacc/cpu/{path.name}" for path in sorted(here.glob("[!_]*.c"))],
    include_dirs=["sparseacc/cpu"],
    depends=[f"sparseacc/cpu/{path.name}" for path in sorted(here.glob("*.h"))],
    # No -march: each isa_*.h names its instruction set, and run.c chooses. No contraction: vector.h says why. Debugging
    # information on all the inlined code would be ten times the code. Torch's exceptions pass through torch.c.
    extra_compile_args=["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-pthread", "-g0", "-fexceptions"],
    extra_link_args=["-pthread", "-lm"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
