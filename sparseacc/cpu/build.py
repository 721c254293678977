"""Describes the C extension to cffi, which setuptools calls at install (setup.py, cffi_modules)."""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from cffi import FFI

here = Path(__file__).parent
native = here / "native"
SANITIZE = os.environ.get("SPARSEACC_SANITIZE")
"""What the compiler's -fsanitize takes, such as "address,undefined" or "thread"."""
# Without it a build takes seconds instead of minutes, and common rules run by the loop that every rule has.
STRAIGHT = os.environ.get("SPARSEACC_STRAIGHT", "0" if SANITIZE else "1") != "0"
sanitized = (
    [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-O1", "-g", "-fno-omit-frame-pointer"] if SANITIZE else []
)
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-pthread", "-g0", "-fexceptions"]
"""No -march: each isa_*.h names its instruction set, and run.c chooses. No contraction: vector.h says why. Debugging
information on all the inlined code would be ten times the code. Torch's exceptions pass through torch.c."""
written = here.parents[1] / "build" / ("native" if STRAIGHT else "native_without_straight_line_code")
"""Where the C goes that is written here, outside of the sources."""
KERNEL = """\
#define SA_ISA {isa}
#define SA_REAL_BITS {bits}
#include "isa_{isa}.h"
#ifdef SA_BITS /* else it is not for this architecture */
#include "body.h"
#include "messages.h"
#include "polynomial.h"
SA_ISA_END
#endif
"""
"""The kernel for one instruction set and one computation type."""


def read(*names: str) -> list[Any]:
    """Modules of the package, which cannot be imported itself before it is built: others stand for those of it."""
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "sparseacc"}
    try:
        for name, folder in (("sparseacc", here.parent), ("sparseacc.cpu", here)):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(folder)]
        return [import_module(f"sparseacc.{name}") for name in names]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "sparseacc"]:
            del sys.modules[name]
        sys.modules.update(before)


def straight_line_code() -> Iterator[Any]:
    """The product, gradient and double backward of all couplings up to l = 5."""
    for degrees in racah.couplings(straight.DEGREE):
        terms = sorted(racah.real_terms(*degrees, 1))
        lengths = [2 * degree + 1 for degree in degrees]
        mu, m1, m2 = ([term[i] + lengths[column] // 2 for term in terms] for i, column in enumerate((2, 0, 1)))
        for operation in (algebra.FORWARD, algebra.VJP, algebra.VJP_VJP):
            outputs = range(len(operation.outputs))
            code, _ = instructions.products(operation, outputs, (m1, m2, mu), [term[3] for term in terms])
            yield straight.Straight(
                "_".join(map(str, (operation.name, *degrees))),
                code,
                [lengths[column] for _, column in operation.inputs],
                [lengths[column] for column in operation.outputs],
            )


def shapes_of_paths() -> Iterator[list[tuple[int, int]]]:
    """Those of all couplings up to l = 3."""
    for l1, l2, l3 in racah.couplings(paths.DEGREE):
        yield sorted({(mu + l3, m1 + l1) for mu, m1, _, _ in racah.real_terms(l1, l2, l3, 1)})


def write(name: str, text: str) -> None:
    """A file of C, unless it is there already: what depends on it is compiled again when it is newer."""
    path = written / name
    written.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def relative(paths: Iterable[Path]) -> list[str]:
    """As setuptools wants them, from where setup.py is."""
    return sorted(path.relative_to(here.parents[1]).as_posix() for path in paths)


algebra, racah, instructions, paths, straight = read(
    "algebra", "racah", "cpu.instructions", "cpu.paths", "cpu.straight"
)
functions, shapes = (list(straight_line_code()), list(shapes_of_paths())) if STRAIGHT else ([], [])
write("straight_table.h", straight.table(functions))
write("straight_bodies.h", straight.bodies(functions))
write("path_table.h", paths.table(shapes))
write("path_bodies.h", paths.bodies(shapes))
kernels = []
for isa in sorted(native.glob("isa_*.h")):
    for real, bits in (("float", 32), ("double", 64)):
        kernels.append(written / f"{isa.stem}_{real}.c")
        write(kernels[-1].name, KERNEL.format(isa=isa.stem.removeprefix("isa_"), bits=bits))

ffibuilder = FFI()
for header in ("sparseacc.h", "xla.h", "torch.h"):
    ffibuilder.cdef((native / header).read_text().split("/* cffi begins */")[1].split("/* cffi ends */")[0])
for name in ("sa_xla_first", "sa_xla_pass"):
    ffibuilder.cdef(f'extern "Python+C" int {name}(sa_xla_frame *, char *message, int64_t size);')
ffibuilder.set_source(
    "sparseacc.cpu._kernel",
    '#include "sparseacc.h"\n#include "xla.h"\n#include "torch.h"',
    sources=relative([*native.glob("*.c"), *kernels]),
    include_dirs=relative([native, written]),
    depends=relative([*native.glob("*.h"), *written.glob("*.h")]),
    extra_compile_args=[*FLAGS, *sanitized],
    extra_link_args=["-pthread", "-lm", *sanitized],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
