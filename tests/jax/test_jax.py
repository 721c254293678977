"""The JAX bridge: jit, derivatives of any order and mode, vmap, shards, and no copies."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

from functools import partial  # noqa: E402

import jax.numpy as jnp  # noqa: E402
from oracle import Oracle, bound, check  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.jax as bridge  # noqa: E402
from sparseacc.cpu._kernel import ffi, lib  # noqa: E402
from sparseacc.extras import how_to_install  # noqa: E402
from sparseacc.jax import xla  # noqa: E402

pytestmark = pytest.mark.usefixtures("_x64")

RULE = sparseacc.clebsch_gordan(1, 2, 2)
BATCHES = [((4,), (4,)), ((4,), (1,)), ((), (4,)), ((3, 1), (4,)), ((3, 1), (1, 4))]


def product(x1, x2):
    return bridge.product(RULE, x1, x2)


def arrays(rng, batch1=(4,), batch2=(4,), dtype="f8"):
    return jnp.array(numbers(rng, (*batch1, 3), dtype)), jnp.array(numbers(rng, (*batch2, 5), dtype))


def close(a, b):
    return all(
        np.allclose(x, y, rtol=1e-12, atol=1e-12) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


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


@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize(("batch1", "batch2"), BATCHES)
def test_derivatives_of_any_order_and_mode(batch1, batch2, dtype, rng):
    from jax.test_util import check_grads

    check_grads(product, arrays(rng, batch1, batch2, dtype), order=3, modes=("fwd", "rev"))


def test_mixtures_of_modes_agree(rng):
    x1, x2 = arrays(rng, (4,), (1,))

    def energy(b):
        return (product(x1, b) ** 3).sum()

    first, second = jax.jacfwd, jax.jacrev
    thirds = [f(g(h(energy)))(x2) for f in (first, second) for g in (first, second) for h in (first, second)]
    assert all(close(third, thirds[0]) for third in thirds)
    assert np.max(abs(thirds[0])) > 0.1


def test_the_linear_transpose_is_the_gradient(rng):
    x1, x2 = arrays(rng)
    dy = jnp.array(rng.normal(size=(4, 5)))
    for i, function in ((0, lambda a: product(a, x2)), (1, lambda b: product(x1, b))):
        (transposed,) = jax.linear_transpose(function, (x1, x2)[i])(dy)
        assert np.array_equal(transposed, jax.vjp(product, x1, x2)[1](dy)[i])


def test_force_matching_agrees_with_finite_differences(rng):
    """Energy of positions and parameters, forces, a loss on forces, its gradient with respect to the parameters."""
    positions, target, weights = (jnp.array(rng.normal(size=shape)) for shape in ((6, 3), (6, 3), (3, 5)))

    def energy(positions, weights):
        return (product(positions, jnp.sin(positions @ weights)) ** 2).sum()

    @jax.jit
    def loss(weights):
        forces = -jax.grad(energy)(positions, weights)
        return ((forces - target) ** 2).mean()

    gradient = jax.grad(loss)(weights)
    for _ in range(5):
        direction, h = rng.normal(size=(3, 5)), 1e-5
        slope = (loss(weights + h * direction) - loss(weights - h * direction)) / (2 * h)
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0), (0, 2)])
def test_vmap_is_a_loop(in_dims, rng):
    x1, x2 = arrays(rng, (3, 4), (3, 1))
    mapped = [x[0] if d is None else jnp.moveaxis(x, 0, d) for x, d in zip((x1, x2), in_dims)]
    pairs = [(x1[0] if in_dims[0] is None else x1[i], x2[0] if in_dims[1] is None else x2[i]) for i in range(3)]
    for function in (product, jax.grad(lambda a, b: (product(a, b) ** 2).sum(), (0, 1))):
        expected = [function(a, b) for a, b in pairs]
        assert close(jax.vmap(function, in_dims)(*mapped), jax.tree.map(lambda *x: jnp.stack(x), *expected))


def test_control_flow_and_rematerialisation(rng):
    x1, x2 = arrays(rng)

    def step(carry, a):
        y = jax.checkpoint(product)(a, carry)
        return carry + y, y.sum()

    def looped(x1, x2):
        for a in x1:
            x2 = x2 + product(a, x2)
        return x2.sum()

    def scanned(x1, x2):
        return jax.lax.scan(step, x2, x1)[0].sum()

    assert close(jax.jit(jax.grad(scanned, (0, 1)))(x1, x2), jax.grad(looped, (0, 1))(x1, x2))


def test_the_shape_is_known_without_computing(monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(sparseacc.cpu, "execute", never)
    large = jax.ShapeDtypeStruct((10**9, 1, 3), jnp.bfloat16), jax.ShapeDtypeStruct((7, 5), jnp.bfloat16)
    shape = jax.eval_shape(product, *large)
    assert (shape.shape, shape.dtype) == ((10**9, 7, 5), jnp.bfloat16)


def in_python(monkeypatch):
    """The addresses of every call that goes through Python."""
    seen = []

    class Lib:
        def sa_run_stored(self, call, pointers):
            seen.append([int(ffi.cast("intptr_t", pointer)) for pointer in pointers])
            return lib.sa_run_stored(call, pointers)

    monkeypatch.setattr(xla, "lib", Lib())
    return seen


def as_if_lowered_elsewhere(monkeypatch):
    monkeypatch.setattr(xla, "prepare", lambda *arguments: None)


def test_memory_is_not_copied(rng, monkeypatch):
    """The kernel reads where the arrays lie and writes where the result lies."""
    as_if_lowered_elsewhere(monkeypatch)
    seen = in_python(monkeypatch)
    for rows, function in ((1001, product), (1002, jax.jit(product))):
        x1, x2 = arrays(rng, (rows,), (rows,), "f4")
        y = function(x1, x2).block_until_ready()
        assert seen[-1] == [a.unsafe_buffer_pointer() for a in (x1, x2, y)]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_calls_stay_in_c(elsewhere, rng, monkeypatch):
    """From the first, or where they were lowered elsewhere, after the first of a kind: a rule, an axis, dtypes, shapes.
    Calls of no two kinds are taken for each other.
    """
    if elsewhere:
        as_if_lowered_elsewhere(monkeypatch)
    seen = in_python(monkeypatch)
    double = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C + elsewhere, RULE.shape)
    square = sparseacc.clebsch_gordan(1, 1, 1)
    kinds = [(r, -1, (3, 5), d) for r in (RULE, double) for d in ("f4", "f8", "c8", "f2")]
    kinds += [(square, -1, (3, 3), "f4"), (square, -2, (3, 3), "f4"), (square, 0, (3, 3), "f4")]
    for turn in range(3):
        for rule, axis, lengths, dtype in kinds:
            for batch1, batch2 in (((3, 7), (3, 7)), ((3, 7), (3, 1)), ((7, 3), (7, 3)), ((0, 3), (0, 3))):
                batch1, batch2 = ((*batch, 1 + elsewhere) for batch in (batch1, batch2))
                x1, x2 = (
                    jnp.array(numbers(rng, np.insert(batch, axis % 4, n), dtype))
                    for batch, n in zip((batch1, batch2), lengths, strict=True)
                )
                before = len(seen)
                y, pull = jax.vjp(partial(bridge.product, rule, axis=axis), x1, x2)
                oracle = Oracle(rule, np.asarray(x1), np.asarray(x2), axis)
                check(np.asarray(y), oracle.product())
                for gradient, expected in zip(pull(y), oracle.vjp(np.asarray(y)), strict=True):
                    check(np.asarray(gradient), expected)
                assert (turn == 0 and elsewhere) or len(seen) == before
    assert elsewhere == (len(seen) > 0)


ENDING = """
import sys, jax, jax.numpy as jnp, sparseacc, sparseacc.jax

