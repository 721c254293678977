"""Whole tensor products beside e3nn's and e3nn-jax's: in their order, by their weights, with their gradients."""

import itertools

import numpy as np
import pytest
from by_terms import loop
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import HARMONICS, irreps

import sparseacc
from sparseacc import from_channels, tensor_product, to_channels


@pytest.fixture(scope="module")
def o3():
    """e3nn, in double precision."""
    torch = pytest.importorskip("torch", reason="e3nn is made of torch")
    pytest.importorskip("e3nn", reason="e3nn is the reference")
    from e3nn import o3

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield o3
    torch.set_default_dtype(dtype)


def compare(rule, tp, rng, weighted=True):
    """Flat arrays through e3nn's product, and the same numbers through the rule."""
    import torch

    x, y, w = (rng.normal(size=(3, n)) for n in (tp.irreps_in1.dim, tp.irreps_in2.dim, tp.weight_numel))
    arrays = (x, y, w) if weighted else (x, y)
    expected = tp(*map(torch.from_numpy, arrays)).numpy()
    weights = w.reshape(3, rule.num_paths, rule.channels) if weighted else np.ones((rule.num_paths, 1))
    rows = loop(
        rule,
        to_channels(x, rule.irreps1, channels=rule.channels),
        to_channels(y, rule.irreps2, channels=rule.channels2),
        weights,
    )
    # Both sum fewer than 1000 products of numbers of order 1; coefficients of e3nn are good to 1e-13.
    np.testing.assert_allclose(from_channels(rows, rule.irreps_out), expected, rtol=0, atol=1e-11)


def couplings(first, second, same=False):
    """The loops over irreps1, irreps2 and l3 that e3nn's users write."""
    for (i1, (mul, ir1)), (i2, (mul2, ir2)) in itertools.product(enumerate(first), enumerate(second)):
        if not same or mul == mul2:
            for ir in ir1 * ir2:
                yield i1, i2, mul, ir


@settings(max_examples=30)
@given(irreps(), HARMONICS, st.none() | irreps(largest=3), st.integers(0, 2**32))
def test_separate_paths_are_e3nns_product_by_its_weights(o3, text1, text2, kept, seed):
    first, second = o3.Irreps(text1), o3.Irreps(text2)
    wanted = None if kept is None else {ir for _, ir in o3.Irreps(kept)}
    found = [c for c in couplings(first, second) if wanted is None or c[3] in wanted]
    assume(found)
    out, p, _ = o3.Irreps([(mul, ir) for _, _, mul, ir in found]).sort()
    instructions = [(i1, i2, p[i], "uvu", True) for i, (i1, i2, _, _) in enumerate(found)]
    tp = o3.TensorProduct(first, second, out, instructions, shared_weights=False, internal_weights=False)
    rule = tensor_product(text1, text2, kept, convention="e3nn")
    assert rule.irreps_out == str(out)
    assert rule.num_paths * rule.channels == tp.weight_numel
    compare(rule, tp, np.random.default_rng(seed))


@settings(max_examples=20)
@given(irreps(), HARMONICS, st.sampled_from(["element", "path"]), st.integers(0, 2**32))
def test_summed_paths_are_e3nns_normalised_by_their_number(o3, text1, text2, normalization, seed):
    first, second = o3.Irreps(text1), o3.Irreps(text2)
    found = list(couplings(first, second))
    out, _, _ = o3.Irreps(list(dict.fromkeys((mul, ir) for _, _, mul, ir in found))).sort()
    blocks = [(mul, ir) for mul, ir in out]
    instructions = [(i1, i2, blocks.index((mul, ir)), "uvu", True) for i1, i2, mul, ir in found]
    tp = o3.TensorProduct(
        first, second, out, instructions, path_normalization=normalization, shared_weights=False, internal_weights=False
    )
    rule = tensor_product(text1, text2, sum_paths=True, path_normalization="path", convention="e3nn")
    assert rule.irreps_out == str(out)
    compare(rule, tp, np.random.default_rng(seed))


@settings(max_examples=20)
@given(irreps(multiplicities=(2, 4)), st.integers(1, 3), st.integers(0, 2**32))
def test_equal_multiplicities_are_e3nns_product_channel_by_channel(o3, text1, times, seed):
    first = o3.Irreps(text1)
    second = o3.Irreps([(mul, (2 - ir.l, ir.p)) for mul, ir in first] * times)
    found = list(couplings(first, second, same=True))
    out, p, _ = o3.Irreps([(mul, ir) for _, _, mul, ir in found]).sort()
    instructions = [(i1, i2, p[i], "uuu", True) for i, (i1, i2, _, _) in enumerate(found)]
    tp = o3.TensorProduct(first, second, out, instructions, shared_weights=False, internal_weights=False)
    rule = tensor_product(first, second, convention="e3nn")
    assert rule.irreps_out == str(out)
    assert rule.num_paths * rule.channels == tp.weight_numel
    assert rule.channels == np.gcd.reduce([mul for mul, _ in first])
    compare(rule, tp, np.random.default_rng(seed))


@settings(max_examples=20)
@given(irreps(), HARMONICS, st.integers(0, 2**32))
def test_all_paths_are_e3nns_full_product(o3, text1, text2, seed):
    first, second = o3.Irreps(text1).simplify(), o3.Irreps(text2).regroup()
    second = o3.Irreps([(1, ir) for _, ir in second])
    tp = o3.FullTensorProduct(first, second)
    rule = tensor_product(first, second, convention="e3nn")
    assert rule.irreps_out == str(tp.irreps_out)
    compare(rule, tp, np.random.default_rng(seed), weighted=False)


