"""Whole tensor products: their paths, their order, what they are as values; and what they are for, equivariance."""

import copy
import pickle

import numpy as np
import pytest
from by_terms import loop
from harmonics import wigner_matrices
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from strategies import HARMONICS, irreps

import sparseacc
from sparseacc import tensor_product
from sparseacc.irreps import as_segments

CONVENTIONS = ("librascal", "e3nn")
ORDERS = ("e3nn", "natural", "paths")


def rows_of(text, channels):
    """Each segment with the range of its rows."""
    end = 0
    for s in as_segments(text, "irreps"):
        begin, end = end, end + s.dim * (s.mul // channels)
        yield s, range(begin, end)


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
