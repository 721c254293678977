"""Polynomials of CuPy arrays of one real dtype: tables of what is multiplied, read by every thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import cupy
import numpy as np

from ..calls.arrays import Array
from ..calls.dtypes import computed_in
from ..calls.plans import Cache
from ..monomials import PolynomialTerms
from ..schedule.polynomials import Program, Sparse, scheduled
from . import geometry
from .execution import in_bytes, is_aligned
from .polynomial_code import Evaluation, evaluation_code, sums_code
from .source import OPTIONS, Source

_ATOMS_OF_UNIT, _MOST_UNITS, _MOST_BYTES = 64, 2**10, 2**28
"""Atoms with one row of weights that a thread goes through, where there are enough; units in which all are cut for
that, and bytes of the gradients of coefficients, of which each unit has its own."""


_MOST_BLOCKS = 65535
"""Along the second dimension of a grid."""


class _Loaded(NamedTuple):
    """A polynomial's tables on one device, for one dtype."""

    code: Any
    coefs: tuple[Any, ...]
    paths: tuple[Any, ...]
    nbytes: int


def _on_device(sums: Sparse, real: np.dtype[Any]) -> tuple[Any, ...]:
    return tuple(map(cupy.asarray, (sums.begin, sums.column, sums.value.astype(real))))


def _code(made: Program, n_out: int) -> Array:
    """What threads read: for each mu the number of nodes; for each node its first coefficient, how many factors it has
    and how many components complete it, and which.
    """
    heads, lengths, coef = [], [], 0
    for p, _, terms in made.nodes:
        first = coef + np.cumsum(1 + terms) - (1 + terms)
        coef += len(terms) + terms.sum()
        head = np.column_stack([first, np.full(len(p), p.shape[1]), terms, p])
        heads.append(head.ravel())
        lengths.append(np.full(len(p), head.shape[1]))
    mu, terms = (np.concatenate([of[i] for of in made.nodes]) for i in (1, 2))
    row = np.repeat(mu, np.concatenate(lengths) + terms)
    code = made.behind(heads, lengths)[np.argsort(row, kind="stable")]
    numbers = np.bincount(row, minlength=n_out)
    return np.insert(code, np.cumsum(numbers) - numbers, np.bincount(mu, minlength=n_out)).astype(np.int32)


def _loaded(terms: PolynomialTerms, real: np.dtype[Any]) -> _Loaded:
    key = terms._digest, real, int(cupy.cuda.Device().id)
    found = _polynomials.get(key)
    if found is None:
        made = scheduled(terms)
        code = cupy.asarray(_code(made, terms.shape[1]))
        coefs, paths = _on_device(made.coefs, real), _on_device(made.paths, real)
        nbytes = sum(table.nbytes for table in (code, *coefs, *paths))
        found = _polynomials.add(key, _Loaded(code, coefs, paths, nbytes))
        cupy.cuda.get_current_stream().synchronize()  # once for each: other streams may use them next
    return found


_polynomials: Cache[_Loaded] = Cache("polynomials on GPUs", 2**8, 2**26, lambda made: made.nbytes)


def _kernel(key: Hashable, source_of: Callable[[], Source]) -> tuple[Source, Any]:
    """A kernel's source, and the kernel on the current device."""
    key = key, int(cupy.cuda.Device().id)
    found = _kernels.get(key)
    if found is None:
        source = source_of()
        function = cupy.RawModule(code=source.code, options=OPTIONS).get_function(source.name)
        found = _kernels.add(key, (source, function))
    return found


_kernels: Cache[tuple[Source, Any]] = Cache(
    "kernels of polynomials", 2**8, 2**26, lambda kernel: 2**14 + len(kernel[0].code)
)


def _sums(of: tuple[Any, ...], rows: Any, real: np.dtype[Any], channels: int) -> Any:
    """The sums of columns of (rows, columns, channels), or of (rows, columns, 1) for each channel."""
    out = cupy.empty((len(rows), len(of[0]) - 1, channels), real)
    dtype, by_channel = rows.dtype.name, rows.shape[2] > 1
    source, function = _kernel(("sums", dtype, by_channel), lambda: sums_code(dtype, by_channel))
    launch = source.launch(out.size)
    if out.size:
        sizes = map(np.int64, (len(rows), out.shape[1], rows.shape[1], channels))
        function(launch.grid, launch.block, (out, rows, *of, *sizes))
    return out


def contracted(
    terms: PolynomialTerms, arrays: Mapping[str, Any], rows: Array, wanted: tuple[str, ...]
) -> dict[str, Any]:
    """As the CPU's half computes it (cpu/polynomials.py)."""
    arrays = {name: _laid_out(array) for name, array in arrays.items()}
    x, w = arrays["x"], arrays["w"]
    atoms, _, channels = x.shape
    real = computed_in(x.dtype.name)
    made = _loaded(terms, real)
    splits = max(1, min(-(-atoms // (_ATOMS_OF_UNIT * max(1, len(w)))), _MOST_UNITS // max(1, len(w))))
    if "w" in wanted:
        splits = max(1, min(splits, _MOST_BYTES // max(1, len(w) * len(made.coefs[0]) * channels * real.itemsize)))
    units = len(w) * splits
    order = np.argsort(rows, kind="stable")
    begins = np.searchsorted(rows[order], np.arange(len(w) + 1))
    begins = np.append((begins[:-1, None] + np.diff(begins)[:, None] * np.arange(splits) // splits).ravel(), atoms)
    results: dict[str, Any] = {}
    for name in wanted:
        if name == "w":
            results[name] = cupy.zeros((units, len(made.coefs[0]) - 1, channels), real)
        else:
            results[name] = cupy.empty((atoms, terms.shape[name == "out"], channels), x.dtype)
    spec = Evaluation(
        x.dtype.name,
        wanted,
        "zx" in arrays,
        "zw" in arrays,
        *terms.shape,
        len(made.coefs[0]) - 1,
        min(geometry.THREADS, -(-channels // 32) * 32),
    )
    if atoms and channels:
        source, function = _kernel(spec, lambda: evaluation_code(spec))
        given: dict[str, Any] = {"x_rows": x, "zx_rows": arrays.get("zx"), "dout": arrays.get("dout")}
        given["coefs"] = _sums(made.coefs, w, real, channels)
        if "zw" in arrays:
            given["zcoefs"] = _sums(made.coefs, arrays["zw"], real, channels)
        given["code"] = made.code
        given |= {"order": cupy.asarray(order), "begins": cupy.asarray(begins)}
        given["row_of_unit"] = cupy.asarray(np.repeat(np.arange(len(w)), splits))
        given |= {{"out": "out", "x": "dx", "w": "dcoefs"}[name]: array for name, array in results.items()}
        launch = source.launch(units)
        grid = launch.grid[0], min(-(-channels // source.threads), _MOST_BLOCKS)
        sizes = {"units": units, "channels": channels}
        arguments = [given[name] if name in given else np.int64(sizes[name]) for name in source.arguments]
        function(grid, launch.block, tuple(arguments), shared_mem=launch.shared_mem)
    if "w" in results:
        of_units = _sums(made.paths, results["w"], real, channels)
        total = of_units.reshape(len(w), splits, *of_units.shape[1:]).sum(axis=1)
        results["w"] = (total.sum(axis=2, keepdims=True) if w.shape[2] == 1 else total).astype(w.dtype, copy=False)
    return results


def _laid_out(array: Any) -> Any:
    """Contiguous, at a multiple of its size."""
    if not is_aligned(array) and array.size:
        array = in_bytes(array).copy().view(array.dtype)[..., 0]
    return cupy.ascontiguousarray(array)
