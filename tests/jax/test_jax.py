"""The JAX bridge: the product and its gradients, dtypes, and what is refused."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

from functools import partial  # noqa: E402

import jax.numpy as jnp  # noqa: E402
from broadcast import BATCHES, RULE  # noqa: E402
from jax_products import arrays, product  # noqa: E402
from oracle import Oracle, bound, check  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402
from sparseacc.extras import how_to_install  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("batch1", "batch2"), [*BATCHES, ((0,), (0,)), ((0, 2), (1,)), ((500,), (500,))])
@pytest.mark.parametrize("axis", ["last", "first"])
def test_product_is_within_the_bound(batch1, batch2, axis, dtype, rng):
    place = -1 if axis == "last" else 0
    x1, x2 = (np.moveaxis(numbers(rng, (*b, n), dtype), -1, place) for b, n in ((batch1, 3), (batch2, 5)))
    for function in (bridge.product, jax.jit(bridge.product, static_argnums=0, static_argnames="axis")):
        result = function(RULE, x1, x2, axis=place)
        assert isinstance(result, jax.Array)
        assert result.dtype == dtype
        check(np.asarray(result), Oracle(RULE, x1, x2, place, dtype).product())


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "f2"])
@pytest.mark.parametrize(("batch1", "batch2"), BATCHES)
def test_gradients_are_within_the_bound(batch1, batch2, dtype, rng):
    """Summed over broadcast axes, and not conjugated."""
    x1, x2 = arrays(rng, batch1, batch2, dtype)
    y, pull = jax.vjp(product, x1, x2)
    dy = numbers(rng, y.shape, dtype)
    for gradient, expected in zip(
        pull(jnp.array(dy)), Oracle(RULE, np.asarray(x1), np.asarray(x2)).vjp(dy), strict=True
    ):
        assert gradient.dtype == dtype
        check(np.asarray(gradient), expected)


def test_dtypes_promote_as_jax_promotes_them():
    def result(d1, d2):
        return product(jnp.ones((4, 3), d1), jnp.ones((4, 5), d2)).dtype

    assert result("f4", "f8") == np.float64
    assert result("f4", ml_dtypes.bfloat16) == np.float32
    assert result("f2", ml_dtypes.bfloat16) == np.float32
    assert result("i8", "f4") == np.float32
    assert result("i4", "u1") == np.float64
    with jax.enable_x64(False):
        assert result("i4", "u1") == np.float32


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_dtypes_and_weak_types_are_those_of_a_multiplication(x64):
    """Of every pair, NumPy arrays among them; integers, multiplied as floats here, are JAX's default float."""
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    with jax.enable_x64(x64):
        kinds = [jnp.ones(3, d) for d in ("f2", "bfloat16", "f4", "f8", "c8", "c16", "i4", "u1")]
        kinds += [jnp.full(3, value) for value in (2.0, 2, 2j)] + [np.ones(3, "f4")]
        for x1 in kinds:
            for x2 in kinds:
                y, like = (jax.eval_shape(f, x1, x2) for f in (partial(bridge.product, rule), jnp.multiply))
                dtype = jnp.result_type(float) if like.dtype.kind in "iu" else like.dtype
                assert (y.dtype, y.weak_type) == (dtype, like.weak_type), (x1, x2)
        assert bridge.product(rule, jnp.ones(3, "bfloat16"), jnp.full(3, 2.0)).dtype == jnp.bfloat16
        with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="implicit dtype promotion"):
            bridge.product(rule, kinds[0], kinds[1])


def test_overflow_in_a_sum_is_infinity_without_a_warning():
    """As in the product, and as JAX's own operations have it: pytest makes errors of warnings."""
    x1, x2 = jnp.full((4, 3), 3e38, "f4"), jnp.ones((1, 5), "f4")
    _, pull = jax.vjp(product, x1, x2)
    assert np.isinf(np.asarray(pull(jnp.ones((4, 5), "f4"))[1])).any()


OTHER_JAX = """
import sys, types
sys.modules["jax"] = {}
try:
    import sparseacc.jax
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("None", "needs JAX 0.10 or newer: "),
        (
            "types.SimpleNamespace(__version__='0.4.30', __version_info__=(0, 4, 30))",
            "needs JAX 0.10 or newer, but this is JAX 0.4.30: ",
        ),
    ],
    ids=["none", "old"],
)
def test_a_jax_that_will_not_do_is_named(module, said):
    code = OTHER_JAX.replace("{}", module)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == f"sparseacc.jax {said}{how_to_install('jax')}"


def test_numpy_arrays_are_not_shortened():
    """Without x64, JAX makes float32 of float64 without a word."""
    with jax.enable_x64(False):
        with pytest.raises(TypeError, match=r"x2 is float64, which JAX turns into float32.*jax_enable_x64"):
            product(jnp.ones((4, 3)), np.ones((4, 5)))
        assert product(np.ones((4, 3), "f4"), [1.0, 2.0, 3.0, 4.0, 5.0]).dtype == np.float32


@pytest.mark.parametrize(
    ("x1", "x2", "axis", "error", "message"),
    [
        (np.ones((4, 3), bool), np.ones(5), -1, TypeError, "x1 has dtype bool"),
        (
            np.ones((4, 4)),
            np.ones(5),
            -1,
            ValueError,
            r"x1 has length 4 along axis -1, but the rule needs 3: x1.shape is \(4, 4\), the rule's .* \(3, 5, 5\)",
        ),
        (
            np.ones((4, 3)),
            np.ones((2, 5)),
            -1,
            ValueError,
            r"do not broadcast.*\(4, 3\) and \(2, 5\), and without axis -1 \(4,\) and \(2,\)",
        ),
        (np.ones(3), np.ones(5), 1, IndexError, "x1: axis 1 is out of bounds"),
        (np.ones(3), np.ones(()), -1, IndexError, "x2: axis -1"),
        (np.ones(3), np.ones(5), 0.5, TypeError, "axis must be an integer, not 0.5"),
        (None, np.ones(5), -1, TypeError, "x1 is None"),
        (np.ones(3), None, -1, TypeError, "x2 is None"),
    ],
)
def test_product_refuses(x1, x2, axis, error, message):
    for function in (bridge.product, jax.jit(bridge.product, static_argnums=0, static_argnames="axis")):
        with pytest.raises(error, match=message):
            function(RULE, x1, x2, axis=axis)


def test_other_kinds_are_refused():
    with pytest.raises(TypeError, match=r"rule must be a sparseacc.Rule, not tuple"):
        bridge.product((1, 2), np.ones(3), np.ones(5))
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError, match=r"x2 is a Tensor: convert it with jax.numpy.from_dlpack"):
        product(np.ones(3), torch.ones(5))


def test_half_precision_sums_in_float32(rng):
    n = 1000
    rule = sparseacc.Rule(np.arange(n), np.zeros(n, int), np.zeros(n, int), np.ones(n), (n, 1, 1))
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        x1, x2 = rng.random((2, n)).astype(dtype), np.ones((2, 1), dtype)
        exact = x1.astype(float).sum(axis=1, keepdims=True)
        assert np.all(abs(np.asarray(bridge.product(rule, x1, x2)).astype(float) - exact) <= bound(0, exact, dtype))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: jax.grad(lambda x: f(x).sum())])
def test_a_coefficient_that_the_computation_cannot_hold_is_refused(transform):
    rule = sparseacc.Rule([0], [0], [0], [1e39], (1, 1, 1))
    with pytest.raises(ValueError, match=r"C\[0\] is 1e\+39, but float32"):
        transform(lambda x: bridge.product(rule, x, x))(jnp.ones(1, jnp.float32))
