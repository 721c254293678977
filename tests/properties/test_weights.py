"""Weights of paths: the product and its derivatives with a third factor, against the oracle and against products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle, check, wide
from strategies import DTYPES, dtypes, laid_out, numbers, operands, rules, weights

import sparseacc
from sparseacc.schedule import quads


def three_operands(data, rule, dtype):
    """x1, x2 and weights, an axis that they have, an oracle, and random numbers."""
    x1, x2, axis, rng = operands(data, rule, dtype)
    w = weights(data, rule, dtype, x1, x2, axis, rng)
    return x1, x2, w, axis, Oracle(rule, x1, x2, axis, dtype, w), rng


def tangents(data, rng, dtype, *arrays):
    return [data.draw(st.one_of(st.none(), laid_out(numbers(rng, a.shape, dtype)))) for a in arrays]


@given(st.data(), rules(most_paths=4), dtypes)
def test_product_is_within_the_bound(data, rule, dtype):
    x1, x2, w, axis, oracle, _ = three_operands(data, rule, dtype)
    result = rule(x1, x2, w, axis=axis)
    assert result.dtype == dtype
    check(result, oracle.product())


@given(st.data(), rules(most_paths=4), dtypes)
def test_vjp_is_within_the_bound(data, rule, dtype):
    x1, x2, w, axis, oracle, rng = three_operands(data, rule, dtype)
    dy = data.draw(laid_out(numbers(rng, oracle.product()[0].shape, dtype)))
    wrt = data.draw(st.sets(st.integers(0, 2)))
    gradients = rule.vjp(dy, x1, x2, w, axis=axis, wrt=wrt)
    for i, (gradient, expected, x) in enumerate(zip(gradients, oracle.vjp(dy), (x1, x2, w), strict=True)):
        assert (gradient is not None) == (i in wrt)
        if i in wrt:
            assert gradient.dtype == dtype
            check(gradient, expected, x.shape)


@given(st.data(), rules(most_paths=4), dtypes)
def test_jvp_is_within_the_bound(data, rule, dtype):
    x1, x2, w, axis, oracle, rng = three_operands(data, rule, dtype)
    dx1, dx2, dw = tangents(data, rng, dtype, x1, x2, w)
    check(rule.jvp(x1, x2, dx1, dx2, w, dw, axis=axis), oracle.jvp(dx1, dx2, dw))


@given(st.data(), rules(most_paths=4), dtypes)
def test_vjp_vjp_is_within_the_bound(data, rule, dtype):
    x1, x2, w, axis, oracle, rng = three_operands(data, rule, dtype)
    dy = data.draw(laid_out(numbers(rng, oracle.product()[0].shape, dtype)))
    z1, z2, zw = tangents(data, rng, dtype, x1, x2, w)
    results = rule.vjp_vjp(z1, z2, dy, x1, x2, w, zw, axis=axis)
    for result, expected, x in zip(results, oracle.vjp_vjp(z1, z2, dy, zw), (dy, x1, x2, w), strict=True):
        assert result.dtype == dtype
        check(result, expected, x.shape)


@given(st.data(), rules(most_paths=4), dtypes)
def test_coefficient_vjp_is_within_the_bound(data, rule, dtype):
    x1, x2, w, axis, oracle, rng = three_operands(data, rule, dtype)
    dy = data.draw(laid_out(numbers(rng, oracle.product()[0].shape, dtype)))
    result = rule.coefficient_vjp(dy, x1, x2, w, axis=axis)
    assert result.dtype == dtype
    check(result, oracle.coefficient_vjp(dy))


def side_by_side(*degrees, rows_out=None):
    """Couplings as paths of one rule, each into outputs of its own or all into the same."""
    parts, n1, n2, n_out = [], 0, 0, 0
    for n, (l1, l2, l3) in enumerate(degrees):
        one = sparseacc.clebsch_gordan(l1, l2, l3)
        begin = n_out if rows_out is None else 0
        parts.append((one.m1 + l1**2, one.m2 + l2**2, one.mu + begin, one.C, np.full(one.nnz, n)))
        n1, n2, n_out = max(n1, (l1 + 1) ** 2), max(n2, (l2 + 1) ** 2), begin + 2 * l3 + 1
    m1, m2, mu, C, path = map(np.concatenate, zip(*parts))
    return sparseacc.Rule(m1, m2, mu, C, (n1, n2, n_out), path=path)


OWN = side_by_side((0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2))
SHARED = side_by_side((0, 2, 2), (1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2), rows_out=5)


def everything(rule, x1, x2, w, axis=-1):
    y = rule(x1, x2, w, axis=axis)
    dy = (y / 4).astype(y.dtype)
    z1, z2, zw = (np.flip(x, axis) for x in (x1, x2, w))
    return (
        y,
        *rule.vjp(dy, x1, x2, w, axis=axis),
        rule.jvp(x1, x2, z1, z2, w, zw, axis=axis),
        *rule.vjp_vjp(z1, z2, dy, x1, x2, w, zw, axis=axis),
        rule.coefficient_vjp(dy, x1, x2, w, axis=axis),
    )


def expected_of_everything(rule, y, x1, x2, w, axis=-1):
    oracle = Oracle(rule, x1, x2, axis, y.dtype, w)
    dy = (y / 4).astype(y.dtype)
    z1, z2, zw = (np.flip(x, axis) for x in (x1, x2, w))
    return (
        oracle.product(),
        *oracle.vjp(dy),
        oracle.jvp(z1, z2, zw),
        *oracle.vjp_vjp(z1, z2, dy, zw),
        oracle.coefficient_vjp(dy),
    )


@pytest.mark.parametrize("rule", [OWN, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", ["edges paths channels", "edges paths 1", "paths channels", "paths 1"], ids=lambda s: s.replace(" ", "-")
)
def test_weights_of_edges_and_channels(instruction_set, rule, dtype, shape, rng):
    """As models have them: x of every edge and channel, y of every edge."""
    edges, channels = 7, 33
    sizes = {"edges": edges, "paths": rule.num_paths, "channels": channels, "1": 1}
    x1, x2 = numbers(rng, (edges, rule.shape[0], channels), dtype), numbers(rng, (edges, rule.shape[1], 1), dtype)
    w = numbers(rng, [sizes[each] for each in shape.split()], dtype)
    results = everything(rule, x1, x2, w, axis=-2)
    expected = expected_of_everything(rule, results[0], x1, x2, w, axis=-2)
    for result, value in zip(results, expected, strict=True):
        check(result, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [(1,), (63,), (300,), (3, 50)], ids=str)
def test_every_instruction_set_is_within_the_bound(instruction_set, dtype, batch, rng):
    x1, x2, w = (numbers(rng, (*batch, n), dtype) for n in (*OWN.shape[:2], OWN.num_paths))
    results = everything(OWN, x1, x2, w)
    expected = expected_of_everything(OWN, results[0], x1, x2, w)
    for result, value in zip(results, expected, strict=True):
        check(result, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_power_of_two_data_are_exact(instruction_set, dtype, rng):
    """As for the product; sums over the 4 broadcast entries stay within the 8 bits of bfloat16 as well."""
    m1, m2, mu, path = (rng.permutation(np.arange(12) % n) for n in (9, 8, 10, 7))
    rule = sparseacc.Rule(m1, m2, mu, 2.0 ** rng.integers(0, 2, 12), (9, 8, 10), path=path)
    x1, z1 = np.exp2(rng.integers(0, 2, (2, 30, 4, 9)))
    x2, z2 = np.exp2(rng.integers(0, 2, (2, 30, 1, 8)))
    w, zw = np.exp2(rng.integers(0, 2, (2, 30, 4, 7)))
    dy = np.exp2(rng.integers(0, 2, (30, 4, 10)))
    oracle = Oracle(rule, x1, x2, weights=w)
    z1, z2, zw, dy, x1, x2, w = (a.astype(dtype) for a in (z1, z2, zw, dy, x1, x2, w))
    results = (rule(x1, x2, w), *rule.vjp(dy, x1, x2, w), *rule.vjp_vjp(z1, z2, dy, x1, x2, w, zw))
    expected = (oracle.product(), *oracle.vjp(dy), *oracle.vjp_vjp(z1, z2, dy, zw))
    for result, (value, _) in zip(results, expected, strict=True):
        assert np.array_equal(wide(result), value)


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", ["f4", "c16", "f2"])
@pytest.mark.parametrize(
    "batches", [((9000,), (9000,), (9000,)), ((90, 100), (90, 1), (100,)), ((9000,), (), ())], ids=str
)
def test_results_do_not_depend_on_the_number_of_threads(dtype, batches, rng):
    sizes = (*OWN.shape[:2], OWN.num_paths)
    arrays = [(numbers(rng, (*batch, n), dtype) / 8).astype(dtype) for batch, n in zip(batches, sizes, strict=True)]
    sparseacc.set_num_threads(1)
    expected = everything(OWN, *arrays)
    for threads in (2, 5):
        sparseacc.set_num_threads(threads)
        assert same(everything(OWN, *arrays), expected), threads


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2"])
@pytest.mark.parametrize("axis", [0, -1])
def test_results_do_not_depend_on_where_the_batch_is_cut(instruction_set, dtype, axis, rng):
    arrays = [numbers(rng, (300, n), dtype) for n in (*SHARED.shape[:2], SHARED.num_paths)]

    def computed(part):
        found = everything(SHARED, *(np.moveaxis(a[part].copy(), -1, axis) for a in arrays), axis)
        return [np.moveaxis(result, axis, -1) for result in found[:-1]]

    whole = computed(slice(None))
    for cut in (1, 15, 64, 255):
        pieces = zip(computed(slice(0, cut)), computed(slice(cut, None)), strict=True)
        assert same([np.concatenate(p) for p in pieces], whole), cut


@pytest.mark.parametrize("steps", [0, 1, 50])
def test_a_search_for_quads_that_ends_early_changes_no_result(steps, monkeypatch, rng):
    """Complex terms are quads without a search, also where an imaginary number multiplies their sum."""
    monkeypatch.setattr(quads, "_MOST_STEPS", steps)
    sparseacc.cache_clear()
    x1, x2, w = (numbers(rng, (20, n), "c8") for n in (*SHARED.shape[:2], SHARED.num_paths))
    results = everything(SHARED, x1, x2, w)
    for result, value in zip(results, expected_of_everything(SHARED, results[0], x1, x2, w), strict=True):
        check(result, value)


def test_a_path_is_scaled_by_its_weight_alone(rng):
    """An infinite weight of one path leaves the outputs of others finite; zero takes a path away."""
    x1, x2 = rng.normal(size=(20, OWN.shape[0])), rng.normal(size=(20, OWN.shape[1]))
    for path in range(OWN.num_paths):
        w = np.ones(OWN.num_paths)
        w[path] = np.inf
        own = np.unique(OWN.mu[OWN.path == path])
        finite = np.isfinite(OWN(x1, x2, w))
        assert not finite[:, own].any()
        assert np.delete(finite, own, axis=1).all()
        w[path] = 0
        assert not OWN(x1, x2, w)[:, own].any()


def test_no_weights_are_all_ones(rng):
    x1, x2 = rng.normal(size=(20, SHARED.shape[0])), rng.normal(size=(20, SHARED.shape[1]))
    ones = np.ones((20, SHARED.num_paths))
    oracle = Oracle(SHARED, x1, x2)
    check(SHARED(x1, x2), oracle.product())
    check(SHARED(x1, x2, ones), oracle.product())
    for result, without, expected in zip(
        SHARED.vjp(x1[:, :5], x1, x2, ones), SHARED.vjp(x1[:, :5], x1, x2), oracle.vjp(x1[:, :5])
    ):
        check(result, expected)
        check(without, expected)


def test_terms_of_several_paths_that_repeat_keep_their_weights():
    rule = sparseacc.Rule([0, 0, 0], [0, 0, 0], [0, 0, 0], [1.0, 2.0, 4.0], (1, 1, 1), path=[0, 1, 0])
    assert rule([1.0], [1.0], [1.0, 100.0]) == 205.0
    assert rule([1.0], [1.0]) == 7.0


def test_the_default_of_wrt_is_all_that_there_are(rng):
    x1, x2, w, dy = (rng.normal(size=(4, n)) for n in (*OWN.shape[:2], OWN.num_paths, OWN.shape[2]))
    assert len(OWN.vjp(dy, x1, x2)) == 2
    assert all(gradient is not None for gradient in OWN.vjp(dy, x1, x2, w))
    assert [gradient is None for gradient in OWN.vjp(dy, x1, x2, w, wrt=(0, 1))] == [False, False, True]
    assert [gradient is None for gradient in OWN.vjp(dy, x1, x2, w, wrt=2)] == [True, True, False]
    assert [len(OWN.vjp_vjp(x1, None, dy, x1, x2, *given)) for given in ([], [w])] == [3, 4]


def test_weights_may_be_more_rows_than_both_inputs_have(rng):
    w = rng.normal(size=(5, 1, OWN.num_paths))
    x1, x2 = rng.normal(size=OWN.shape[0]), rng.normal(size=(3, OWN.shape[1]))
    y = OWN(x1, x2, w)
    assert y.shape == (5, 3, OWN.shape[2])
    check(y, Oracle(OWN, x1, x2, weights=w).product())
    for gradient, x in zip(OWN.vjp(y, x1, x2, w), (x1, x2, w), strict=True):
        assert gradient.shape == x.shape


def test_out_takes_a_weighted_product(rng):
    x1, x2, w = (rng.normal(size=(70, n)) for n in (*OWN.shape[:2], OWN.num_paths))
    out = np.empty((70, OWN.shape[2]))
    assert OWN(x1, x2, w, out=out) is out
    assert np.array_equal(out, OWN(x1, x2, w))
    buffer = rng.normal(size=(70, 40))
    with pytest.raises(ValueError, match="out overlaps weights"):
        OWN(x1, x2, buffer[:, : OWN.num_paths], out=buffer[:, 1 : 1 + OWN.shape[2]])


def test_mixed_dtypes_promote_with_the_weights(rng):
    x1, x2, w = (rng.normal(size=(9, n)) for n in (*OWN.shape[:2], OWN.num_paths))
    assert OWN(x1.astype("f4"), x2.astype("f4"), w.astype("f4")).dtype == np.float32
    assert OWN(x1.astype("f4"), x2.astype("f4"), w).dtype == np.float64
    assert OWN(x1.astype("f4"), x2.astype("f4"), w.astype("c8")).dtype == np.complex64
    assert OWN(x1.tolist(), x2.tolist(), w.tolist()).dtype == np.float64


def test_a_rule_of_many_paths_is_written_in_proportional_time():
    """Where the time is quadratic in the paths it is minutes."""
    k = np.arange(40_000)
    rule = sparseacc.Rule(k, k % 10, k, np.ones(len(k)), (len(k), 10, len(k)), path=k)
    x = np.ones((2, len(k)), np.float32)
    assert rule(x, x[:, :10], x).sum() == 2 * len(k)
    assert all(np.all(g) for g in rule.vjp_vjp(x, x[:, :10], x, x, x[:, :10], x, x))


X1, X2, DY, W = np.ones((4, 1)), np.ones((4, 1)), np.ones((4, 2)), np.ones((4, 2))
TWO = sparseacc.Rule([0, 0], [0, 0], [0, 1], [1.0, 1.0], (1, 1, 2), path=[0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TWO(X1, X2, np.ones((4, 3))), ValueError, "weights has length 3 along axis -1, but the rule needs 2"),
        (lambda: TWO(X1, X2, 1.0), ValueError, "weights is one number"),
        (lambda: TWO(X1, X2, W.astype(object)), TypeError, "weights .* has dtype object"),
        (lambda: TWO(X1, X2, np.ma.masked_array(W, W > 0)), TypeError, "weights is a masked array"),
        (
            lambda: TWO(X1, X2, np.ones((5, 2))),
            ValueError,
            r"x1, x2 and weights do not broadcast: .* \(4, 1\), \(4, 1\) and \(5, 2\), .* -1 \(4,\), \(4,\) and \(5,\)",
        ),
        (lambda: TWO.vjp(np.ones((4, 1)), X1, X2, W), ValueError, "dy has length 1"),
        (
            lambda: TWO.vjp(np.ones((3, 2)), X1, X2, W),
            ValueError,
            r"dy.shape is \(3, 2\).*product of x1 and x2 and weights",
        ),
        (
            lambda: TWO.vjp(DY, X1, X2, W, wrt=3),
            ValueError,
            r"wrt may hold 0 \(x1\), 1 \(x2\) and 2 \(weights\), not 3",
        ),
        (lambda: TWO.vjp(DY, X1, X2, wrt=2), ValueError, "not 2: 2 is for weights, which are not given"),
        (lambda: TWO.vjp(DY, X1, X2, wrt=(0, 2)), ValueError, "2 is for weights, which are not given"),
        (lambda: TWO.jvp(X1, X2, X1, X2, None, W), ValueError, "dweights is given, but weights are not"),
        (lambda: TWO.jvp(X1, X2, X1, X2, W, np.ones((3, 2))), ValueError, r"dweights.shape is \(3, 2\).*of weights"),
        (lambda: TWO.vjp_vjp(X1, X2, DY, X1, X2, None, W), ValueError, "zw is given, but weights are not"),
        (lambda: TWO.vjp_vjp(X1, X2, DY, X1, X2, W, np.ones(2)), ValueError, r"zw.shape is \(2,\).*that of weights"),
        (lambda: TWO.coefficient_vjp(DY, X1, X2, np.ones((4, 3))), ValueError, "weights has length 3"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
