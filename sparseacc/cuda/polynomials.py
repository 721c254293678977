"""Polynomials of CuPy arrays of one real dtype: tables of what is multiplied, read by every thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cupy
import numpy as np

from ..calls.arrays import Array
from ..calls.dtypes import computed_in
from ..calls.plans import Cache
from ..monomials import PolynomialTerms
from ..schedule.polynomials import Sparse, scheduled
from .execution import in_bytes, is_aligned
from .polynomial_code import Evaluation, evaluation_code, sums_code
from .source import OPTIONS, Source

_ATOMS_OF_UNIT, _MOST_UNITS, _MOST_BYTES = 64, 2**10, 2**28
"""Atoms with one row of weights that a thread goes through, where there are enough; units in which all are cut for
that, and bytes of the gradients of coefficients, of which each unit has its own."""


class _Loaded(NamedTuple):
    """A polynomial's tables on one device, for one dtype."""

    rows: int
    factors: Any
    code: Any
    coefs: tuple[Any, ...]
    paths: tuple[Any, ...]
    nbytes: int


def _on_device(sums: Sparse, real: np.dtype[Any]) -> tuple[Any, ...]:
    return tuple(map(cupy.asarray, (sums.begin, sums.column, sums.value.astype(real))))


def _loaded(terms: PolynomialTerms, real: np.dtype[Any]) -> _Loaded:
    key = terms._digest, real, int(cupy.cuda.Device().id)
    found = _polynomials.get(key)
    if found is None:
        made = scheduled(terms)
        tables = cupy.asarray(made.factors), cupy.asarray(made.code)
        coefs, paths = _on_device(made.coefs, real), _on_device(made.paths, real)
        nbytes = sum(table.nbytes for table in (*tables, *coefs, *paths))
        found = _polynomials.add(key, _Loaded(made.rows, *tables, coefs, paths, nbytes))
        cupy.cuda.get_current_stream().synchronize()  # once for each: other streams may use them next
    return found


_polynomials: Cache[_Loaded] = Cache("polynomials on GPUs", 2**8, 2**26, lambda made: made.nbytes)


def _function(source: Source) -> Any:
    key = source.code, int(cupy.cuda.Device().id)
    found = _functions.get(key)
    if found is None:
        found = _functions.add(key, cupy.RawModule(code=source.code, options=OPTIONS).get_function(source.name))
    return found


_functions: Cache[Any] = Cache("kernels of polynomials", 2**8, 2**26, lambda function: 2**14)


def _sums(of: tuple[Any, ...], rows: Any, real: np.dtype[Any], channels: int) -> Any:
    """The sums of columns of (rows, columns, channels), or of (rows, columns, 1) for each channel."""
    out = cupy.empty((len(rows), len(of[0]) - 1, channels), real)
    source = sums_code(rows.dtype.name, rows.shape[2] > 1)
    launch = source.launch(out.size)
    if out.size:
        sizes = map(np.int64, (len(rows), out.shape[1], rows.shape[1], channels))
        _function(source)(launch.grid, launch.block, (out, rows, *of, *sizes))
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
    results: dict[str, Any] = {}
    for name in wanted:
        if name == "w":
            results[name] = cupy.zeros((units, len(made.coefs[0]) - 1, channels), real)
        else:
            results[name] = cupy.empty((atoms, terms.shape[name == "out"], channels), x.dtype)
    spec = Evaluation(
        x.dtype.name, wanted, "zx" in arrays, "zw" in arrays, *terms.shape, made.rows, len(made.coefs[0]) - 1, channels
    )
    if atoms and channels:
        source = evaluation_code(spec)
        given: dict[str, Any] = {name: arrays[name] for name in ("x", "dout", "zx") if name in arrays}
        given["coefs"] = _sums(made.coefs, w, real, channels)
        if "zw" in arrays:
            given["zcoefs"] = _sums(made.coefs, arrays["zw"], real, channels)
        given |= {"code": made.code, "factors": made.factors}
        given |= {"order": cupy.asarray(order), "begins": cupy.asarray(begins)}
        given |= {{"out": "out", "x": "dx", "w": "dcoefs"}[name]: array for name, array in results.items()}
        launch = source.launch(units)
        sizes = {"units": units, "splits": splits, "channels": channels}
        arguments = [given[name] if name in given else np.int64(sizes[name]) for name in source.arguments]
        _function(source)(launch.grid, launch.block, tuple(arguments))
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
