"""Operations on CuPy arrays, on a device."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle, check, wide
from strategies import DTYPES, batches, dtypes, laid_out, numbers, rules

import sparseacc

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
from device import DEVICES, MARKS, to_device  # noqa: E402 - where there is CuPy

if DEVICES:
    from sparseacc.cuda import execution

pytestmark = MARKS


def everything(rule, z1, z2, dy, x1, x2, axis=-1):
    return (
        rule(x1, x2, axis=axis),
        *rule.vjp(dy, x1, x2, axis=axis),
        rule.jvp(x1, x2, z1, z2, axis=axis),
        *rule.vjp_vjp(z1, z2, dy, x1, x2, axis=axis),
        rule.coefficient_vjp(dy, x1, x2, axis=axis),
    )


def some(rng, rule, batch1, batch2, axis=-1, dtype="f4"):
    """z1, z2, dy, x1, x2."""
    x1, x2 = (np.moveaxis(numbers(rng, (*b, n), dtype), -1, axis) for b, n in zip((batch1, batch2), rule.shape))
    dy = numbers(rng, Oracle(rule, x1, x2, axis).product()[0].shape, dtype)
    return numbers(rng, x1.shape, dtype), numbers(rng, x2.shape, dtype), dy, x1, x2


def expected(rule, z1, z2, dy, x1, x2, axis, dtype):
    o = Oracle(rule, x1, x2, axis, dtype)
    return o.product(), *o.vjp(dy), o.jvp(z1, z2), *o.vjp_vjp(z1, z2, dy), o.coefficient_vjp(dy)


@settings(max_examples=30)
@given(st.data(), rules(), dtypes)
def test_everything_is_within_the_bound_for_any_rule_layout_axis_and_broadcasting(data, rule, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    batch1, batch2 = data.draw(batches())
    least = min(len(batch1), len(batch2))
    axis = data.draw(st.integers(-1 - least, least))
    arrays = [data.draw(laid_out(a)) for a in some(rng, rule, batch1, batch2, axis, dtype)]
    results = everything(rule, *map(to_device, arrays), axis=axis)
    for result, value in zip(results, expected(rule, *arrays, axis, dtype), strict=True):
        assert isinstance(result, cupy.ndarray)
        assert result.dtype == dtype
        check(result.get(), value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch1", "batch2", "axis"),
    [((300,), (300,), -1), ((5, 64), (5, 64), 1), ((129,), (129,), 0), ((9, 33), (9, 1), 1), ((200,), (), -1)],
    ids=str,
)
def test_every_dtype_and_layout_is_within_the_bound(dtype, batch1, batch2, axis, rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    arrays = some(rng, rule, batch1, batch2, axis if batch2 else -1, dtype)
    results = everything(rule, *map(to_device, arrays), axis=axis)
    for result, value in zip(results, expected(rule, *arrays, axis, dtype), strict=True):
        check(result.get(), value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_power_of_two_data_give_the_bits_of_numpy(dtype, rng):
    m1, m2, mu = (rng.permutation(np.arange(12) % n) for n in (9, 8, 10))
    rule = sparseacc.Rule(m1, m2, mu, 2.0 ** rng.integers(0, 2, 12), (9, 8, 10))
    arrays = [np.exp2(rng.integers(0, 2, (30, 4, n))).astype(dtype) for n in (9, 8, 10, 9, 8)]
    arrays[4] = arrays[1] = arrays[4][:, :1]
    for result, value in zip(everything(rule, *map(to_device, arrays))[:-1], everything(rule, *arrays), strict=False):
        assert np.array_equal(wide(result.get()), wide(value))


def test_runs_repeat_bitwise_and_pieces_equal_the_whole(rng):
    rule = sparseacc.clebsch_gordan(3, 2, 3)
    for batch2 in ((700,), ()):
        arrays = [to_device(a) for a in some(rng, rule, (700,), batch2)]
        one, two = everything(rule, *arrays), everything(rule, *arrays)
        assert all(cupy.array_equal(a, b) for a, b in zip(one, two))
    *_, x1, x2 = (to_device(a) for a in some(rng, rule, (700,), (700,)))
    pieces = [rule(x1[i : i + 33], x2[i : i + 33]) for i in range(0, 700, 33)]
    assert cupy.array_equal(cupy.concatenate(pieces), rule(x1, x2))


def test_out_takes_the_result_and_nothing_around_it(rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    *_, x1, x2 = (to_device(a) for a in some(rng, rule, (3, 40), (3, 40), 1))
    value = rule(x1, x2, axis=1)
    frame = cupy.full((3, 7, 83), 7, "f4")
    for out in (cupy.empty_like(value), frame[:, 1:6, 2:82:2], cupy.empty(value.shape[::-1], "f4").T):
        assert rule(x1, x2, axis=1, out=out) is out
        assert cupy.array_equal(out, value)
    frame[:, 1:6, 2:82:2] = 7
    assert bool((frame == 7).all())


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0), (2, 3, 4)])
@pytest.mark.parametrize("rows", [0, 100])
def test_empty_dimensions_and_no_terms_are_valid(shape, rows):
    rule = sparseacc.Rule([], [], [], [], shape)
    x1, x2 = cupy.ones((rows, shape[0])), cupy.ones(shape[1])
    dy = rule(x1, x2)
    assert dy.shape == (rows, shape[2])
    assert not dy.any()
    out = cupy.ones(dy.shape)
    assert not rule(x1, x2, out=out).any()
    assert [g.shape for g in rule.vjp(dy, x1, x2)] == [x1.shape, x2.shape]
    assert rule.coefficient_vjp(dy, x1, x2).shape == (0,)


def test_a_rule_with_terms_and_an_empty_batch_gives_zeros():
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    x1, x2 = cupy.ones((0, 3)), cupy.ones(3)
    dx1, dx2 = rule.vjp(cupy.ones((0, 3)), x1, x2)
    assert dx1.shape == (0, 3)
    assert cupy.array_equal(dx2, cupy.zeros(3))


@pytest.mark.parametrize(("one", "two", "result"), [("f4", "f8", "f8"), ("i4", "f4", "f8"), ("f2", "c8", "c8")])
def test_mixed_inputs_promote_as_numpy_does(one, two, result, rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    x1, x2 = rng.integers(0, 9, (40, 3)).astype(one), rng.integers(0, 9, (40, 5)).astype(two)
    found = rule(cupy.asarray(x1), cupy.asarray(x2))
    assert found.dtype == result
    np.testing.assert_allclose(found.get(), rule(x1, x2), rtol=1e-5, atol=1e-5)


def test_rules_too_wide_for_48_kilobytes_of_shared_memory(rng):
    rule = sparseacc.Rule(
        rng.integers(0, 300, 50), rng.integers(0, 2, 50), rng.integers(0, 100, 50), rng.normal(size=50), (300, 2, 100)
    )
    arrays = some(rng, rule, (70,), (70,))
    on_device = everything(rule, *map(cupy.asarray, arrays))
    kernels = [kernel.function for (digest, *_), kernel in execution._kernels.items() if digest == rule._digest]
    assert max(kernel.max_dynamic_shared_size_bytes for kernel in kernels) > 48 * 1024
    for result, right in zip(on_device, expected(rule, *arrays, -1, "f4")):
        check(result.get(), right)


def test_rules_read_from_a_table(rng, monkeypatch):
    sparseacc.cache_clear()
    monkeypatch.setattr(sparseacc.cuda.rows, "MOST_OPERATIONS", 10)
    rule = sparseacc.clebsch_gordan(2, 2, 3)
    for batch1, batch2, axis in (((70,), (70,), -1), ((3, 40), (3, 1), 1), ((70,), (), -1)):
        arrays = some(rng, rule, batch1, batch2, axis)
        for result, right in zip(
            everything(rule, *map(cupy.asarray, arrays), axis=axis), expected(rule, *arrays, axis, "f4")
        ):
            check(result.get(), right)


def test_accumulate_takes_cupy_arrays(rng):
    m1, m2, mu = (rng.integers(0, n, 30) for n in (4, 5, 6))
    C = rng.normal(size=30)
    x1, x2 = rng.normal(size=(4, 9)), rng.normal(size=(5, 9))
    result = sparseacc.accumulate(cupy.asarray(x1), cupy.asarray(x2), mu, 6, m1, m2, C, axis=0)
    check(result.get(), Oracle(sparseacc.Rule(m1, m2, mu, C, (4, 5, 6)), x1, x2, 0).product())


def test_rules_of_device_arrays_are_refused_by_name():
    x, indices = cupy.ones((3, 1)), [0]
    with pytest.raises(TypeError, match=r"m2 is on a GPU.*cupy.asnumpy\(m2\)"):
        sparseacc.Rule(indices, cupy.zeros(1, int), indices, [1.0], (1, 1, 1))
    with pytest.raises(TypeError, match="C is on a GPU"):
        sparseacc.accumulate(x, x, indices, 1, indices, indices, cupy.ones(1))


def test_info_lists_the_device():
    done = subprocess.run([sys.executable, "-m", "sparseacc", "info"], capture_output=True, text=True, check=True)
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    assert f"CPU, {name}" in done.stdout
    assert f"{cupy.__version__} (optional)" in done.stdout


BAD = {
    "length": lambda rule, xp, x: rule(x[:, :2], x),
    "batches": lambda rule, xp, x: rule(x[:3], x[:4]),
    "axis": lambda rule, xp, x: rule(x, x, axis=2),
    "axis type": lambda rule, xp, x: rule(x, x, axis=0.5),
    "bool": lambda rule, xp, x: rule(x > 0, x),
    "dy": lambda rule, xp, x: rule.vjp(x[:3], x, x),
    "tangent": lambda rule, xp, x: rule.jvp(x, x, x[:3], None),
    "wrt": lambda rule, xp, x: rule.vjp(x, x, x, wrt=(2,)),
    "out shape": lambda rule, xp, x: rule(x, x, out=xp.empty((9, 4))),
    "out dtype": lambda rule, xp, x: rule(x, x, out=xp.empty((9, 3), "f4")),
    "out overlap": lambda rule, xp, x: rule(x, x, out=x),
    "out in part": lambda rule, xp, x: rule(x[:-1], x[:-1], out=x[1:]),
    "missing": lambda rule, xp, x: rule.vjp(None, x, x),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gives_the_errors_of_numpy(what):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    with pytest.raises((TypeError, ValueError)) as host:
        BAD[what](rule, np, np.ones((9, 3)))
    x = cupy.ones((9, 3))
    with pytest.raises((TypeError, ValueError)) as device:
        BAD[what](rule, cupy, x)
    assert bool((x == 1).all())
    if what != "missing":
        assert (device.type, str(device.value)) == (host.type, str(host.value))


def test_out_that_interleaves_with_an_input_is_no_overlap(rng):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    both = cupy.asarray(rng.normal(size=(9, 6)))
    x = both[:, :3].copy()
    assert cupy.array_equal(rule(both[:, :3], x, out=both[:, 3:]), rule(x, x))


def test_host_and_device_arrays_do_not_mix():
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    host, device = np.ones((9, 3)), cupy.ones((9, 3))
    for call in (
        lambda: rule(host, device),
        lambda: rule(device, host),
        lambda: rule(device, device, out=host),
        lambda: rule(host, host, out=device),
        lambda: rule.vjp(device, device, [[1.0, 2.0, 3.0]] * 9),
    ):
        with pytest.raises(ValueError, match=r"not on the device: .*cupy\.asarray"):
            call()


@pytest.mark.skipif(DEVICES < 2, reason="one CUDA device")
def test_arrays_stay_on_their_device():
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    arrays = []
    for i in range(2):
        with cupy.cuda.Device(i):
            arrays.append(cupy.ones((9, 3)))
    for i, x in enumerate(arrays):
        assert rule(x, x).device.id == i
    with pytest.raises(ValueError, match="different devices"):
        rule(*arrays)


def test_kernels_run_on_the_current_stream(rng):
    """What a stream has been given before and after is seen in that order, without any wait in between."""
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    *_, x1, x2 = some(rng, rule, (3000,), (3000,))
    value = rule(x1, x2)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        a, b = cupy.zeros((3000, 5), "f4"), cupy.asarray(x2)
        a += cupy.asarray(x1)
        result = rule(a, b)
        a[...] = 0
        result += 1
        one, _ = rule.vjp(result, result, b[:1])
        one *= 0
    stream.synchronize()
    np.testing.assert_allclose(result.get(), value + 1, rtol=1e-5, atol=1e-5)
    assert not one.any()


def test_threads_share_a_rule_and_processes_get_a_copy(rng):
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    data = [rng.normal(size=(2, n, 7)) for n in (1, 50, 300) * 4]
    values = [rule(*x) for x in data]
    turn = threading.Lock()  # threads use what others made, but one at a time: drivers differ in what they allow

    def call(x):
        with turn:
            return rule(*map(cupy.asarray, x)).get()

    with ThreadPoolExecutor(4) as pool:
        for result, value in zip(pool.map(call, data), values, strict=True):
            np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-12)
    rule(cupy.ones((3, 7)), cupy.ones((3, 7)))
    code = (
        "import pickle, sys, cupy\n"
        "rule = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "x = cupy.ones((3, 7))\n"
        "print(float(rule(x, x).sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(rule).hex()], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(float(rule(np.ones((3, 7)), np.ones((3, 7))).sum()))


def test_a_second_process_compiles_nothing(tmp_path):
    code = "import cupy, sparseacc\nx = cupy.ones((3, 5))\nprint(sparseacc.clebsch_gordan(2, 2, 2)(x, x).sum())"
    found = []
    for _ in range(2):
        environment = {**os.environ, "CUPY_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        found.append({file.name: file.stat().st_mtime_ns for file in Path(tmp_path).iterdir()})
    assert found[0]
    assert found[0] == found[1]


UNALIGNED = """
import cupy, numpy as np, sparseacc

