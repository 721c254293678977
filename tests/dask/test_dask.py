"""Operations on Dask arrays are lazy, and what they compute is what NumPy arrays give, whatever the chunks are."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle, check
from strategies import DTYPES, dtypes, numbers, operands, rules, weights
from weighted import RULE, SHAPES

import sparseacc

dask = pytest.importorskip("dask", reason="Dask is not installed")
da = pytest.importorskip("dask.array", reason="Dask is not installed")

import sparseacc.dask  # noqa: E402 - where there is Dask


@pytest.fixture(autouse=True)
def _in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def chunked(data, array, axis):
    """The array in any chunks, whole along the axis; or as it is."""
    if array is None or data.draw(st.sampled_from([False, False, False, True])):
        return array
    chunks = [max(-(-n // data.draw(st.integers(1, 3))), 1) for n in array.shape]
    chunks[axis] = -1
    return da.from_array(array, chunks=tuple(chunks))


def everything(rule, arrays, axis):
    """All operations: the outputs that are of rows, and those that may sum over them."""
    x1, x2, dy, z1, z2, w, zw = arrays
    given = (w, zw) if w is not None else ()
    ddy, *second = rule.vjp_vjp(z1, z2, dy, x1, x2, *given, axis=axis)
    of_rows = [rule(x1, x2, w, axis=axis), rule.jvp(x1, x2, z1, z2, *given, axis=axis), ddy]
    return of_rows, [*rule.vjp(dy, x1, x2, w, axis=axis), *second, rule.coefficient_vjp(dy, x1, x2, w, axis=axis)]


def drawn(data, rule, dtype, weighted):
    """x1, x2, dy, z1, z2, and weights and zw or None, in any layout, and the axis."""
    x1, x2, axis, rng = operands(data, rule, dtype)
    w = weights(data, rule, dtype, x1, x2, axis, rng) if weighted else None
    y = rule(x1, x2, w, axis=axis)
    dy, z1, z2 = (numbers(rng, like.shape, dtype) for like in (y, x1, x2))
    return [x1, x2, dy, z1, z2, w, numbers(rng, w.shape, dtype) if weighted else None], axis


@settings(max_examples=25)
@given(st.data(), rules(most_paths=3), dtypes, st.booleans())
def test_results_are_those_of_numpy_arrays_for_any_chunks_axis_and_broadcasting(data, rule, dtype, weighted):
    """Bitwise, where nothing is summed over chunks; and within the bound where gradients are."""
    arrays, axis = drawn(data, rule, dtype, weighted)
    lazy = [chunked(data, array, axis) for array in arrays]
    if not any(isinstance(array, da.Array) for array in lazy[:3]):
        lazy[0] = da.from_array(lazy[0], chunks=lazy[0].shape)
    x1, x2, dy, z1, z2, w, zw = arrays
    (of_rows, sums), (expected, local) = everything(rule, lazy, axis), everything(rule, arrays, axis)
    results = dask.compute(*of_rows, *sums)
    for result, promised, value in zip(results, [*of_rows, *sums], [*expected, *local], strict=True):
        assert type(result) is np.ndarray
        assert (result.shape, result.dtype) == (promised.shape, promised.dtype) == (value.shape, value.dtype)
    for result, value in zip(results, expected):
        assert result.tobytes() == value.tobytes()
    oracle = Oracle(rule, x1, x2, axis, dtype, w)
    second = oracle.vjp_vjp(z1, z2, dy, zw)[1:] if weighted else oracle.vjp_vjp(z1, z2, dy)[1:3]
    bounded = [*oracle.vjp(dy)[: 3 if weighted else 2], *second, oracle.coefficient_vjp(dy)]
    for result, value in zip(results[len(of_rows) :], bounded, strict=True):
        check(result, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_rows_are_bitwise_those_of_numpy_arrays(rng, dtype, axis):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    x1, x2, dy = (np.moveaxis(numbers(rng, (40, 7, n), dtype), -1, axis) for n in rule.shape)
    rows = [d for d in range(3) if d != axis % 3]
    lazy = [da.from_array(x, chunks={d: n}) for x, d, n in zip((dy, x1, x2), (*rows, rows[0]), (3, 4, 9))]
    lazy = [x.rechunk({axis: -1}) for x in lazy]
    for result, value in zip(dask.compute(*rule.vjp(*lazy, axis=axis)), rule.vjp(dy, x1, x2, axis=axis)):
        assert result.tobytes() == value.tobytes()


@pytest.mark.parametrize("rows", [2, -1])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_function_is_the_method_and_its_result_has_the_chunks_of_the_batch(rng, shapes, rows):
    x1, x2, w = (da.from_array(rng.normal(size=shape), chunks=(*[rows] * (len(shape) - 1), -1)) for shape in shapes)
    y = sparseacc.dask.product(RULE, x1, x2, w)
    assert isinstance(y, da.Array)
    assert y.chunks == (*(x1[..., :1] * x2[..., :1] * w[..., :1]).chunks[:-1], (4,))
    assert y.name == RULE(x1, x2, w).name
    assert np.array_equal(y.compute(), RULE(*dask.compute(x1, x2, w)))
    assert np.array_equal(sparseacc.dask.product(RULE, *dask.compute(x1, x2, w)).compute(), y.compute())


def test_nothing_is_computed_before_it_is_asked_for():
    asked = []

    def ask(block):
        asked.append(block.shape)
        return block

    x = da.ones((8, 3), chunks=(2, 3)).map_blocks(ask, meta=np.empty((0, 0)))
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    y = rule(x, x)
    rule.vjp(y, x, np.ones(3))
    assert asked == []
    y[:2].compute()
    assert asked == [(2, 3)]


def test_a_product_of_what_is_computed_is_one_task_a_chunk(rng):
    """Dask makes one task of it and what comes before and after: no chunk waits in memory for the rest."""
    x1, x2 = (da.from_array(rng.normal(size=(40, n)), chunks=(10, n)) + 1 for n in (3, 5))
    rule = sparseacc.clebsch_gordan(1, 2, 3)
    graph = dict(dask.optimize(rule(x1, x2) * 2)[0].dask)
    inputs = {key for key in graph if "array-" in str(key) or "Rule-" in str(key)}
    assert len(graph) - len(inputs) == 4


def test_gradients_that_nobody_wants_are_not_computed(rng):
    rule = sparseacc.clebsch_gordan(1, 1, 1)
    x = da.from_array(rng.normal(size=(6, 3)), chunks=(2, 3))
    dx1, dx2 = rule.vjp(x, x, x, wrt=1)
    assert dx1 is None
    assert np.array_equal(dx2.compute(), rule.vjp(x.compute(), x.compute(), x.compute(), wrt=1)[1])


@pytest.mark.parametrize("dtype", ["f2", "f4", "c8"])
def test_sums_over_chunks_are_rounded_once(dtype):
    """Parts whose sum the dtype holds may be beyond its range, and a small one is not lost beside a large."""
    largest = float(np.finfo(dtype).max)
    rows = np.array([largest, largest, -largest, -largest] if dtype == "f2" else [1, 2.0**-24, 2.0**-24, -1], dtype)
    rule = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))
    dy = da.from_array(rows[:, None], chunks=(2 if dtype == "f2" else 1, 1))
    dx2 = rule.vjp(dy, np.ones((4, 1), dtype), np.ones(1, dtype))[1].compute()
    assert dx2.dtype == dtype
    assert dx2[0] == (0 if dtype == "f2" else 2.0**-23)


def test_sums_beyond_the_range_are_infinite_without_a_warning():
    rule = sparseacc.Rule([0], [0], [0], [1.0], (1, 1, 1))
    for value, dtype in ((65504, "f2"), (3e38, "f4"), (1.7e308, "f8")):
        dy = da.full((4, 1), value, chunks=1, dtype=dtype)
        assert np.isposinf(rule.vjp(dy, np.ones((4, 1), dtype), np.ones(1, dtype))[1].compute()).all()


TOKENS = """
import pickle, sys
import dask, dask.array as da, numpy as np, sparseacc
from dask.base import tokenize

