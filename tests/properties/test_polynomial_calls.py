"""Polynomials as they are computed: values and derivatives, for any layout, dtype and number of threads."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import PolynomialOracle, check

import sparseacc
from sparseacc import Polynomial, symmetric_contraction

CONTRACTION = symmetric_contraction("3x0e + 3x1o", "3x0e + 3x1o", 3)


@st.composite
def polynomials(draw):
    """Of any sparsity: repeated factors, paths and outputs without terms, degrees left out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_in, n_out, degree, paths = (draw(st.integers(least, most)) for least, most in ((1, 5), (1, 3), (1, 4), (1, 4)))
    terms = []
    for nu in range(1, degree + 1):
        nnz = draw(st.integers(0, 12))
        m = rng.integers(n_in, size=(nnz, nu))
        terms.append((m, rng.integers(n_out, size=nnz), rng.integers(paths, size=nnz), rng.normal(size=nnz)))
    return Polynomial(terms, (n_in, n_out), num_paths=paths)


def arrays(polynomial, atoms, channels, rows, dtype, seed=0, of_weights=None):
    rng = np.random.default_rng(seed)
    sizes = {"x": (atoms, polynomial.shape[0], channels), "dy": (atoms, polynomial.shape[1], channels)}
    sizes["weights"] = rows, polynomial.num_paths, channels if of_weights is None else of_weights
    sizes |= {"zx": sizes["x"], "zw": sizes["weights"]}
    return {name: rng.normal(size=size).astype(dtype) for name, size in sizes.items()}


def check_all(polynomial, a, rows, options=None, oracle=None):
    """The value, the gradients and the double backward, each alone and together."""
    options = {"rows_of_weights": rows} if options is None else options
    oracle = oracle or PolynomialOracle(polynomial, a["x"], a["weights"], rows_of_weights=rows)
    check(polynomial(a["x"], a["weights"], **options), oracle.value())
    expected = oracle.vjp(a["dy"])
    for wrt in ((0, 1), (0,), (1,)):
        found = polynomial.vjp(a["dy"], a["x"], a["weights"], wrt=wrt, **options)
        assert [i for i, g in enumerate(found) if g is not None] == list(wrt)
        for i in wrt:
            check(found[i], expected[i], (a["x"], a["weights"])[i].shape)
    for zx, zw in ((a["zx"], a["zw"]), (a["zx"], None), (None, a["zw"])):
        expected = oracle.vjp_vjp(zx, zw, a["dy"])
        for wrt in ((0, 1, 2), (0,), (1, 2)):
            found = polynomial.vjp_vjp(zx, zw, a["dy"], a["x"], a["weights"], wrt=wrt, **options)
            assert [i for i, g in enumerate(found) if g is not None] == list(wrt)
            for i in wrt:
                check(found[i], expected[i], (a["dy"], a["x"], a["weights"])[i].shape)


@given(polynomials(), st.integers(0, 11), st.integers(1, 20), st.integers(1, 3), st.integers(0, 2**32))
def test_values_and_derivatives_are_those_of_plain_loops(polynomial, atoms, channels, rows, seed):
    a = arrays(polynomial, atoms, channels, rows, np.float64, seed)
    check_all(polynomial, a, np.random.default_rng(seed).integers(rows, size=atoms))


@pytest.mark.parametrize("isa", sparseacc.cpu.instruction_sets())
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
@pytest.mark.parametrize("channels", [1, 16, 37])
def test_dtypes_and_instruction_sets(isa, dtype, channels):
    before = sparseacc.cpu.instruction_set()
    sparseacc.cpu.set_instruction_set(isa)
    try:
        rows = np.array([0, 2, 2, 0, 2, 2, 2, 0, 2])  # no atom has row 1
        check_all(CONTRACTION, arrays(CONTRACTION, 9, channels, 3, dtype), rows)
    finally:
        sparseacc.cpu.set_instruction_set(before)


def test_the_gradient_of_a_row_of_weights_is_the_sum_over_all_its_atoms():
    """Of hundreds, which are not computed at once."""
    rows = np.random.default_rng(1).choice([0, 2, 3], size=500, p=[0.6, 0.3, 0.1])
    for order in (rows, np.sort(rows)):
        check_all(CONTRACTION, arrays(CONTRACTION, 500, 3, 4, np.float64), order)


