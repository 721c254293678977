"""Arrays of any framework go in, without a copy, and results come back as the caller's own kind."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from frameworks import FRAMEWORKS, jax, torch
from operands import RULE, arrays
from oracle import Oracle, check
from strategies import DTYPES, numbers

import sparseacc
from sparseacc.calls import dlpack


@pytest.fixture(params=FRAMEWORKS, ids=lambda f: f.name)
def framework(request):
    return request.param()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_function_takes_and_gives_the_callers_kind(framework, dtype, rng, request):
    if framework.name == "jax":
        request.getfixturevalue("x64")
    z1, z2, dy, x1, x2 = arrays(rng, dtype)
    a1, a2, ay, b1, b2 = map(framework.array, (z1, z2, dy, x1, x2))
    oracle = Oracle(RULE, x1, x2, dtype=dtype)
    bare = [framework.array(column) for column in (RULE.mu, RULE.m1, RULE.m2, RULE.C)]
    results = {
        "product": ([RULE(b1, b2)], [oracle.product()]),
        "vjp": (RULE.vjp(ay, b1, b2), oracle.vjp(dy)),
        "jvp": ([RULE.jvp(b1, b2, a1, None)], [oracle.jvp(z1, None)]),
        "vjp_vjp": (RULE.vjp_vjp(None, a2, ay, b1, b2), oracle.vjp_vjp(None, z2, dy)),
        "coefficient_vjp": ([RULE.coefficient_vjp(ay, b1, b2)], [oracle.coefficient_vjp(dy)]),
        "accumulate": ([sparseacc.accumulate(b1, b2, bare[0], 5, *bare[1:])], [oracle.product()]),
    }
    for got, expected in results.values():
        for result, value in zip(got, expected, strict=True):
            assert isinstance(result, framework.kind)
            assert framework.numpy(result).dtype == dtype
            check(framework.numpy(result), value)


def test_an_unwanted_gradient_is_none(framework, rng):
    _, _, dy, x1, x2 = map(framework.array, arrays(rng))
    first, second = RULE.vjp(dy, x1, x2, wrt=(1,))
    assert first is None
    assert isinstance(second, framework.kind)


def test_memory_is_shared_both_ways(framework, rng, monkeypatch):
    """What the CPU half computes with lies where the caller's arrays lie, and the result where it was written."""
    seen = {}

    def execute(rule, operation, values, *rest):
        seen["in"] = [value.ctypes.data for value in values]
        seen["result"] = original(rule, operation, values, *rest)
        return seen["result"]

    original = sparseacc.cpu.execute
    monkeypatch.setattr(sparseacc.cpu, "execute", execute)
    x1, x2 = (framework.array(numbers(rng, (100_000, n), "f4")) for n in (5, 3))
    y = RULE(x1, x2)
    assert seen["in"] == [framework.address(x1), framework.address(x2)]
    assert framework.address(y) == seen["result"][0].ctypes.data


def test_bfloat16_memory_is_shared_too(framework, rng):
    x = framework.array(numbers(rng, (3, 5), ml_dtypes.bfloat16))
    view = dlpack.read(x, "x1")
    assert view.dtype == ml_dtypes.bfloat16
    assert view.ctypes.data == framework.address(x)


def test_a_result_outlives_everything_it_came_from(framework, rng):
    _, _, _, x1, x2 = arrays(rng, rows=50_000)
    y = RULE(framework.array(x1), framework.array(x2))
    spoilers = [np.full((50_000, 5), 7, "f4") for _ in range(20)]
    check(framework.numpy(y), Oracle(RULE, x1, x2).product())
    del spoilers


def test_a_view_keeps_the_memory_alive(framework, rng):
    x = numbers(rng, (50_000, 5), "f4")
    view = dlpack.read(framework.array(x), "x1")
    spoilers = [framework.array(np.full((50_000, 5), 7, "f4")) for _ in range(20)]
    assert np.array_equal(view, x)
    del spoilers


def test_numpy_arrays_mix_with_one_framework(framework, rng):
    _, _, dy, x1, x2 = arrays(rng)
    x1.flags.writeable = False  # is only read
    for a, b in ((x1, framework.array(x2)), (framework.array(x1), x2), (framework.array(x1), x2.tolist()[:1])):
        if isinstance(b, list):
            b = np.array(b, "f4")
        result = RULE(a, b)
        assert isinstance(result, framework.kind)
    check(framework.numpy(RULE(x1, framework.array(x2))), Oracle(RULE, x1, x2).product())
    assert isinstance(RULE.vjp(framework.array(dy), x1, x2)[0], framework.kind)