rule = sparseacc.clebsch_gordan(4, 4, 4)
x, w = jnp.ones((20_000, 9)), jnp.ones(9)
loss = lambda w: jnp.square(sparseacc.jax.product(rule, x, w)).sum()
step = jax.jit(lambda w: w - 1e-9 * jax.grad(loss)(w))
if "elsewhere" in sys.argv:  # every call is new to the process
    sparseacc.jax.xla.prepare = lambda *arguments: None
    sparseacc.jax.xla.remember = lambda *arguments: None
"""
ENDINGS = {
    "a loop": "for _ in range(100): w = step(w)",
    "SystemExit": "for _ in range(100): w = step(w)\nraise SystemExit(0)",
    "a scan": "jax.lax.scan(lambda w, _: (step(w), None), w, None, length=100)",
    "one call": "step(w)",
}


@pytest.mark.parametrize("elsewhere", [[], ["elsewhere"]], ids=["", "elsewhere"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_while_sums_are_computed(ending, elsewhere):
    """XLA waits for its threads when the interpreter has ended: they must not wait for the interpreter then."""
    command = [sys.executable, "-c", ENDING + ENDINGS[ending], *elsewhere]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")


def test_what_is_printed_at_the_end_is_computed(rng):
    """JAX waits for effects when the interpreter ends: the calls before them need no Python."""
    printed = "jax.jit(lambda w: jax.debug.print('{}', step(w).shape[0] * (step(w)[0] > 0.5)))(w)"
    found = subprocess.run([sys.executable, "-c", ENDING + printed], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, "9", "")


def test_an_array_of_many_dimensions_is_right(rng):
    """Of more than C remembers."""
    x1, x2 = arrays(rng, (1,) * 17, (2,) * 3 + (1,) * 14)
    for _ in range(2):
        check(np.asarray(product(x1, x2)), Oracle(RULE, np.asarray(x1), np.asarray(x2)).product())


def test_a_compiled_function_knows_one_rule_from_another(rng):
    x1, x2 = arrays(rng)
    double = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C, RULE.shape)
    compiled = jax.jit(bridge.product, static_argnums=0)
    for rule in (RULE, double, sparseacc.clebsch_gordan(1, 2, 3), RULE):
        check(np.asarray(compiled(rule, x1, x2)), Oracle(rule, np.asarray(x1), np.asarray(x2)).product())


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


WITHOUT_JIT = """
import jax, jax.numpy as jnp, sparseacc, sparseacc.jax

