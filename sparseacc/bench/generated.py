"""C written for one rule and compiled for this machine, as somebody would who has one rule and a compiler.

Every output is one expression of all its terms. Rows are along the vector lanes: with the active axis last, sixteen
rows are first copied to columns.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..rule import Rule

# What -ffast-math has, in pieces: as a whole it makes the library flush subnormal numbers in all of the process.
FAST = ("-fno-math-errno", "-ffinite-math-only", "-fno-signed-zeros", "-fno-trapping-math", "-fassociative-math")
FLAGS = ("-O3", "-march=native", *FAST, "-fopenmp", "-shared", "-fPIC")
_LANES = 16


def compiled(rule: Rule, middle: bool, dtype: Any) -> Any:
    """A library with the functions `product` and `gradients` of float32 or float64, and the means to call it.

    Raises
    ------
    ImportError
        If there is no compiler, or it fails.
    """
    import cffi

    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImportError("there is no C compiler")
    columns = (rule.m1, rule.m2, rule.mu)
    functions = (("product", ("x1", "x2"), ("y",)), ("gradients", ("y", "x1", "x2"), ("dx1", "dx2")))
    texts = [_function(name, inputs, outputs, columns, rule, middle) for name, inputs, outputs in functions]
    real = f"typedef {'float' if dtype == np.float32 else 'double'} real;\n"
    ffi = cffi.FFI()
    ffi.cdef(real + "".join(text.partition("\n")[0] + ";" for text in texts))
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "rule.c", Path(folder) / "rule.so"
        source.write_text(real + "\n".join(texts))
        finished = subprocess.run([compiler, *FLAGS, source, "-o", library], capture_output=True, text=True)
        if finished.returncode:
            raise ImportError(f"the C compiler failed: {finished.stderr[:200]}")
        return ffi, ffi.dlopen(str(library))


_AXIS = {"x1": 0, "x2": 1, "y": 2, "dx1": 0, "dx2": 1}


def _function(
    name: str, inputs: Sequence[str], outputs: Sequence[str], columns: Sequence[Array], rule: Rule, middle: bool
) -> str:
    arguments = [f"const real *restrict {x}" for x in inputs] + [f"real *restrict {x}" for x in outputs]
    sizes = {x: rule.shape[_AXIS[x]] for x in (*inputs, *outputs)}
    lines = [f"void {name}({', '.join(arguments)}, long batch, long channels)", "{"]
    if middle:
        place = {x: f"{x}[(r * {n} + {{}}) * channels + v]" for x, n in sizes.items()}
        lines += ["#pragma omp parallel for if (batch * channels > 4096)", "for (long r = 0; r < batch; r++) {"]
        lines += ["#pragma omp simd", "for (long v = 0; v < channels; v++) {"]
        lines += [*_sums(inputs, outputs, columns, rule.C, place), "} }", "}"]
        return "\n".join(lines)
    place = {x: f"t_{x}[{{}}][v]" for x in sizes}
    lines += ["#pragma omp parallel for if (batch > 4096)", f"for (long r = 0; r < batch; r += {_LANES}) {{"]
    lines += [f"const long n = batch - r < {_LANES} ? batch - r : {_LANES};"]
    lines += [f"real t_{x}[{n}][{_LANES}] = {{{{0}}}};" for x, n in sizes.items()]
    each = "for (long v = 0; v < n; v++) for (long m = 0; m < {n}; m++)"
    lines += [f"{each.replace('{n}', str(sizes[x]))} t_{x}[m][v] = {x}[(r + v) * {sizes[x]} + m];" for x in inputs]
    lines += [f"for (long v = 0; v < {_LANES}; v++) {{", *_sums(inputs, outputs, columns, rule.C, place), "}"]
    lines += [f"{each.replace('{n}', str(sizes[x]))} {x}[(r + v) * {sizes[x]} + m] = t_{x}[m][v];" for x in outputs]
    return "\n".join([*lines, "} }"])


def _sums(
    inputs: Sequence[str], outputs: Sequence[str], columns: Sequence[Array], C: Array, place: dict[str, str]
) -> list[str]:
    lines = []
    for output in outputs:
        a, b = (x for x in inputs if _AXIS[x] != _AXIS[output])
        sums: dict[int, list[str]] = defaultdict(list)
        for *indices, c in zip(*(columns[_AXIS[x]].tolist() for x in (output, a, b)), C.tolist(), strict=True):
            out, i, j = indices
            sums[out].append(f"(real){c!r} * {place[a].format(i)} * {place[b].format(j)}")
        lines += [f"{place[output].format(out)} = {' + '.join(terms)};" for out, terms in sums.items()]
    return lines