@settings(max_examples=30)
@given(st.data())
def test_a_product_of_e3nn_becomes_a_rule(o3, data):
    same = data.draw(st.booleans())
    first = o3.Irreps(data.draw(irreps(multiplicities=(2, 4) if same else (1, 2, 3, 4, 6))))
    second = first if same else o3.Irreps(data.draw(HARMONICS))
    found = list(couplings(first, second, same))
    out = o3.Irreps(data.draw(st.permutations(list(dict.fromkeys((mul, ir) for _, _, mul, ir in found)))))
    blocks, weighted = [(mul, ir) for mul, ir in out], data.draw(st.booleans())
    few = data.draw(st.permutations(found))[: data.draw(st.integers(1, len(found)))]
    factors = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    mode = "uuu" if same else "uvu"
    instructions = [(i1, i2, blocks.index((m, ir)), mode, weighted, data.draw(factors)) for i1, i2, m, ir in few]
    tp = o3.TensorProduct(
        first,
        second,
        out,
        instructions,
        in1_var=[data.draw(st.sampled_from([0.5, 2.0])) for _ in first],
        irrep_normalization=data.draw(st.sampled_from(["component", "norm", "none"])),
        path_normalization=data.draw(st.sampled_from(["element", "path", "none"])),
        shared_weights=False,
        internal_weights=False,
    )
    rule = sparseacc.from_e3nn(tp)
    assert (rule.irreps1, rule.irreps2, rule.irreps_out) == (str(first), str(second), str(out))
    assert not weighted or rule.num_paths * rule.channels == tp.weight_numel
    compare(rule, tp, np.random.default_rng(data.draw(st.integers(0, 2**32))), weighted)


def test_coefficients_are_path_weight_times_wigner_3j(o3):
    tp = o3.TensorProduct("3x1o", "1x1o", "3x1e", [(0, 0, 0, "uvu", True, 0.3)], irrep_normalization="norm")
    rule = sparseacc.from_e3nn(tp)
    expected = tp.instructions[0].path_weight * o3.wigner_3j(1, 1, 1).numpy()
    np.testing.assert_allclose(rule.to_dense(), expected, rtol=0, atol=1e-13)
    assert rule.channels == 3


def test_natural_order_is_that_of_e3nns_iterator(o3):
    every = list(itertools.islice(o3.Irrep.iterator(), 8))
    rule = tensor_product("0e", [(1, ir) for ir in reversed(every)], order="natural")
    assert rule.irreps_out == "+".join(f"1x{ir}" for ir in every)


def test_natural_order_is_that_of_e3nn_jax(rng):
    e3nn_jax = pytest.importorskip("e3nn_jax", reason="e3nn-jax is the reference")
    texts = ("0e + 0o + 1o + 1e + 2e + 2o", "0e + 1o + 1e + 2e")
    rule = tensor_product(*texts, order="natural", convention="e3nn")
    x1, x2 = (rng.normal(size=n).astype(np.float32) for n in rule.shape[:2])
    arrays = (e3nn_jax.IrrepsArray(text, x) for text, x in zip(texts, (x1, x2), strict=True))
    result = e3nn_jax.tensor_product(*arrays)
    assert str(result.irreps) == str(e3nn_jax.Irreps(rule.irreps_out).simplify())
    np.testing.assert_allclose(rule(x1, x2), result.array, rtol=0, atol=1e-5)  # 25 products of numbers of order 1


@pytest.mark.parametrize("same", [False, True])
def test_its_product_and_gradients_are_e3nns(o3, rng, same):
    import torch

    first = o3.Irreps("4x0e + 2x1o + 2x1e")
    second = first if same else o3.Irreps("0e + 1o + 2e")
    found = list(couplings(first, second, same))
    out, p, _ = o3.Irreps([(mul, ir) for _, _, mul, ir in found]).sort()
    instructions = [(i1, i2, p[i], "uuu" if same else "uvu", True) for i, (i1, i2, _, _) in enumerate(found)]
    tp = o3.TensorProduct(first, second, out, instructions, shared_weights=False, internal_weights=False)
    rule = tensor_product(first, second, convention="e3nn")
    flat = [torch.randn(5, n, requires_grad=True) for n in (first.dim, second.dim, tp.weight_numel)]
    result = tp(*flat)
    cotangent = torch.randn(*result.shape)
    result.backward(cotangent)
    x, y, w, dx, dy, dw = (array.detach().numpy() for array in (*flat, *(t.grad for t in flat)))
    rows = (
        to_channels(x, rule.irreps1, channels=rule.channels),
        to_channels(y, rule.irreps2, channels=rule.channels2),
        w.reshape(5, rule.num_paths, rule.channels),
    )
    gradients = rule.vjp(to_channels(cotangent.numpy(), rule.irreps_out, channels=rule.channels), *rows, axis=-2)
    for mine, theirs in (
        (from_channels(rule(*rows, axis=-2), rule.irreps_out), result.detach().numpy()),
        (from_channels(gradients[0], rule.irreps1), dx),
        (from_channels(gradients[1], rule.irreps2), dy),
        (gradients[2].reshape(5, -1), dw),
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11)  # as in `compare`