rule = sparseacc.clebsch_gordan(1, 1, 1)
product = lambda a, b: sparseacc.jax.product(rule, a, b)
square = lambda a, b: (product(a, b) ** 2).sum()
x = jnp.arange(12.0).reshape(4, 3)
y = x[:1] - 1

def everything():
    return [
        product(x, y),
        jax.jit(product)(x, y),
        jax.grad(square, (0, 1))(x, y),
        jax.vmap(product, (0, None))(x, y[0]),
        jax.vmap(jax.grad(square), (0, None))(x, y[0]),
        jax.jvp(product, (x, y), (y, x)[::-1]),
        jax.grad(jax.checkpoint(square))(x, y),
        jax.lax.scan(lambda c, a: (c + product(a, c), c), y[0], x),
    ]

got = everything()
with jax.disable_jit():
    sparseacc.jax.product(rule, x, y)
with jax.disable_jit(False):
    expected = everything()
assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b)), got, expected))
"""


def test_disabled_jit_gives_the_same():
    """By the context, and by the variable."""
    environment = {**os.environ, "JAX_DISABLE_JIT": "1"}
    found = subprocess.run([sys.executable, "-c", WITHOUT_JIT], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr


def test_overflow_in_a_sum_is_infinity_without_a_warning():
    """As in the product, and as JAX's own operations have it: pytest makes errors of warnings."""
    x1, x2 = jnp.full((4, 3), 3e38, "f4"), jnp.ones((1, 5), "f4")
    _, pull = jax.vjp(product, x1, x2)
    assert np.isinf(np.asarray(pull(jnp.ones((4, 5), "f4"))[1])).any()