def unaligned(array):
    memory = cupy.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = cupy.asarray(np.frombuffer(array.tobytes(), np.uint8))
    return cupy.ndarray(array.shape, array.dtype, memory.data + 1)

rule, rng = sparseacc.clebsch_gordan(1, 2, 2), np.random.default_rng(0)
x1, x2, dy = (rng.integers(-8, 9, (50, n)).astype("f4") for n in rule.shape)
"""


def in_a_process_of_its_own(code):
    """A fault in a kernel loses the context, and all that is in it."""
    subprocess.run([sys.executable, "-c", UNALIGNED + code], check=True, timeout=300)


def test_unaligned_arrays_that_have_to_be_converted_are_read_safely():
    in_a_process_of_its_own(
        "for dtype in ('f2', 'f4', 'i2', 'i8', 'c8'):\n"
        "    for view in (np.s_[:], np.s_[::-2], np.s_[:1]):\n"
        "        a = x1.astype(dtype)\n"
        "        result = rule(unaligned(a)[view], cupy.asarray(x2[:1].astype('f8')))\n"
        "        assert np.allclose(result.get(), rule(a[view], x2[:1].astype('f8')), 1e-13, 1e-13), (dtype, view)\n"
        "a, b = rule.vjp(unaligned(dy), cupy.asarray(x1.astype('f8')), unaligned(x2))\n"
        "c, d = rule.vjp(dy.astype('f8'), x1.astype('f8'), x2.astype('f8'))\n"
        "assert np.allclose(a.get(), c, 1e-13, 1e-13) and np.allclose(b.get(), d, 1e-13, 1e-13)\n"
    )


def test_a_rule_without_terms_writes_zeros_to_an_unaligned_out():
    in_a_process_of_its_own(
        "whole = unaligned(np.ones((50, 2), 'f4'))\n"
        "out = whole[::2]\n"
        "empty = sparseacc.Rule([], [], [], [], (3, 5, 2))\n"
        "assert empty(cupy.asarray(x1[::2]), cupy.asarray(x2[::2]), out=out) is out\n"
        "written = np.frombuffer(cupy.ndarray(400, 'u1', whole.data).get().tobytes(), 'f4').reshape(25, 2, 2)\n"
        "assert np.array_equal(written, np.ones((25, 2, 2)) * [[0], [1]])\n"
    )


class OnDevice:
    """An array as numba has them: with an interface for the device, and one for the host that copies."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__

    def __array__(self, *arguments, **keywords):
        raise AssertionError("copied to the host")