def test_arrays_of_two_frameworks_are_refused(rng):
    x1, x2 = torch().ones(4, 5), jax().numpy.ones((4, 3))
    with pytest.raises(TypeError, match="two libraries, x1 of torch and x2 of jax: convert"):
        RULE(x1, x2)
    with pytest.raises(TypeError, match="x1 of torch and out of jax"):
        RULE(x1, np.ones((4, 3), "f4"), out=jax().numpy.ones((4, 5)))


def test_integers_become_float64(framework, request):
    if framework.name == "jax":
        request.getfixturevalue("x64")
    x1, x2 = np.arange(10).reshape(2, 5), np.arange(6, dtype="i4").reshape(2, 3)
    result = framework.numpy(RULE(framework.array(x1), framework.array(x2)))
    assert result.dtype == np.float64
    check(result, Oracle(RULE, x1, x2, dtype="f8").product())


def test_booleans_are_refused(framework):
    with pytest.raises(TypeError, match="x2 has dtype bool"):
        RULE(framework.array(np.ones((2, 5), "f4")), framework.array(np.ones((2, 3), bool)))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_arrays_of_no_size(framework, shape):
    x1, x2 = (framework.array(np.ones((*shape, n), "f4")) for n in (5, 3))
    result = RULE(x1, x2)
    assert isinstance(result, framework.kind)
    assert tuple(result.shape) == (*shape, 5)


def test_float64_results_are_not_shortened():
    """Without x64, JAX makes float32 of float64 without a word."""
    x1, x2 = jax().numpy.ones((4, 5)), np.ones((4, 3))
    with pytest.raises(TypeError, match=r"result is float64, which jax turned into float32.*jax_enable_x64"):
        RULE(x1, x2)


def test_strided_jax_arrays(rng):
    layout = pytest.importorskip("jax.experimental.layout", reason="this JAX has no layouts")
    x1, x2 = numbers(rng, (50, 5), "f4"), numbers(rng, (50, 3), "f4")
    sharding = jax().sharding.SingleDeviceSharding(jax().devices()[0])
    strided = jax().device_put(x1, layout.Format(layout.Layout((1, 0)), sharding))
    assert dlpack.read(strided, "x1").strides == (4, 200)
    check(np.asarray(RULE(strided, x2)), Oracle(RULE, x1, x2).product())


def test_jax_arrays_still_being_computed_are_waited_for():
    def slow(x):
        for _ in range(30):
            x = x @ x
        return x

    start = jax().numpy.full((256, 256), 1 / 256, "f4")  # exact in every power
    slow = jax().jit(slow)
    slow(start).block_until_ready()
    result = RULE(slow(start)[:, :5], np.ones((256, 3), "f4"))
    check(np.asarray(result), Oracle(RULE, np.asarray(slow(start))[:, :5], np.ones((256, 3), "f4")).product())


@pytest.mark.parametrize("view", ["conjugate", "negative"])
def test_torch_views_that_stand_for_other_numbers(view, rng):
    """Their memory holds the numbers without the conjugation or the sign, and NumPy would not know."""
    c1, c2 = numbers(rng, (50, 5), "c8"), numbers(rng, (50, 3), "c8")
    x1, x2 = torch().from_numpy(c1).conj(), torch().from_numpy(c2)
    expected = c1.conj()
    if view == "negative":
        x1, expected = x1.imag, c1.conj().imag
    assert x1.is_conj() if view == "conjugate" else x1.is_neg()
    check(RULE(x1, x2).numpy(), Oracle(RULE, expected, c2).product())
    with pytest.raises(ValueError, match="out is a conjugate or negative view"):
        RULE(torch().from_numpy(c1), x2, out=torch().zeros(50, 5, dtype=torch().complex64).conj())