LEAKING = """
import gc, jax, jax.numpy as jnp, sparseacc, sparseacc.jax
from sparseacc.cpu import execution

execution._plans._most = 500  # full soon, where it takes 16,384 new shapes otherwise
rule = sparseacc.clebsch_gordan(2, 2, 2)
product = lambda a, b: sparseacc.jax.product(rule, a, b)
loss = lambda a, b: product(a, b).sum()
gradients = jax.jit(jax.grad(loss, (0, 1)))
one, vmapped, jitted = jax.jit(jax.grad(loss)), jax.jit(jax.vmap(product)), jax.jit(product)
x, large = jnp.ones((30, 5)), jnp.ones((200_000, 5))
shared, half, whole = x[:1], x.astype("bfloat16"), x.astype(int)
new = iter(range(10**9))

def new_shape():
    rows = next(new)
    sparseacc.jax.xla.prepare(rule, -1, x.dtype, [(rows, 5), (1, 5), (rows, 5)])
    sparseacc.jax.xla.prepare(rule, -1, x.dtype, [(rows, 5), (rows, 5), (1, 5)])

def in_python():
    elsewhere(x, x)

calls = [
    (20_000, lambda: jitted(x, x)),
    (20_000, lambda: one(x, x)),
    (20_000, lambda: gradients(x, shared)),
    (20_000, lambda: gradients(half, half)),
    (20_000, lambda: vmapped(x, x)),
    (10_000, lambda: product(x, x)),
    (10_000, lambda: product(whole, x)),
    (10_000, new_shape),
    (100, lambda: gradients(large, shared)[1].block_until_ready()),
    (20_000, in_python),
]

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

for k, (times, call) in enumerate(calls):
    if call is in_python:
        sparseacc.jax.xla.prepare = sparseacc.jax.xla.remember = lambda *arguments: None
        elsewhere = jax.jit(lambda a, b: product(a, b))
    for _ in range(times // 5):
        call()
    before = resident()
    for _ in range(times):
        call()
    grown = resident() - before
    assert grown < (4 << 20 if times > 100 else 64 << 20), (k, grown)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not say what is resident")
def test_memory_does_not_grow_with_calls():
    """Of no kind: by less than the text of this rule a call, or a tenth of a large result."""
    found = subprocess.run([sys.executable, "-c", LEAKING], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr


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


def test_an_error_in_python_is_jaxs_error(monkeypatch, rng):
    def fails(*arguments):
        raise MemoryError("no room")

    x1, x2 = arrays(rng, (1003,), (1003,))
    with monkeypatch.context() as patch:
        as_if_lowered_elsewhere(patch)
        patch.setattr(xla, "planned", fails)
        with pytest.raises(
            (jax.errors.JaxRuntimeError, ValueError), match="RESOURCE_EXHAUSTED: sparseacc: MemoryError: no room"
        ):
            product(x1, x2).block_until_ready()
    check(np.asarray(product(x1, x2)), Oracle(RULE, np.asarray(x1), np.asarray(x2)).product())


@pytest.mark.filterwarnings("ignore:Exception ignored from cffi callback")
def test_an_error_that_cannot_be_said_is_one_too(monkeypatch, rng):
    """As of an interrupt between two lines: the result was never written."""

    def fails(*arguments):
        raise ValueError("\ud800")  # which no message can hold

    with monkeypatch.context() as patch:
        as_if_lowered_elsewhere(patch)
        patch.setattr(xla, "planned", fails)
        with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match="INTERNAL: sparseacc: Python failed"):
            product(*arrays(rng, (1005,), (1005,))).block_until_ready()


def test_what_xla_keeps_is_the_rule_itself():
    """By value: a compiled function may be loaded where the rule has never been."""
    text = xla.attribute(RULE, -2).encode()
    assert xla._decoded(text) == (RULE, -2)


def test_half_precision_sums_in_float32(rng):
    n = 1000
    rule = sparseacc.Rule(np.arange(n), np.zeros(n, int), np.zeros(n, int), np.ones(n), (n, 1, 1))
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        x1, x2 = rng.random((2, n)).astype(dtype), np.ones((2, 1), dtype)
        exact = x1.astype(float).sum(axis=1, keepdims=True)
        assert np.all(abs(np.asarray(bridge.product(rule, x1, x2)).astype(float) - exact) <= bound(0, exact, dtype))


SHARDED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np, sparseacc, sparseacc.jax
from jax.sharding import NamedSharding, PartitionSpec as P

rule = sparseacc.clebsch_gordan(1, 2, 2)
rng = np.random.default_rng(0)
x1, x2, one = (rng.normal(size=s).astype("f4") for s in ((8, 3), (8, 5), (1, 5)))
product = lambda a, b: sparseacc.jax.product(rule, a, b)
mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))

seen = []
xla = sparseacc.jax.xla
planned = xla.planned
xla.planned = lambda rule, operation, values, *rest: (
    seen.append(values[0].shape[0]), planned(rule, operation, values, *rest))[1]
for b, spec in ((x2, P("i")), (one, P())):
    mapped = jax.jit(jax.shard_map(product, mesh=mesh, in_specs=(P("i"), spec), out_specs=P("i")))
    del seen[:]
    result = mapped(x1, b)
    assert len(result.sharding.device_set) == 4
    assert np.allclose(result, rule(x1, b), atol=1e-6)
    assert set(seen) == {2}, seen  # the first; those after it stay in C
    gradients = jax.grad(lambda a, b: (mapped(a, b) ** 2).sum(), (0, 1))(x1, b)
    expected = rule.vjp(2 * rule(x1, b), x1, b)
    assert all(np.allclose(g, e, atol=1e-5) for g, e in zip(gradients, expected))
"""
GATHERED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np, sparseacc, sparseacc.jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

rule = sparseacc.clebsch_gordan(1, 2, 2)
rng = np.random.default_rng(0)

