"""Ways to multiply by a rule without this package, as a user of each library would write them.

A way is made for a rule and arrays x1, x2, dy, active along axis 1, which is the last or is followed by channels. It
gives two functions without arguments: the product, and the gradient together with the product that it needs. Libraries
are imported when a way is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..calls.arrays import Array
from ..rule import Rule
from .measuring import OURS, Timed, UnsuitedError


@contextmanager
def default_dtype(dtype: Any) -> Iterator[None]:
    """Modules of PyTorch that are made meanwhile have this dtype."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, np.dtype(dtype).name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def sparseacc(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """The package itself, on NumPy arrays; the gradient with the product."""

    def gradient() -> tuple[Any, Any]:
        rule(x1, x2, axis=1)
        return rule.vjp(dy, x1, x2, axis=1)

    return Timed(lambda: rule(x1, x2, axis=1), gradient)


def numpy_loop(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """A loop over terms."""
    terms = _terms(rule, x1.dtype)

    def product() -> Array:
        out = np.zeros_like(dy)
        for m1, m2, mu, C in terms:
            out[:, mu] += C * x1[:, m1] * x2[:, m2]
        return out

    def gradient() -> tuple[Array, Array]:
        product()
        dx1, dx2 = np.zeros_like(x1), np.zeros_like(x2)
        for m1, m2, mu, C in terms:
            dx1[:, m1] += C * dy[:, mu] * x2[:, m2]
            dx2[:, m2] += C * dy[:, mu] * x1[:, m1]
        return dx1, dx2

    return Timed(product, gradient)


def numpy_matmul(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """The outer product times the dense tensor."""
    dense = rule.to_dense().astype(x1.dtype).reshape(-1, rule.shape[2])

    def product() -> Array:
        outer = (x1[:, :, None] * x2[:, None, :]).reshape(len(x1), -1, *x1.shape[2:])
        result: Array = outer @ dense if x1.ndim == 2 else dense.T @ outer
        return result

    return Timed(product, None)


def numpy_einsum(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """NumPy's einsum with the dense tensor, in the best order."""
    dense = rule.to_dense().astype(x1.dtype)

    def einsum(*arguments: Any) -> Array:
        result: Array = np.einsum(*arguments, dense, optimize=True)
        return result

    def gradient() -> tuple[Array, Array]:
        einsum("ra...,rb...,abc->rc...", x1, x2)
        return einsum("rc...,rb...,abc->ra...", dy, x2), einsum("rc...,ra...,abc->rb...", dy, x1)

    return Timed(lambda: einsum("ra...,rb...,abc->rc...", x1, x2), gradient)