def test_torch_gradients_are_not_lost_in_silence(rng):
    leaf = torch().ones(4, 5, requires_grad=True)
    x2, message = torch().ones(4, 3), r"requires gradients.*sparseacc\.torch\.product.*detach"
    for x1 in (leaf, leaf * 2, torch().nn.Parameter(torch().ones(4, 5))):
        with pytest.raises(TypeError, match=f"x1 {message}"):
            RULE(x1, x2)
    with pytest.raises(TypeError, match=f"out {message}"):
        RULE(leaf.detach(), x2, out=torch().zeros(4, 5, requires_grad=True))
    with pytest.raises(TypeError, match=f"C {message}"):
        sparseacc.accumulate(x2, x2, [0], 1, [0], [0], torch().ones(1, requires_grad=True))
    with torch().no_grad():  # nothing is to be recorded
        assert torch().equal(RULE(leaf, x2), RULE(leaf.detach(), x2))
    forward_mode = torch().autograd.forward_ad
    with forward_mode.dual_level(), pytest.raises(TypeError, match=f"x1 {message}"):
        RULE(forward_mode.make_dual(torch().ones(4, 5), torch().ones(4, 5)), x2)


def test_sparse_tensors_are_refused():
    sparse = torch().ones(4, 5).to_sparse()
    with pytest.raises(
        TypeError, match=r"^x1 has the layout torch.sparse_coo, but must be dense: pass x1.to_dense\(\)$"
    ):
        RULE(sparse, torch().ones(4, 3))


def test_traced_torch_tensors_are_refused():
    bridge, x2 = r"sparseacc\.torch", torch().ones(3)
    subclasses = pytest.importorskip("torch._subclasses.fake_tensor")
    with subclasses.FakeTensorMode():
        fake = torch().ones(5)
    with pytest.raises(TypeError, match=rf"FakeTensor, which torch traces: use {bridge}\.product"):
        RULE(fake, x2)
    for transformed in (torch().vmap, torch().func.grad, torch().func.jacfwd):
        with pytest.raises((TypeError, ValueError), match=bridge):
            transformed(lambda x: RULE(x, x2).sum())(torch().ones(2, 5))
    with pytest.raises(Exception, match=r"(?s)Observed exception.*TypeError|traced by torch.compile"):
        torch().compile(lambda x: RULE(x, x2), fullgraph=True, backend="eager")(torch().ones(5))


def test_traced_jax_arrays_are_refused():
    for transform in (jax().jit, jax().vmap, jax().grad):
        with pytest.raises(TypeError, match=r"x1 is traced by JAX.*use sparseacc\.jax\.product"):
            transform(lambda x: RULE(x, np.ones(3, "f4")).sum())(jax().numpy.ones((2, 5)))


def test_a_tensor_on_no_device_is_one_error():
    with pytest.raises(ValueError, match=r"x1 \(torch.Tensor\)") as caught:
        RULE(torch().ones(4, 5, device="meta"), np.ones(3, "f4"))
    assert caught.value.__cause__ is not None


def test_out_of_torch(rng):
    _, _, _, x1, x2 = arrays(rng)
    big = torch().full((50, 12), 7.0)
    out = big[:, 1:11:2]
    assert RULE(torch().from_numpy(x1), x2, out=out) is out
    check(out.numpy(), Oracle(RULE, x1, x2).product())
    assert torch().all(big[:, ::2] == 7)
    array = np.zeros((50, 5), "f4")
    assert RULE(torch().from_numpy(x1), x2, out=array) is array
    assert RULE(x1, x2, out=out.contiguous()).shape == (50, 5)
    check(array, Oracle(RULE, x1, x2).product())


def test_out_of_torch_is_checked_as_numpys(rng):
    x1, x2 = torch().ones(4, 5), torch().ones(4, 3)
    for out, error, message in (
        (x1, ValueError, "out overlaps x1"),
        (torch().zeros(4, 4), ValueError, "out.shape"),
        (torch().zeros(4, 5).double(), TypeError, "out has dtype float64"),
        (torch().zeros(1, 5).expand(4, 5), ValueError, "out overlaps itself"),
    ):
        with pytest.raises(error, match=message):
            RULE(x1, x2, out=out)
    assert torch().all(x1 == 1)


def test_jax_arrays_are_never_written_to():
    x = jax().numpy.ones((4, 5))
    with pytest.raises(TypeError, match="out is a JAX array, which cannot be written to"):
        RULE(np.ones((4, 5), "f4"), np.ones((4, 3), "f4"), out=x)
    assert np.all(np.asarray(x) == 1)


