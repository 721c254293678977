"""Polynomials of CuPy arrays: the numbers of the CPU, for every kernel that there is."""

import numpy as np
import pytest

from sparseacc import Polynomial, symmetric_contraction

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
from device import MARKS  # noqa: E402 - where there is CuPy

pytestmark = MARKS

CONTRACTIONS = [
    symmetric_contraction("3x0e + 3x1o", "3x0e + 3x1o", 3),
    symmetric_contraction("40x0e + 40x1o", "40x0e", 2),
]


def on_device(*arrays):
    return [None if array is None else cupy.asarray(array) for array in arrays]


def check(found, expected, dtype):
    for a, b in zip(found, expected):
        assert (a is None) == (b is None)
        if a is not None:
            assert isinstance(a, cupy.ndarray)
            assert a.dtype == b.dtype
            scale = 200 * np.finfo(dtype).eps
            np.testing.assert_allclose(
                cupy.asnumpy(a).astype(float), b.astype(float), rtol=scale, atol=scale * abs(b).max()
            )


@pytest.mark.parametrize("polynomial", CONTRACTIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shared", [False, True])
def test_values_and_derivatives_are_those_of_the_cpu(polynomial, dtype, shared):
    rng, (n_in, n_out), channels = np.random.default_rng(0), polynomial.shape, polynomial.channels
    shapes = (7, n_in, channels), (3, polynomial.num_paths, 1 if shared else channels), (7, n_out, channels)
    x, w, dy, zx, zw = (rng.normal(size=shapes[i]).astype(dtype) for i in (0, 1, 2, 0, 1))
    rows = np.array([2, 0, 0, 2, 2, 0, 2])  # no atom has row 1
    given = {"rows_of_weights": rows}
    check([polynomial(*on_device(x, w), **given)], [polynomial(x, w, **given)], dtype)
    for wrt in (0, 1, (0, 1)):
        found = polynomial.vjp(*on_device(dy, x, w), rows_of_weights=cupy.asarray(rows), wrt=wrt)
        check(found, polynomial.vjp(dy, x, w, wrt=wrt, **given), dtype)
    for z in ((zx, None), (None, zw), (zx, zw)):
        for wrt in (0, (1, 2), (0, 1, 2)):
            found = polynomial.vjp_vjp(*on_device(*z, dy, x, w), wrt=wrt, **given)
            check(found, polynomial.vjp_vjp(*z, dy, x, w, wrt=wrt, **given), dtype)


def test_layouts():
    polynomial, rng = CONTRACTIONS[0], np.random.default_rng(0)
    x, w = rng.normal(size=(6, 3, 4)), rng.normal(size=(3, polynomial.num_paths))
    check([polynomial(*on_device(x, w), axis=-1)], [polynomial(x, w, axis=-1)], np.float64)
    a, b = on_device(x, w)
    check([polynomial(a[::-1], b, axis=-1)], [polynomial(x[::-1], w, axis=-1)], np.float64)
    memory = cupy.zeros(x.nbytes + 1, np.uint8)
    memory[1:] = a.view(np.uint8).ravel()
    check(
        [polynomial(memory[1:].view(np.float64).reshape(x.shape), b, axis=-1)], [polynomial(x, w, axis=-1)], np.float64
    )
    out = cupy.empty_like(a)
    assert polynomial(a, b, axis=-1, out=out) is out
    check([out], [polynomial(x, w, axis=-1)], np.float64)


@pytest.mark.parametrize("n_in", [5, 50, 500])
def test_components_are_kept_where_they_fit(n_in):
    """In shared memory of several atoms, of one, or in local memory; with products of up to three of them."""
    rng = np.random.default_rng(0)
    terms = [
        (rng.integers(0, n_in, (nnz, degree)), rng.integers(0, 3, nnz), rng.integers(0, 4, nnz), rng.normal(size=nnz))
        for degree, nnz in ((1, 3), (2, 7), (3, 7), (4, 9))
    ]
    polynomial = Polynomial(terms, (n_in, 3), num_paths=4)
    x, zx, w, dy = (rng.normal(size=(n, m, 2)) for n, m in ((5, n_in), (5, n_in), (2, 4), (5, 3)))
    rows = {"rows_of_weights": np.array([0, 1, 1, 1, 0])}
    check([polynomial(*on_device(x, w), **rows)], [polynomial(x, w, **rows)], np.float64)
    arrays = zx, w[::-1], dy, x, w
    check(polynomial.vjp(*on_device(dy, x, w), **rows), polynomial.vjp(dy, x, w, **rows), np.float64)
    check(polynomial.vjp_vjp(*on_device(*arrays), **rows), polynomial.vjp_vjp(*arrays, **rows), np.float64)


def test_many_atoms_are_cut_in_the_same_way_every_time():
    polynomial, rng = CONTRACTIONS[0], np.random.default_rng(0)
    x, w = rng.normal(size=(300, 4, 3)), rng.normal(size=(2, polynomial.num_paths, 3))
    rows = rng.integers(2, size=300)
    found = [polynomial.vjp(*on_device(x, x, w), rows_of_weights=rows) for _ in range(2)]
    check(found[0], polynomial.vjp(x, x, w, rows_of_weights=rows), np.float64)
    assert all(bool((a == b).all()) for a, b in zip(*found))


def test_nothing_to_compute():
    polynomial = CONTRACTIONS[0]
    x, w = cupy.zeros((0, 4, 3)), cupy.zeros((polynomial.num_paths, 3))
    assert polynomial(x, w).shape == (0, 4, 3)
    dx, dw = polynomial.vjp(x, x, w)
    assert dx.shape == x.shape
    assert not dw.any()


def test_a_host_array_among_those_of_a_device_is_refused():
    polynomial = CONTRACTIONS[0]
    with pytest.raises(ValueError, match="weights is not on the device"):
        polynomial(cupy.zeros((2, 4, 3)), np.zeros((polynomial.num_paths, 3)))