def scipy_sparse(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """The outer product times a sparse matrix."""
    from scipy import sparse

    _rows_only(x1)
    n1, n2, n_out = rule.shape
    pairs = rule.m1.astype(np.int64) * n2 + rule.m2
    matrix = sparse.csr_array((rule.C.astype(x1.dtype), (rule.mu, pairs)), shape=(n_out, n1 * n2))
    return Timed(lambda: (matrix @ (x1[:, :, None] * x2[:, None, :]).reshape(len(x1), -1).T).T, None)


def numba_loop(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """Rows in parallel, terms in a loop, and channels in another where there are some."""
    import numba

    m1, m2, mu, C = rule.m1, rule.m2, rule.mu, rule.C.astype(x1.dtype)
    jit = numba.njit(parallel=True, fastmath=True)

    @jit  # type: ignore[untyped-decorator, unused-ignore]
    def product(x1: Any, x2: Any, out: Any) -> None:
        for r in numba.prange(len(x1)):
            out[r] = 0
            for k in range(len(C)):
                out[r, mu[k]] += C[k] * x1[r, m1[k]] * x2[r, m2[k]]

    @jit  # type: ignore[untyped-decorator, unused-ignore]
    def gradients(dy: Any, x1: Any, x2: Any, dx1: Any, dx2: Any) -> None:
        for r in numba.prange(len(x1)):
            dx1[r] = 0
            dx2[r] = 0
            for k in range(len(C)):
                scaled = C[k] * dy[r, mu[k]]
                dx1[r, m1[k]] += scaled * x2[r, m2[k]]
                dx2[r, m2[k]] += scaled * x1[r, m1[k]]

    @jit  # type: ignore[untyped-decorator, unused-ignore]
    def product_of_channels(x1: Any, x2: Any, out: Any) -> None:
        for r in numba.prange(len(x1)):
            out[r] = 0
            for k in range(len(C)):
                for c in range(x1.shape[2]):
                    out[r, mu[k], c] += C[k] * x1[r, m1[k], c] * x2[r, m2[k], c]

    @jit  # type: ignore[untyped-decorator, unused-ignore]
    def gradients_of_channels(dy: Any, x1: Any, x2: Any, dx1: Any, dx2: Any) -> None:
        for r in numba.prange(len(x1)):
            dx1[r] = 0
            dx2[r] = 0
            for k in range(len(C)):
                for c in range(x1.shape[2]):
                    scaled = C[k] * dy[r, mu[k], c]
                    dx1[r, m1[k], c] += scaled * x2[r, m2[k], c]
                    dx2[r, m2[k], c] += scaled * x1[r, m1[k], c]

    chosen = (product, gradients) if x1.ndim == 2 else (product_of_channels, gradients_of_channels)
    return _to_new_arrays(*chosen, x1, x2, dy)


def generated_c(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """C written for the rule and compiled for this machine, with OpenMP."""
    from .generated import compiled

    ffi, library = compiled(rule, x1.ndim == 3, x1.dtype)
    sizes = len(x1), (x1.shape[2] if x1.ndim == 3 else 1)

    def product(*arrays: Array) -> None:
        library.product(*(ffi.from_buffer("real *", array) for array in arrays), *sizes)

    def gradients(*arrays: Array) -> None:
        library.gradients(*(ffi.from_buffer("real *", array) for array in arrays), *sizes)

    return _to_new_arrays(product, gradients, x1, x2, dy)


def _to_new_arrays(
    product: Callable[..., None], gradients: Callable[..., None], x1: Array, x2: Array, dy: Array
) -> Timed:
    """Of functions that write to arrays which they are given."""

    def forward() -> Array:
        out = np.empty_like(dy)
        product(x1, x2, out)
        return out

    def both() -> tuple[Array, Array]:
        forward()
        dx1, dx2 = np.empty_like(x1), np.empty_like(x2)
        gradients(dy, x1, x2, dx1, dx2)
        return dx1, dx2

    return Timed(forward, both)


def torch_index_add(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """index_add of all the products, with autograd."""
    import torch

    m1, m2, mu = (torch.from_numpy(column.astype(np.int64)) for column in (rule.m1, rule.m2, rule.mu))
    C = torch.from_numpy(rule.C.astype(x1.dtype)).reshape(-1, *[1] * (x1.ndim - 2))

    def product(a: Any, b: Any) -> Any:
        return a.new_zeros(dy.shape).index_add_(1, mu, C * a[:, m1] * b[:, m2])

    return _with_autograd(product, x1, x2, dy)


def torch_matmul(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """The outer product times the dense tensor, with autograd."""
    import torch

    dense = torch.from_numpy(rule.to_dense().astype(x1.dtype).reshape(-1, rule.shape[2]))

    def product(a: Any, b: Any) -> Any:
        outer = (a[:, :, None] * b[:, None, :]).flatten(1, 2)
        return outer @ dense if a.ndim == 2 else dense.T @ outer

    return _with_autograd(product, x1, x2, dy)


def torch_compile(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """torch.compile of the loop over terms."""
    import torch

    return _with_autograd(torch.compile(_unrolled(rule, torch.stack)), x1, x2, dy)


def jax_unrolled(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """jax.jit of the loop over terms."""
    import jax

    return _in_jax(_unrolled(rule, jax.numpy.stack), x1, x2, dy)


def _in_jax(function: Callable[[Any, Any], Any], x1: Array, x2: Array, dy: Array) -> Timed:
    import jax

    if x1.dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    a, b, t = map(jax.numpy.asarray, (x1, x2, dy))
    product = jax.jit(function)

    def both(a: Any, b: Any, t: Any) -> Any:
        y, vjp = jax.vjp(function, a, b)
        return y, vjp(t)

    compiled = jax.jit(both)
    return Timed(lambda: jax.block_until_ready(product(a, b)), lambda: jax.block_until_ready(compiled(a, b, t))[1])


def mops(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """lab-cosmo/mops, with autograd."""
    import torch
    from mops.torch import sparse_accumulation_of_products

    _rows_only(x1)
    order = np.argsort(rule.mu, kind="stable")  # as it needs them
    C = torch.from_numpy(rule.C[order].astype(x1.dtype))
    m1, m2, mu = (torch.from_numpy(column[order].astype(np.int32)) for column in (rule.m1, rule.m2, rule.mu))
    n_out = rule.shape[2]
    return _with_autograd(lambda a, b: sparse_accumulation_of_products(a, b, C, m1, m2, mu, n_out), x1, x2, dy)


def e3nn(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """e3nn's TensorProduct, which compiles itself, with autograd."""
    from e3nn import o3

    _rows_only(x1)
    irreps = f"1x{_degree(rule)}e"
    with default_dtype(x1.dtype):
        product = o3.TensorProduct(
            irreps,
            irreps,
            irreps,
            [(0, 0, 0, "uuu", False)],
            irrep_normalization="component",
            path_normalization="none",
        )
    return _with_autograd(product, x1, x2, dy)


def e3nn_jax(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """jax.jit of e3nn-jax's tensor_product."""
    from e3nn_jax import IrrepsArray, tensor_product

    _rows_only(x1)
    irreps = f"{_degree(rule)}e"

    def product(a: Any, b: Any) -> Any:
        return tensor_product(IrrepsArray(irreps, a), IrrepsArray(irreps, b), filter_ir_out=[irreps]).array

    return _in_jax(product, x1, x2, dy)


def cuequivariance(rule: Rule, x1: Array, x2: Array, dy: Array) -> Timed:
    """The method for CPUs of cuequivariance, with autograd."""
    import cuequivariance as cue
    from cuequivariance_torch import SegmentedPolynomial

    _rows_only(x1)
    if x1.dtype == np.float64:
        raise UnsuitedError("float32 alone")
    irreps = cue.Irreps("SO3", f"{_degree(rule)}")
    product = SegmentedPolynomial(
        cue.descriptors.full_tensor_product(irreps, irreps, irreps).polynomial, method="naive"
    )
    return _with_autograd(lambda a, b: product([a, b])[0], x1, x2, dy)


def _rows_only(x1: Array) -> None:
    if x1.ndim > 2:
        raise UnsuitedError("no channels behind the active axis")


def _degree(rule: Rule) -> int:
    if len(set(rule.shape)) > 1:
        raise UnsuitedError("one coupling in a rule")
    return (rule.shape[0] - 1) // 2


def _with_autograd(product: Callable[[Any, Any], Any], x1: Array, x2: Array, dy: Array) -> Timed:
    import torch

    a, b, t = map(torch.from_numpy, (x1, x2, dy))
    leaf1, leaf2 = (x.clone().requires_grad_() for x in (a, b))
    return Timed(lambda: product(a, b), lambda: torch.autograd.grad(product(leaf1, leaf2), (leaf1, leaf2), t))


def _unrolled(rule: Rule, stack: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    terms = _terms(rule, np.float64)

    def product(a: Any, b: Any) -> Any:
        sums: list[Any] = [0 * a[:, 0]] * rule.shape[2]
        for m1, m2, mu, C in terms:
            sums[mu] = sums[mu] + float(C) * a[:, m1] * b[:, m2]
        return stack(sums, 1)

    return product


def _terms(rule: Rule, dtype: Any) -> list[tuple[int, int, int, Any]]:
    return list(zip(rule.m1.tolist(), rule.m2.tolist(), rule.mu.tolist(), rule.C.astype(dtype), strict=True))


WAYS: dict[str, Callable[[Rule, Array, Array, Array], Timed]] = {
    OURS: sparseacc,
    "NumPy loop": numpy_loop,
    "NumPy matmul": numpy_matmul,
    "NumPy einsum": numpy_einsum,
    "scipy.sparse": scipy_sparse,
    "numba": numba_loop,
    "C for the rule": generated_c,
    "torch index_add": torch_index_add,
    "torch matmul": torch_matmul,
    "torch.compile": torch_compile,
    "jax.jit": jax_unrolled,
    "mops": mops,
    "e3nn": e3nn,
    "e3nn-jax": e3nn_jax,
    "cuequivariance": cuequivariance,
}
COMPILED = ("torch.compile", "jax.jit")
"""Those whose compilation takes long for many terms."""