def test_torch_tensors_whose_storage_was_resized_are_refused():
    """As FSDP leaves parameters. The rows after the first begin beyond the memory, not at NULL."""
    ones = torch().ones
    for first, left in ((0, 0), (2, 0), (0, 8), (0, 119)):
        memory = ones(6, 5)
        x, C = memory[first:], memory[first:].ravel()
        memory.untyped_storage().resize_(left)
        with pytest.raises(ValueError, match=r"x1 \(torch.Tensor\) has a size but no memory"):
            RULE(x, ones(3))
        with pytest.raises(ValueError, match=r"out \(torch.Tensor\) has a size but no memory"):
            RULE(ones(len(x), 5), ones(3), out=x)
        with pytest.raises(ValueError, match=r"C \(torch.Tensor\) has a size but no memory"):
            sparseacc.accumulate(ones(2), ones(2), [0] * len(C), 1, [0] * len(C), [0] * len(C), C)
    x = ones(6, 5)
    x.untyped_storage().resize_(60)
    assert torch().equal(RULE(x[:3], ones(3)), RULE(ones(3, 5), ones(3)))
    with pytest.raises(ValueError, match=r"x1 .* has a size but no memory"):
        RULE(torch()._efficientzerotensor(4, 5), ones(3))


def test_more_dimensions_than_numpy_has_are_one_error():
    with pytest.raises(ValueError, match=r"x1 cannot be made an array: .*dimension"):
        RULE(torch().ones(*[1] * 70, 5), torch().ones(3))


def test_a_list_of_tensors_that_require_gradients_is_one_error():
    x = [torch().ones(5, requires_grad=True)] * 4
    for call in (lambda: RULE(x, np.ones(3)), lambda: sparseacc.accumulate(x, np.ones(3), [0], 1, [0], [0], [1.0])):
        with pytest.raises(TypeError, match=r"x1 cannot be made an array: .*requires grad"):
            call()


def test_arrays_of_other_kinds_are_one_error():
    """Sparse ones, and those with units."""
    x1, x2 = np.ones((4, 5)), np.ones((4, 3))
    sparse = pytest.importorskip("sparse", reason="sparse is not installed")
    with pytest.raises(TypeError, match=r"x1 cannot be made an array: .*sparse array"):
        RULE(sparse.COO.from_numpy(x1), x2)
    with pytest.raises(TypeError, match=r"array cannot be made an array: .*sparse array"):
        sparseacc.Rule.from_dense(sparse.COO.from_numpy(np.ones((1, 1, 1))))
    pint = pytest.importorskip("pint", reason="pint is not installed")
    metre = pint.UnitRegistry().metre
    for name, call in {
        "x2": lambda: RULE(x1, x2 * metre),
        "x1": lambda: sparseacc.accumulate(x1 * metre, x2, [0], 1, [0], [0], [1.0]),
        "out": lambda: RULE(x1, x2, out=np.ones((4, 5)) * metre),
        "C": lambda: sparseacc.Rule([0], [0], [0], [1.0] * metre, (1, 1, 1)),
    }.items():
        with pytest.raises(TypeError, match=f"^{name} has units"):
            call()


def test_importing_the_package_imports_no_framework():
    modules = ("torch", "jax", "jaxlib", "cupy", "dask", "ml_dtypes")
    code = f"import sys, sparseacc; print([m for m in {modules} if m in sys.modules])"
    use = "; import numpy; sparseacc.clebsch_gordan(1, 1, 1).vjp(*numpy.ones((3, 3)))"
    for program in (code, code.replace("; print", use + "; print")):
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"


def test_frameworks_are_used_in_turn_and_in_threads(rng):
    makers = [np.array, *(framework().array for framework in FRAMEWORKS)]
    _, _, dy, x1, x2 = arrays(rng, rows=20_000)
    product, (dx1, _) = RULE(x1, x2), RULE.vjp(dy, x1, x2)

    def use(turn):
        make = makers[turn % len(makers)]
        a, b = make(x1), make(x2)
        return np.array_equal(np.asarray(RULE(a, b)), product) and np.array_equal(
            np.asarray(RULE.vjp(make(dy), a, b)[0]), dx1
        )

    assert all(map(use, range(6)))
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(use, range(60)))
