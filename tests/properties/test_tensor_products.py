"""Whole tensor products: e3nn's, in its order and by its weights; and what they are for, equivariance."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from harmonics import wigner_matrices
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from strategies import irreps

import sparseacc
from sparseacc import from_channels, tensor_product, to_channels
from sparseacc.irreps import as_segments

CONVENTIONS = ("librascal", "e3nn")
ORDERS = ("e3nn", "natural", "paths")
HARMONICS = irreps(multiplicities=(1,))


def loop(rule, x1, x2, weights):
    """Term by term, along axis -2."""
    batch = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2], weights.shape[:-2])
    out = np.zeros((*batch, rule.shape[2], max(x1.shape[-1], x2.shape[-1])))
    for m1, m2, mu, C, path in zip(rule.m1, rule.m2, rule.mu, rule.C, rule.path, strict=True):
        out[..., mu, :] += C * weights[..., path, :] * x1[..., m1, :] * x2[..., m2, :]
    return out


def rows_of(text, channels):
    """Each segment with the range of its rows."""
    end = 0
    for s in as_segments(text, "irreps"):
        begin, end = end, end + s.dim * (s.mul // channels)
        yield s, range(begin, end)


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


# ---- e3nn ----------------------------------------------------------------------------------------


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


# ---- order and layout ----------------------------------------------------------------------------


@given(irreps(), HARMONICS, st.booleans())
def test_the_order_of_blocks_changes_neither_paths_nor_weights(text1, text2, sum_paths):
    rules = [tensor_product(text1, text2, sum_paths=sum_paths, order=order) for order in ORDERS]
    rng = np.random.default_rng(0)
    x1, x2, weights = (
        rng.normal(size=(n, c))
        for n, c in (
            (rules[0].shape[0], rules[0].channels),
            (rules[0].shape[1], 1),
            (rules[0].num_paths, rules[0].channels),
        )
    )
    results = [loop(rule, x1, x2, weights) for rule in rules]
    for rule, result in zip(rules, results, strict=True):
        for name in ("l1", "l2", "l3", "parity", "multiplicity", "coefficient", "rows1", "rows2"):
            np.testing.assert_array_equal(rule.paths[name], rules[0].paths[name])
        for path, other in zip(rule.paths, rules[0].paths, strict=True):
            np.testing.assert_array_equal(result[slice(*path.rows_out)], results[0][slice(*other.rows_out)])


@given(irreps(), HARMONICS)
def test_unsorted_blocks_are_in_the_order_of_paths(text1, text2):
    begins = tensor_product(text1, text2, order="paths").paths.rows_out[:, 0]
    assert np.all(np.diff(begins) > 0)


@given(irreps(), HARMONICS, st.booleans(), st.sampled_from(ORDERS))
def test_blocks_are_sorted_stably(text1, text2, sum_paths, order):
    unsorted = as_segments(tensor_product(text1, text2, sum_paths=sum_paths, order="paths").irreps_out, "")
    key = {
        "e3nn": lambda s: (s.degree, "oe".index("e" if s.parity > 0 else "o")),
        "natural": lambda s: (s.degree, (-1) ** s.degree != s.parity),
        "paths": lambda s: 0,
    }[order]
    result = tensor_product(text1, text2, sum_paths=sum_paths, order=order).irreps_out
    assert as_segments(result, "") == tuple(sorted(unsorted, key=key))


@given(irreps(), st.booleans(), st.booleans(), st.sampled_from(CONVENTIONS), st.sampled_from(["none", "path"]))
def test_a_path_is_a_coupling_of_the_rows_that_it_names(text, same, sum_paths, convention, normalization):
    rule = tensor_product(
        text,
        text if same else "0e + 1o",
        sum_paths=sum_paths,
        convention=convention,
        path_normalization=normalization,
    )
    assert len(rule.paths) == rule.num_paths
    for number, path in enumerate(rule.paths):
        coupling = sparseacc.clebsch_gordan(path.l1, path.l2, path.l3, convention=convention)
        mine = rule.path == number
        for column, name, of in (("m1", "rows1", path.l1), ("m2", "rows2", path.l2), ("mu", "rows_out", path.l3)):
            rows = np.arange(*path[name])
            assert len(rows) == 2 * of + 1
            np.testing.assert_array_equal(getattr(rule, column)[mine], rows[getattr(coupling, column)])
        np.testing.assert_array_equal(rule.C[mine], path.coefficient * coupling.C)
    into = np.zeros(rule.shape[2])
    blocks = list(rows_of(rule.irreps_out, rule.channels))
    for path in rule.paths:
        block = next(s for s, rows in blocks if path.rows_out[0] in rows)
        assert (block.degree, block.parity, block.mul) == (path.l3, path.parity, path.multiplicity)
        into[slice(*path.rows_out)] += 1
    assert np.all(into >= 1 if sum_paths else into == 1)
    squares = np.bincount(rule.mu, rule.C**2, rule.shape[2])
    np.testing.assert_allclose(squares, np.ones_like(into) if normalization == "path" else into, rtol=1e-14)


@pytest.mark.parametrize(
    ("first", "second", "kept", "channels", "rows", "paths", "rows_out"),
    [
        ("128x0e + 128x1o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o", 128, 4, 10, 40),
        ("128x0e + 128x1o + 128x2e", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o", 128, 9, 17, 71),
        ("64x0e + 64x1o + 64x2e", "0e + 1o + 2e", "0e + 1o + 2e", 64, 9, 11, 35),
        ("128x0e + 64x1o + 32x2e + 32x3o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o", 32, 22, 41, 171),
        ("128x0e + 64x1e + 32x2e + 32x3e", "0e + 1e + 2e + 3e", "0e + 1e + 2e + 3e", 32, 22, 55, 243),
    ],
)
def test_models_have_so_many_rows_and_paths(first, second, kept, channels, rows, paths, rows_out):
    rule = tensor_product(first, second, kept)
    assert (rule.channels, rule.shape[0], rule.num_paths, rule.shape[2]) == (channels, rows, paths, rows_out)


def test_segments_without_copies_do_nothing():
    rule = tensor_product("4x0e + 0x2e + 2x1o", "0x1o + 1o")
    without = tensor_product("4x0e + 2x1o", "1o")
    assert rule == without
    assert rule.irreps1 == "4x0e+0x2e+2x1o"
    assert rule.irreps_out == without.irreps_out


def test_segments_of_different_multiplicities_do_not_couple_channel_by_channel():
    rule = tensor_product("4x0e + 2x1o", "4x0e + 2x1o")
    assert rule.channels == 2
    assert [(p.l1, p.l2, p.l3) for p in rule.paths] == [(0, 0, 0)] * 2 + [(1, 1, 0), (1, 1, 1), (1, 1, 2)]


# ---- what it is for ------------------------------------------------------------------------------


def transformed(x, text, channels, wigner, inverted):
    """Every copy of every irrep rotated by its matrix, and times its parity if space is inverted."""
    result = np.empty_like(x)
    for s, rows in rows_of(text, channels):
        copies = x[..., rows, :].reshape(*x.shape[:-2], s.dim, -1)
        sign = s.parity if inverted else 1
        result[..., rows, :] = (sign * wigner[s.degree] @ copies).reshape(*x.shape[:-2], len(rows), channels)
    return result


@settings(max_examples=30)
@given(irreps(), st.booleans(), st.booleans(), st.sampled_from(CONVENTIONS), st.booleans(), st.integers(0, 2**32))
def test_a_product_turns_with_its_factors(text, same, sum_paths, convention, inverted, seed):
    rule = tensor_product(text, text if same else "0e + 1o + 2e + 1e", sum_paths=sum_paths, convention=convention)
    rng = np.random.default_rng(seed)
    wigner = wigner_matrices(4, Rotation.from_quat(rng.normal(size=4)))
    x1, x2 = rng.normal(size=(2, rule.shape[0], rule.channels)), rng.normal(size=(2, rule.shape[1], rule.channels2))
    weights = rng.normal(size=(2, rule.num_paths, rule.channels))
    turned = loop(
        rule,
        transformed(x1, rule.irreps1, rule.channels, wigner, inverted),
        transformed(x2, rule.irreps2, rule.channels2, wigner, inverted),
        weights,
    )
    expected = transformed(loop(rule, x1, x2, weights), rule.irreps_out, rule.channels, wigner, inverted)
    # Matrices are good to 2e-14, and an element sums fewer than 100 products of numbers below 10.
    np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-10)


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


# ---- a value -------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))])
def test_a_copy_knows_all_that_the_rule_knows(again):
    rule = tensor_product("4x0e + 2x1o", "0e + 1o", sum_paths=True)
    other = again(rule)
    assert type(other) is type(rule)
    assert other == rule
    assert hash(other) == hash(rule)
    assert repr(other) == repr(rule)
    np.testing.assert_array_equal(other.paths, rule.paths)


def test_nothing_of_it_can_be_changed():
    rule = tensor_product("0e", "1o")
    for name in ("irreps1", "channels", "paths", "C", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(rule, name, 1)
    with pytest.raises(AttributeError, match="immutable"):
        del rule.irreps_out
    with pytest.raises(ValueError, match="read-only"):
        rule.paths.l1[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        rule.paths.flags.writeable = True


def test_it_is_equal_to_a_rule_of_the_same_terms():
    rule = tensor_product("8x1o", "1o", "1e")
    assert rule == sparseacc.clebsch_gordan(1, 1, 1)
    assert rule != tensor_product("8x1o", "1o", "1e", convention="e3nn")
    assert repr(rule).startswith("TensorProduct('8x1o', '1x1o', '8x1e', channels=8, num_paths=1, shape=(3, 3, 3), nnz=")


def test_of_a_dense_tensor_it_is_a_rule_without_irreps():
    rule = tensor_product("2x1o", "1o")
    assert type(type(rule).from_dense(rule.to_dense())) is sparseacc.Rule


def test_transposed_it_is_a_rule_without_irreps():
    rule = tensor_product("4x0e + 2x1o", "0e + 1o")
    other = rule.transpose((2, 1, 0))
    assert type(other) is sparseacc.Rule
    np.testing.assert_array_equal(other.to_dense(), rule.to_dense().transpose(2, 1, 0))
    np.testing.assert_array_equal(other.path, rule.path)
    assert other.num_paths == rule.num_paths