with dask.config.set({"tokenize.ensure-deterministic": True}):
    rule = sparseacc.tensor_product("2x0e + 2x1o", "0e + 1o")
    x1, x2 = da.ones((8, rule.shape[0], 2), chunks=(2, -1, -1)), da.ones((8, 4, 1), chunks=(4, -1, -1))
    y = rule(x1, x2, axis=-2)
    again = pickle.loads(pickle.dumps(rule))
    assert tokenize(rule) == tokenize(again) and again(x1, x2, axis=-2).name == y.name
    print(tokenize(rule), y.name, *(x.name for x in rule.vjp(y, x1, x2[0], axis=-2)))
"""


def test_tokens_are_those_of_any_other_process():
    command = [sys.executable, "-c", TOKENS]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert len(first.split()) == 4
    assert first == second


def test_tokens_tell_rules_axes_and_arrays_apart(rng):
    one, other = sparseacc.clebsch_gordan(1, 1, 1), sparseacc.clebsch_gordan(1, 1, 1, convention="e3nn")
    x = da.from_array(rng.normal(size=(3, 3)), chunks=(3, 3))
    names = {y.name for y in (one(x, x), other(x, x), one(x, x, axis=0), one(x, x + 1))}
    assert len(names) == 4
    alike = sparseacc.tensor_product("1o", "1o", "1e")
    plain = sparseacc.Rule(alike.m1, alike.m2, alike.mu, alike.C, alike.shape)
    assert plain == alike
    assert dask.base.tokenize(plain) != dask.base.tokenize(alike)


def test_a_rule_is_one_node_of_a_graph(rng):
    """Tasks name it: it is sent to a worker once, not with each of its chunks."""
    rule = sparseacc.clebsch_gordan(3, 3, 3)
    x = da.from_array(rng.normal(size=(30, 7)), chunks=(1, 7))
    graph = dict(dask.optimize(rule(x, x))[0].dask)
    assert sum(rule.C.tobytes() in pickle.dumps(node) for node in graph.values()) == 1


def test_bad_arrays_are_one_error_that_says_what_to_do(rng):
    rule = sparseacc.clebsch_gordan(1, 1, 2)
    x = da.from_array(rng.normal(size=(6, 3)), chunks=(2, 3))
    with pytest.raises(ValueError, match=r"x1 is in chunks of \(2, 1\) along axis -1.*pass x1.rechunk\({-1: -1}\)"):
        rule(x.rechunk((6, 2)), x)
    with pytest.raises(ValueError, match=r"dy is in chunks of \(4, 1\) along axis 1"):
        rule.vjp(rule(x, x).rechunk({1: 4}), x, x, axis=1)
    with pytest.raises(ValueError, match=r"x2 has chunks of unknown sizes: call x2.compute_chunk_sizes\(\)"):
        rule(x, x[x[:, 0] > 0])
    with pytest.raises(TypeError, match="out cannot be given with Dask arrays"):
        rule(x, x, out=np.empty((6, 5)))
    with pytest.raises(ValueError, match=r"x1 and x2 do not broadcast: their shapes are \(5, 3\) and \(6, 3\)"):
        rule(x[:5], x)
    with pytest.raises(ValueError, match="x1 has length 2 along axis -1, but the rule needs 3"):
        rule(x[:, :2], x)
    with pytest.raises(TypeError, match="x1 has dtype bool"):
        rule(x > 0, x)
    with pytest.raises(TypeError, match="x2 is None"):
        rule(x, None)
    with pytest.raises(TypeError, match="x1 is a masked array"):
        rule(da.ma.masked_less(x, 0), x)
    with pytest.raises(np.exceptions.AxisError):
        rule(x, x, axis=2)
    with pytest.raises(ValueError, match=r"C\[0\] is 1e\+39, but float32 arrays are multiplied in float32"):
        sparseacc.Rule([0], [0], [0], [1e39], (3, 3, 1))(x.astype("f4"), x.astype("f4"))
    with pytest.raises(TypeError, match=r"rule must be a sparseacc.Rule, not str"):
        sparseacc.dask.product("rule", x, x)


def test_arrays_of_a_third_library_are_refused(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = da.from_array(rng.normal(size=(6, 3)), chunks=(2, 3))
    with pytest.raises(TypeError, match=r"x2 \(Tensor\) is among Dask arrays.*numpy.asarray\(x2\)"):
        sparseacc.clebsch_gordan(1, 1, 2)(x, torch.ones(3))
