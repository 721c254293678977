"""Polynomials in JAX: values, derivatives to any order, jit and vmap."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import sparseacc.jax  # noqa: E402
from sparseacc import symmetric_contraction  # noqa: E402
from sparseacc.jax import polynomial  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

CONTRACTION = symmetric_contraction("2x0e + 2x1o", "2x0e + 2x1o", 3)
ROWS = np.array([0, 2, 1, 0, 0])


def arrays(dtype=np.float64):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=size).astype(dtype) for size in ((5, 4, 2), (3, CONTRACTION.num_paths, 2)))


def value(x, weights):
    return polynomial(CONTRACTION, x, weights, rows_of_weights=ROWS)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_numbers_are_numpys(dtype):
    x, weights = (jnp.asarray(a).astype(dtype) for a in arrays())
    out = jax.jit(value)(x, weights)
    assert out.dtype == dtype
    expected = CONTRACTION(np.asarray(x), np.asarray(weights), rows_of_weights=ROWS)
    assert np.array_equal(np.asarray(out), expected)


def test_derivatives_to_the_fourth_order():
    x, weights = (0.3 * a for a in arrays())
    dy = np.random.default_rng(1).normal(size=(5, 4, 2))
    found = jax.vjp(value, x, weights)[1](dy)
    for a, b in zip(found, CONTRACTION.vjp(dy, x, weights, rows_of_weights=ROWS)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    energy = lambda x, weights: jnp.sin(value(x, weights)).sum()  # noqa: E731
    loss = lambda x, weights: jnp.square(jax.grad(energy)(x, weights)).sum()  # noqa: E731
    again = lambda x, weights: sum(jnp.square(g).sum() for g in jax.grad(loss, (0, 1))(x, weights))  # noqa: E731
    for function in (energy, loss, again):
        check_grads(jax.jit(function), (x, weights), order=1, modes=["rev"], rtol=1e-5)


def test_samples_side_by_side():
    x, weights = arrays()
    many = np.stack([x, 2 * x, x[::-1]])
    one_by_one = np.stack([value(each, weights) for each in many])
    assert np.array_equal(jax.vmap(value, (0, None))(many, weights), one_by_one)
    gradient = jax.vmap(jax.grad(lambda x: value(x, weights).sum()))(many)
    expected = np.stack([jax.grad(lambda x: value(x, weights).sum())(each) for each in many])
    assert np.array_equal(gradient, expected)


def test_batches_and_axes_as_in_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 2))
    for of_weights in ((), (3,), (2, 1)):
        weights = rng.normal(size=(*of_weights, CONTRACTION.num_paths, 2))
        expected = CONTRACTION(x, weights)
        assert np.array_equal(polynomial(CONTRACTION, x, weights), expected)
        last = polynomial(CONTRACTION, x.swapaxes(-1, -2), weights.swapaxes(-1, -2), axis=-1)
        assert np.array_equal(last.swapaxes(-1, -2), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"polynomial": 3}, TypeError, r"polynomial must be a sparseacc\.Polynomial, not int"),
        ({"x": None}, TypeError, "x is None"),
        ({"x": np.ones((5, 4, 2), complex)}, TypeError, "not computed of complex numbers"),
        ({"x": np.ones((5, 3, 2))}, ValueError, "x has length 3 along axis -2, but the polynomial needs 4"),
        ({"weights": np.ones((3, 2, 2))}, ValueError, "weights has length 2 along axis -2"),
        ({"weights": np.ones((3, CONTRACTION.num_paths, 3))}, ValueError, "weights has 3 channels and x 2"),
        ({"axis": 0}, ValueError, "axis is 0, but components are"),
        ({"rows_of_weights": ROWS * 1.0}, TypeError, "rows_of_weights must hold integers"),
        ({"rows_of_weights": ROWS + 2**32}, Exception, r"rows_of_weights\[0\] is 4294967296, but weights has 3 rows"),
        ({"rows_of_weights": ROWS[:3]}, ValueError, "rows_of_weights has the shape"),
        ({"rows_of_weights": ROWS + 1}, Exception, r"rows_of_weights\[1\] is 3, but weights has 3 rows"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    x, weights = arrays()
    given = {"polynomial": CONTRACTION, "x": x, "weights": weights, "rows_of_weights": ROWS} | change
    with pytest.raises(error, match=message):
        sparseacc.jax.polynomial(
            given.pop("polynomial"), given.pop("x"), given.pop("weights"), **given
        ).block_until_ready()
