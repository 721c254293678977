"""Describes the C extension to cffi, which setuptools calls at install (setup.cfg, cffi_modules)."""

from pathlib import Path

from cffi import FFI

here = Path(__file__).parent
header = (here / "sparseacc.h").read_text()

ffibuilder = FFI()
ffibuilder.cdef(header.split("/* cffi begins */")[1].split("/* cffi ends */")[0])
ffibuilder.set_source(
    "sparseacc.cpu._kernel",
    '#include "sparseacc.h"',
    sources=[f"sparseacc/cpu/{name}.c" for name in ("run", "threads", "isa_baseline", "isa_avx2", "isa_avx512")],
    include_dirs=["sparseacc/cpu"],
    depends=[f"sparseacc/cpu/{path.name}" for path in sorted(here.glob("*.h"))],
    # No -march: each isa_*.c names its instruction set, and run.c chooses. No contraction: vector.h says why.
    extra_compile_args=["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-pthread"],
    extra_link_args=["-pthread"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