def check(mesh, axis, shape1, shape2, spec1, spec2):
    x1, x2 = (rng.normal(size=shape).astype("f4") for shape in (shape1, shape2))
    sharded = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in ((x1, spec1), (x2, spec2))]
    product = lambda a, b: sparseacc.jax.product(rule, a, b, axis=axis)
    gradients = jax.grad(lambda a, b: (product(a, b) ** 2).sum(), (0, 1))
    y = rule(x1, x2, axis=axis)
    expected = [y, *rule.vjp(2 * y, x1, x2, axis=axis)]
    compiled = jax.jit(lambda a, b: [product(a, b), *gradients(a, b)]).lower(*sharded).compile()
    assert "all-gather" not in compiled.as_text(), (spec1, spec2)
    got = compiled(*sharded)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(got, expected)), (spec1, spec2)
    like = jax.jit(lambda a, b: a * b)(*(jax.lax.slice_in_dim(x, 0, 1, axis=axis % x.ndim) for x in sharded))
    assert got[0].sharding.is_equivalent_to(like.sharding, y.ndim), (got[0].sharding, like.sharding)

for kind in (AxisType.Auto, AxisType.Explicit):
    line = jax.make_mesh((4,), ("i",), axis_types=(kind,))
    square = jax.make_mesh((2, 2), ("i", "j"), axis_types=(kind, kind))
    with jax.set_mesh(line):
        check(line, -1, (8, 3), (8, 5), P("i"), P("i"))
        check(line, -1, (8, 3), (1, 5), P("i"), P())
        check(line, -1, (8, 3), (5,), P("i"), P())
        check(line, 0, (3, 8), (5, 8), P(None, "i"), P(None, "i"))
        check(line, -2, (2, 3, 8), (1, 5, 1), P(None, None, "i"), P())
    with jax.set_mesh(square):
        check(square, -1, (4, 6, 3), (4, 6, 5), P("i", "j"), P("i", "j"))
        check(square, -1, (4, 1, 3), (6, 5), P("i"), P("j"))
        check(square, -1, (8, 3), (8, 5), P(("i", "j")), P(("i", "j")))
"""


def test_shards_are_computed_where_they_are():
    """In a process of its own, with four devices: each computes two of the eight rows, and gradients of what all
    have in common are added up."""
    found = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_sharded_arrays_are_not_gathered():
    """Outside of shard_map as well, gradients included; the result is where that of ``x1 * x2`` would be."""
    found = subprocess.run([sys.executable, "-c", GATHERED], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("shape2", [("n", 5), (1, 5), (5,)], ids=str)
def test_exported_functions_take_any_number_of_rows(shape2, rng):
    """Where the check that the documentation names is disabled; rows are known when the function is called."""
    (n,) = jax.export.symbolic_shape("n")
    shapes = [jax.ShapeDtypeStruct(tuple(n if k == "n" else k for k in shape), "f8") for shape in (("n", 3), shape2)]
    disabled = [jax.export.DisabledSafetyCheck.custom_call("sparseacc_product")]
    for function in (product, jax.grad(lambda a, b: (product(a, b) ** 2).sum(), (0, 1))):
        with pytest.raises(ValueError, match="custom call"):
            jax.export.export(jax.jit(function))(*shapes)
        exported = jax.export.export(jax.jit(function), disabled_checks=disabled)(*shapes)
        for rows in (1, 4, 7):
            x1, x2 = (jnp.array(rng.normal(size=(rows, 3))), jnp.array(rng.normal(size=(rows, 5))))
            x2 = x2 if shape2[0] == "n" else x2[0].reshape(shape2)
            assert jax.tree.all(jax.tree.map(np.array_equal, exported.call(x1, x2), function(x1, x2)))


def test_many_threads_call_compiled_functions(rng):
    from concurrent.futures import ThreadPoolExecutor

    x1, x2 = arrays(rng, (20_000,), (20_000,), "f4")
    compiled = jax.jit(jax.value_and_grad(partial(lambda b, a: product(a, b).sum(), a=x1)))
    expected = compiled(x2)
    with ThreadPoolExecutor(6) as pool:
        for result in pool.map(lambda _: compiled(x2), range(60)):
            assert all(np.array_equal(a, b) for a, b in zip(result, expected))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: jax.grad(lambda x: f(x).sum())])
def test_a_coefficient_that_the_computation_cannot_hold_is_refused(transform):
    rule = sparseacc.Rule([0], [0], [0], [1e39], (1, 1, 1))
    with pytest.raises(ValueError, match=r"C\[0\] is 1e\+39, but float32"):
        transform(lambda x: bridge.product(rule, x, x))(jnp.ones(1, jnp.float32))