def test_arrays_that_have_only_cudas_interface_are_taken_as_cupy_takes_them(rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    z1, z2, dy, x1, x2 = map(cupy.asarray, some(rng, rule, (50,), (50,)))
    for wrapped in ((OnDevice,) * 5, (OnDevice, cupy.asarray) * 2 + (OnDevice,)):
        given = [wrap(array) for wrap, array in zip(wrapped, (z1, z2, dy, x1, x2))]
        for result, one in zip(everything(rule, *given), everything(rule, z1, z2, dy, x1, x2)):
            assert isinstance(result, cupy.ndarray)
            assert cupy.array_equal(result, one)
    columns = [np.asarray(c) for c in (rule.m1, rule.m2, rule.C)]
    result = sparseacc.accumulate(OnDevice(x1), OnDevice(x2), rule.mu, 5, *columns)
    assert cupy.array_equal(result, rule(x1, x2))
    out = OnDevice(cupy.full((50, 5), np.nan, "f4"))
    assert rule(OnDevice(x1), OnDevice(x2), out=out) is out
    assert cupy.array_equal(out.array, rule(x1, x2))
    with pytest.raises(ValueError, match="x2 is not on the device"):
        rule(OnDevice(x1), x2.get())
    with pytest.raises(ValueError, match="out overlaps x2"):
        rule(OnDevice(x1), OnDevice(x2), out=OnDevice(x2))
    with pytest.raises(TypeError, match="C is on a GPU"):
        sparseacc.Rule([0], [0], [0], OnDevice(cupy.ones(1)), (1, 1, 1))
