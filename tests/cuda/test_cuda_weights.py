"""The CUDA sources with weights of paths, compiled for the host, against the oracle."""

import cuda_host
import numpy as np
import pytest
from cuda_cases import case
from oracle import check, wide
from strategies import DTYPES

import sparseacc
from sparseacc import algebra
from sparseacc.cuda import rows

pytestmark = pytest.mark.skipif(cuda_host.COMPILER is None, reason="no C++ compiler")

OPERATIONS = [
    algebra.WEIGHTED_FORWARD,
    algebra.WEIGHTED_VJP,
    algebra.WEIGHTED_JVP,
    algebra.WEIGHTED_VJP_VJP,
    algebra.WEIGHTED_COEFFICIENT_VJP,
]
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def rule_of_paths(own):
    """Three couplings, each into outputs of its own or all into the same."""
    parts = []
    for n, (l1, l2, l3) in enumerate(((1, 1, 1), (1, 0, 1), (0, 1, 1))):
        one = sparseacc.clebsch_gordan(l1, l2, l3)
        parts.append((one.m1 + l1**2, one.m2 + l2**2, one.mu + 3 * n * own, one.C, np.full(one.nnz, n)))
    m1, m2, mu, C, path = map(np.concatenate, zip(*parts))
    return sparseacc.Rule(m1, m2, mu, C, (4, 4, 9 if own else 3), path=path)


@pytest.fixture(params=[True, False], ids=["own", "shared"])
def rule(request):
    return rule_of_paths(request.param)


@every_operation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operations_are_within_the_bound_in_every_layout(operation, dtype, rule, rng):
    for n in (1, 33, 129):
        case(rule, ((n,),) * 3, -1, dtype, rng).check(operation)
    case(rule, ((70,),) * 3, 0, dtype, rng).check(operation)
    case(rule, ((4, 33),) * 3, 1, dtype, rng).check(operation)
    case(rule, ((50,),) * 3, -1, dtype, rng, lambda x: np.repeat(x, 2, axis=0)[::-2]).check(operation)


@every_operation
@pytest.mark.parametrize("dtype", ["f4", "c16", DTYPES[-1]], ids=str)
@pytest.mark.parametrize(
    "batches",
    [
        ((9, 40), (9, 1), (9, 40)),  # a weight for each edge and channel
        ((9, 40), (9, 1), (9, 1)),
        ((9, 40), (9, 1), (40,)),
        ((9, 40), (9, 1), (1,)),
        ((1, 1), (9, 1), (9, 40)),  # more weights than anything else
    ],
    ids=str,
)
def test_weights_broadcast_and_their_gradient_sums(operation, dtype, batches, rng):
    case(rule_of_paths(True), batches, -2, dtype, rng).check(operation)


@every_operation
@pytest.mark.parametrize("dtype", ["f4", "c8", "f2"])
def test_a_rule_too_large_for_straight_line_code_is_read_from_a_table(operation, dtype, rule, rng, monkeypatch):
    monkeypatch.setattr(rows, "MOST_OPERATIONS", 10)
    whole = case(rule, ((70,), (70,), ()), -1, dtype, rng)
    assert cuda_host.planned(rule, operation, whole.inputs(operation), -1)[0].source.tables
    whole.check(operation)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_power_of_two_data_give_the_bits_of_the_cpu(dtype, rng):
    m1, m2, mu, path = (rng.permutation(np.arange(12) % n) for n in (9, 8, 10, 7))
    rule = sparseacc.Rule(m1, m2, mu, 2.0 ** rng.integers(0, 2, 12), (9, 8, 10), path=path)
    z1, z2, zw, dy, x1, x2, w = (np.exp2(rng.integers(0, 2, (30, 4, n))).astype(dtype) for n in (9, 8, 7, 10, 9, 8, 7))
    for operation, arrays, expected in (
        (algebra.WEIGHTED_FORWARD, (x1, x2, w), [rule(x1, x2, w)]),
        (algebra.WEIGHTED_VJP, (dy, x1, x2, w), rule.vjp(dy, x1, x2, w)),
        (algebra.WEIGHTED_VJP_VJP, (z1, z2, zw, dy, x1, x2, w), rule.vjp_vjp(z1, z2, dy, x1, x2, w, zw)),
    ):
        for result, value in zip(cuda_host.run(rule, operation, *arrays), expected, strict=True):
            assert np.array_equal(wide(result), wide(value))


def test_absent_inputs_and_outputs_are_left_out(rule, rng):
    whole = case(rule, ((40,),) * 3, -1, "f8", rng)
    z1, z2, zw, dy, x1, x2, w = whole.inputs(algebra.WEIGHTED_VJP_VJP)
    for tangents in ((None, z2, zw), (z1, None, zw), (z1, z2, None)):
        results = cuda_host.run(rule, algebra.WEIGHTED_VJP_VJP, *tangents, dy, x1, x2, w)
        expected = rule.vjp_vjp(*tangents[:2], dy, x1, x2, w, tangents[2])
        for result, value in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-12)
    (dw,) = cuda_host.run(rule, algebra.WEIGHTED_VJP, dy, x1, x2, w, wanted=(False, False, True))
    check(dw, whole.expect(algebra.WEIGHTED_VJP)[2])


def test_an_infinite_weight_leaves_other_paths_finite(rng):
    rule = rule_of_paths(True)
    x1, x2 = rng.normal(size=(2, 40, 4))
    out = cuda_host.run(rule, algebra.WEIGHTED_FORWARD, x1, x2, np.array([1.0, np.inf, 1.0]))[0]
    assert np.array_equal(np.isfinite(out), np.broadcast_to((np.arange(9) < 3) | (np.arange(9) >= 6), out.shape))


def test_a_weight_multiplies_the_sum_of_its_path():
    """Once for an output, and not once for a term."""
    code = sparseacc.cuda.source(rule_of_paths(True), "weighted_forward").code
    assert code.count("* weights_0;") == 3


@every_operation
@pytest.mark.parametrize("axis", ["last", "middle"])
def test_a_source_launched_as_it_says_computes_the_operation(axis, operation, rng):
    rule = rule_of_paths(True)
    batch, at = {"last": ((70,), -1), "middle": ((4, 35), 1)}[axis]
    whole = case(rule, (batch,) * 3, at, "f4", rng)
    source = sparseacc.cuda.source(rule, operation.name, np.float32, axis)
    assert source.arguments[: len(operation.inputs)] == tuple(name for name, _ in operation.inputs)
    grid, expected = source.launch(int(np.prod(batch))).grid, whole.expect(operation)
    parts = grid[:1] if operation.contraction else ()
    outputs = [np.full((*parts, *value.shape), np.nan, "f8" if parts else "f4") for value, _ in expected]
    integers = {"rows": int(np.prod(batch)), "n1": batch[-1]}
    arrays = [*map(np.ascontiguousarray, whole.inputs(operation)), *outputs]
    cuda_host.launch(source, grid, arrays, [integers[name] for name in source.arguments if name in integers])
    for result, value in zip(outputs, expected, strict=True):
        check(result.sum(axis=0) if parts else result, value)