def test_weights_that_all_channels_share():
    rows = np.array([0, 1, 0, 1, 1])
    a = arrays(CONTRACTION, 5, 21, 2, np.float64, of_weights=1)
    wide = {**a, **{name: np.broadcast_to(a[name], (2, CONTRACTION.num_paths, 21)) for name in ("weights", "zw")}}
    assert np.array_equal(
        CONTRACTION(a["x"], a["weights"], rows_of_weights=rows),
        CONTRACTION(wide["x"], wide["weights"], rows_of_weights=rows),
    )
    _, dw = CONTRACTION.vjp(a["dy"], a["x"], a["weights"], rows_of_weights=rows)
    _, of_wide = CONTRACTION.vjp(a["dy"], a["x"], wide["weights"], rows_of_weights=rows)
    assert dw.shape == (2, CONTRACTION.num_paths, 1)
    np.testing.assert_allclose(dw, of_wide.sum(axis=2, keepdims=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_weights_broadcast_over_a_batch(batch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*batch, 4, 5))
    for of_weights in ((), batch, (1,) * len(batch), batch[1:]):
        weights = rng.normal(size=(*of_weights, CONTRACTION.num_paths, 5))
        oracle = PolynomialOracle(CONTRACTION, x, weights)
        check(CONTRACTION(x, weights), oracle.value())
        dy = rng.normal(size=x.shape)
        for found, expected, like in zip(CONTRACTION.vjp(dy, x, weights), oracle.vjp(dy), (x, weights)):
            check(found, expected, like.shape)


def laid_out(array, how):
    if how == "negative":
        return array[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    if how == "swapped":
        return array.astype(array.dtype.newbyteorder())
    if how == "unaligned":
        memory = np.zeros(array.nbytes + 1, np.uint8)
        view = memory[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    return np.repeat(array, 2, axis=2)[:, :, ::2] if how == "apart" else np.asfortranarray(array)


@pytest.mark.parametrize("how", ["negative", "swapped", "unaligned", "apart", "fortran"])
def test_any_layout_gives_the_same_numbers(how):
    rows = np.array([1, 0, 1, 1, 0, 0, 0])
    a = arrays(CONTRACTION, 7, 18, 2, np.float32)
    b = {name: laid_out(array, how) for name, array in a.items()}
    given = ("zx", "zw", "dy", "x", "weights")
    for found, expected in zip(
        CONTRACTION.vjp_vjp(*(b[name] for name in given), rows_of_weights=laid_out(rows[:, None, None], how)[:, 0, 0]),
        CONTRACTION.vjp_vjp(*(a[name] for name in given), rows_of_weights=rows),
    ):
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_the_axis_may_be_the_last():
    a = arrays(CONTRACTION, 5, 6, 1, np.float64)
    x, weights, dy = (np.ascontiguousarray(a[name].swapaxes(1, 2)) for name in ("x", "weights", "dy"))
    assert np.array_equal(CONTRACTION(x, weights, axis=-1), CONTRACTION(a["x"], a["weights"]).swapaxes(1, 2))
    assert np.array_equal(CONTRACTION(x, weights, axis=2), CONTRACTION(a["x"], a["weights"]).swapaxes(1, 2))
    for found, expected in zip(
        CONTRACTION.vjp(dy, x, weights, axis=-1), CONTRACTION.vjp(a["dy"], a["x"], a["weights"])
    ):
        assert np.array_equal(found, expected.swapaxes(1, 2))
    out = np.empty_like(x)
    assert CONTRACTION(x, weights, axis=-1, out=out) is out
    assert np.array_equal(out, CONTRACTION(x, weights, axis=-1))


def test_no_thread_and_no_neighbour_changes_a_bit():
    rng = np.random.default_rng(0)
    rows = rng.integers(3, size=3000)
    a = arrays(CONTRACTION, 3000, 32, 3, np.float32)
    given = [a[name] for name in ("zx", "zw", "dy", "x", "weights")]
    before, found = sparseacc.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            sparseacc.set_num_threads(threads)
            found.append(
                [*CONTRACTION.vjp_vjp(*given, rows_of_weights=rows), CONTRACTION(*given[3:], rows_of_weights=rows)]
            )
    finally:
        sparseacc.set_num_threads(before)
    for others in found[1:]:
        assert all(map(np.array_equal, others, found[0]))
    some = rng.permutation(3000)[:17]
    ddy, dx, _ = CONTRACTION.vjp_vjp(*(z[some] if len(z) == 3000 else z for z in given), rows_of_weights=rows[some])
    assert np.array_equal(ddy, found[0][0][some])
    assert np.array_equal(dx, found[0][1][some])


def test_powers_of_two_are_exact():
    m = np.array([[0, 0, 1], [0, 1, 2], [2, 2, 2]])
    cubes = Polynomial([([],) * 4, ([],) * 4, (m, [0, 1, 0], [0, 1, 1], [2.0, -4.0, 0.5])], (3, 2))
    rng = np.random.default_rng(0)
    x, weights = (2.0 ** rng.integers(-1, 2, size) for size in ((50, 3, 9), (2, 2, 9)))
    rows = rng.integers(2, size=50)
    value, _ = PolynomialOracle(cubes, x, weights, rows_of_weights=rows).value()
    assert np.array_equal(cubes(x, weights, rows_of_weights=rows), value)
    assert np.array_equal(cubes(x.astype(np.float32), weights.astype(np.float32), rows_of_weights=rows), value)


def test_nothing_to_compute():
    for atoms, channels in ((0, 4), (3, 0), (0, 0)):
        a = arrays(CONTRACTION, atoms, channels, 2, np.float64)
        check_all(CONTRACTION, a, np.zeros(atoms, int))
    nothing = Polynomial([], (2, 3))
    x, weights = np.ones((4, 2, 5)), np.ones((0, 5))
    assert np.array_equal(nothing(x, weights), np.zeros((4, 3, 5)))
    dx, dw = nothing.vjp(np.ones((4, 3, 5)), x, weights)
    assert np.array_equal(dx, np.zeros_like(x))
    assert dw.shape == (0, 5)
    ddy, dx, dw = CONTRACTION.vjp_vjp(None, None, *(a[name] for name in ("dy", "x", "weights")), rows_of_weights=[])
    assert (ddy.shape, dx.shape, dw.shape) == (a["dy"].shape, a["x"].shape, a["weights"].shape)


def test_inputs_stay_as_they_are():
    a = arrays(CONTRACTION, 5, 7, 2, np.float32)
    for array in a.values():
        array.flags.writeable = False
    check_all(CONTRACTION, a, np.array([1, 0, 0, 1, 1]))


X, W, DY = np.ones((4, 4, 3)), np.ones((2, CONTRACTION.num_paths, 3)), np.ones((4, 4, 3))
ROWS = np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: CONTRACTION(X[:, :3], W, rows_of_weights=ROWS),
            ValueError,
            "x has length 3 along axis -2, .* needs 4",
        ),
        (lambda: CONTRACTION(X, W[:, 1:], rows_of_weights=ROWS), ValueError, "weights has length .* along axis -2"),
        (lambda: CONTRACTION(X, W[..., :2], rows_of_weights=ROWS), ValueError, "weights has 2 channels and x 3"),
        (lambda: CONTRACTION(X, W), ValueError, r"their batches are \(2,\) and \(4,\); rows_of_weights says"),
        (lambda: CONTRACTION(X, W, rows_of_weights=ROWS[:3]), ValueError, "rows_of_weights has 3 entries, but x has 4"),
        (
            lambda: CONTRACTION(X, W, rows_of_weights=ROWS + 1),
            ValueError,
            r"rows_of_weights\[1\] is 2, but weights has 2",
        ),
        (lambda: CONTRACTION(X, W, rows_of_weights=ROWS - 1), ValueError, r"rows_of_weights\[0\] is -1"),
        (lambda: CONTRACTION(X, W, rows_of_weights=ROWS * 1.0), TypeError, "rows_of_weights must hold integers"),
        (lambda: CONTRACTION(X, W, rows_of_weights=3), ValueError, "rows_of_weights must be 1-D"),
        (lambda: CONTRACTION(X[0], W, rows_of_weights=ROWS), ValueError, "with rows_of_weights, x must be"),
        (lambda: CONTRACTION(X[0, 0], W), ValueError, "x must have at least 2 dimensions"),
        (lambda: CONTRACTION(X, W[0], axis=0), ValueError, "axis is 0, but components are"),
        (lambda: CONTRACTION(X, W[0], axis="x"), TypeError, "axis must be an integer"),
        (
            lambda: CONTRACTION(X + 1j, W[0]),
            TypeError,
            "x has dtype complex128, but polynomials are not computed of complex numbers",
        ),
        (lambda: CONTRACTION(X > 0, W[0]), TypeError, "x has dtype bool"),
        (lambda: CONTRACTION(None, W[0]), TypeError, "x is None"),
        (lambda: CONTRACTION(X, None), TypeError, "weights is None"),
        (lambda: CONTRACTION.vjp(None, X, W[0]), TypeError, "dy is None"),
        (lambda: CONTRACTION.vjp(DY[:, :3], X, W[0]), ValueError, "dy.shape is .* that of the values"),
        (lambda: CONTRACTION.vjp(DY, X, W[0], wrt=2), ValueError, r"wrt may hold 0 \(x\) and 1 \(weights\), not 2"),
        (lambda: CONTRACTION.vjp_vjp(X[1:], None, DY, X, W[0]), ValueError, "zx.shape is .* that of x"),
        (lambda: CONTRACTION.vjp_vjp(None, W, DY, X, W[0]), ValueError, "zw.shape is .* that of weights"),
        (lambda: CONTRACTION(X, W[0], out=np.empty((4, 4, 2))), ValueError, "out.shape is"),
        (lambda: CONTRACTION(X, W[0], out=X), ValueError, "out"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
