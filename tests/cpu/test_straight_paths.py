"""Straight-line code for the paths of common couplings: it is used where it should be, and its numbers are bitwise
those of the loop that every path has."""

import numpy as np
import pytest
from edges import Edges, operands, random_graph
from rows import same

import sparseacc
from sparseacc import message_passing, message_passing_vjp, message_passing_vjp_vjp
from sparseacc.cpu.matrix import matrix
from sparseacc.racah import couplings

pytestmark = pytest.mark.usefixtures("straight_line_code")
ALL = "0e + 0o + 1e + 1o + 2e + 2o + 3e + 3o"
HEAD, STRAIGHT = 8, 7
"""Numbers of the head of a path in the code of a matrix, and which says what straight-line code it has (edges.h)."""


def shapes(rule):
    """Which straight-line code each path has, 0: none."""
    code = matrix(rule, np.dtype("f4")).pointer.code
    return [code[1 + HEAD * path + STRAIGHT] for path in range(code[0])]


def results(rule, graph, arrays, cotangents):
    dout, zx, zy, zw = cotangents
    return (
        message_passing(rule, graph, *arrays),
        *message_passing_vjp(rule, graph, dout, *arrays),
        *message_passing_vjp_vjp(rule, graph, zx, zy, zw, dout, *arrays),
    )


def data(rng, rule, graph, rows, channels, dtype):
    """x, y, weights, and cotangents of the result and of these."""
    arrays = operands(rng, rule, rows, channels, dtype)
    cotangents = [(graph.num_nodes, rule.shape[2], channels), *(array.shape for array in arrays)]
    return arrays, [rng.normal(size=shape).astype(dtype) for shape in cotangents]


@pytest.mark.parametrize("convention", ["librascal", "e3nn"])
def test_the_path_of_every_coupling_to_l_3_has_its_own_straight_line_code(convention):
    found = [shapes(sparseacc.clebsch_gordan(*degrees, convention=convention)) for degrees in couplings(3)]
    assert sorted(found) == [[i + 1] for i in range(34)]


def test_paths_are_recognised_wherever_their_rows_are():
    """Copies have rows that are some apart, and all but the first path begin later."""
    for irreps in ("1x0e + 1x1o + 1x2e + 1x3o", "4x0e + 2x1o + 1x2e + 1x3o"):
        rule = sparseacc.tensor_product(irreps, "0e + 1o + 2e + 3o", ALL)
        assert all(shapes(rule))
        assert len({*shapes(rule)}) == 34


def test_no_other_path_is_taken_for_one_of_them():
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    terms = list(zip(rule.m1, rule.m2, rule.mu, rule.C))
    fewer = [term for term in terms if (term[0], term[2]) != (terms[0][0], terms[0][2])]
    m1, m2, mu, C = zip(*fewer)
    others = [
        sparseacc.Rule(m1, m2, mu, C, rule.shape),
        sparseacc.Rule(np.array([0, 1, 3])[rule.m1], rule.m2, rule.mu, rule.C, (4, 5, 5)),
        sparseacc.Rule(rule.m1, rule.m2, np.array([0, 1, 2, 3, 5])[rule.mu], rule.C, (3, 5, 6)),
        sparseacc.clebsch_gordan(4, 2, 2),
        sparseacc.clebsch_gordan(2, 2, 4),
    ]
    assert [shapes(other) for other in others] == [[0]] * len(others)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_numbers_of_a_channel_are_those_of_the_loop_bitwise(instruction_set, dtype, rng):
    """The last channels of a row are computed by the loop, as they fill too few vectors for straight-line code."""
    rule = sparseacc.tensor_product("1x0e + 1x1o + 1x2e + 1x3o", "0e + 1o + 2e + 3o", ALL)
    graph, rows = random_graph(rng)
    channels = 17 * 32 // np.dtype(dtype).itemsize  # 17 vectors of AVX2, 9 of AVX-512
    arrays, cotangents = data(rng, rule, graph, rows, channels, dtype)
    found, by = results(rule, graph, arrays, cotangents), channels // 17
    moved = [[np.roll(a, by, axis=-1) if a.ndim == 3 else a for a in each] for each in (arrays, cotangents)]
    with_channels = [i for i, result in enumerate(found) if result.ndim == 3]
    expected = [np.roll(found[i], by, axis=-1) for i in with_channels]
    assert same([results(rule, graph, *moved)[i] for i in with_channels], expected)
    assert len(with_channels) == 6


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("irreps", ["1x0e + 1x1o + 1x2e + 1x3o", "4x0e + 2x1o + 1x2e + 1x3o"])
def test_every_path_is_right(instruction_set, dtype, irreps, rng):
    rule = sparseacc.tensor_product(irreps, "0e + 1o + 2e + 3o", ALL)
    graph, rows = random_graph(rng, edges=20)
    arrays, (dout, *z) = data(rng, rule, graph, rows, 64, dtype)
    out, *others = results(rule, graph, arrays, (dout, *z))
    reference = Edges(rule, graph, np.dtype(dtype))
    reference.check_result(out, *arrays)
    reference.check_gradients(others[:3], dout, *arrays)
    reference.check_second(others[3:], dict(zip("xyw", z)), dout, *arrays)


@pytest.mark.parametrize("wrt", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_some_of_the_gradients_are_bitwise_those_of_all(wrt, rng):
    """Only what layers ask for has straight-line code: all gradients, or two of them."""
    rule = sparseacc.tensor_product("1x0e + 1x1o + 1x2e", "0e + 1o + 2e", ALL)
    graph, rows = random_graph(rng)
    arrays, (dout, *_) = data(rng, rule, graph, rows, 64, "f4")
    everything = message_passing_vjp(rule, graph, dout, *arrays)
    some = message_passing_vjp(rule, graph, dout, *arrays, wrt=wrt)
    assert same([some[i] for i in wrt], [everything[i] for i in wrt])
