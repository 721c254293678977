"""Operations and their derivatives as data: what is derived is what it should be, to any order."""

import itertools

import numpy as np
import pytest
from strategies import numbers

import sparseacc
from sparseacc.algebra import (
    COEFFICIENT_VJP,
    FORWARD,
    JVP,
    M1,
    M2,
    MU,
    PATH,
    TERM,
    VJP,
    VJP_VJP,
    C,
    Operation,
    Product,
    gradient,
    tangent,
)
from sparseacc.cpu import execution

WEIGHTED = Operation("weighted", (("x1", M1), ("x2", M2), ("w", PATH)), (MU,), (Product(0, (C, 0, 1, 2)),), (None,))


def spelled(operation):
    """Each product as the letters of its output and inputs."""
    names = [name for name, _ in operation.inputs]
    return [(p.output, *(names[i] for i in p.inputs)) for p in operation.products]


def test_derived_operations_are_these():
    """In this order, which rounding depends on."""
    assert Operation("forward", (("x1", M1), ("x2", M2)), (MU,), ((0, (C, 0, 1)),), (None,)) == FORWARD
    assert [name for name, _ in VJP.inputs] == ["dy", "x1", "x2"]
    assert spelled(VJP) == [(0, "dy", "x2"), (1, "dy", "x1")]
    assert (VJP.outputs, VJP.shapes) == ((M1, M2), ("x1", "x2"))
    assert [name for name, _ in JVP.inputs] == ["x1", "x2", "dx1", "dx2"]
    assert spelled(JVP) == [(0, "dx1", "x2"), (0, "x1", "dx2")]
    assert (JVP.outputs, JVP.shapes) == ((MU,), (None,))
    assert [name for name, _ in VJP_VJP.inputs] == ["z1", "z2", "dy", "x1", "x2"]
    assert spelled(VJP_VJP) == [(0, "z1", "x2"), (0, "x1", "z2"), (1, "dy", "z2"), (2, "dy", "z1")]
    assert (VJP_VJP.outputs, VJP_VJP.shapes) == ((MU, M1, M2), ("dy", "x1", "x2"))
    assert spelled(COEFFICIENT_VJP) == [(0, "dy", "x1", "x2")]
    assert (COEFFICIENT_VJP.outputs, COEFFICIENT_VJP.shapes) == ((TERM,), (None,))
    assert [op.contraction for op in (FORWARD, VJP, JVP, VJP_VJP, COEFFICIENT_VJP)] == [False] * 4 + [True]
    assert all((C in p.factors) != op.contraction for op in (VJP, JVP, VJP_VJP, COEFFICIENT_VJP) for p in op.products)


def test_a_third_factor_is_no_special_case():
    vjp = gradient(WEIGHTED, "vjp", ["dy"])
    jvp = tangent(WEIGHTED, "jvp", ["dx1", "dx2", "dw"])
    vjp_vjp = gradient(vjp, "vjp_vjp", ["z1", "z2", "zw"])
    assert [(len(op.inputs), len(op.outputs)) for op in (WEIGHTED, vjp, jvp, vjp_vjp)] == [
        (3, 1),
        (4, 3),
        (6, 1),
        (7, 4),
    ]
    assert [len(op.products) for op in (vjp, jvp, vjp_vjp)] == [3, 3, 9]


def computed(operation, rule, columns, inputs):
    """The outputs, by a plain loop."""
    sizes = {M1: rule.shape[0], M2: rule.shape[1], MU: rule.shape[2], TERM: rule.nnz, PATH: 3}
    outputs = [np.zeros(sizes[column], np.result_type(float, *inputs)) for column in operation.outputs]
    for p in operation.products:
        for k in range(rule.nnz):
            factors = [rule.C[k] if f == C else inputs[f][columns[operation.inputs[f][1]][k]] for f in p.factors]
            outputs[p.output][columns[operation.outputs[p.output]][k]] += np.prod(factors)
    return outputs


@pytest.mark.parametrize("operation", [FORWARD, VJP, JVP, VJP_VJP, WEIGHTED, gradient(WEIGHTED, "", ["dy"])])
def test_derivatives_are_the_differences_of_what_is_linear_in_each_input(operation, rng):
    """Whatever the order: a step along one input changes <cotangents, outputs> by the gradient times the step."""
    coupling = sparseacc.clebsch_gordan(1, 1, 2)
    rule = sparseacc.Rule(coupling.m1, coupling.m2, coupling.mu, rng.integers(1, 9, coupling.nnz), coupling.shape)
    columns = {M1: rule.m1, M2: rule.m2, MU: rule.mu, TERM: np.arange(rule.nnz), PATH: np.arange(rule.nnz) % 3}
    sizes = {M1: 3, M2: 3, MU: 5, PATH: 3}
    names = [f"c{o}" for o in range(len(operation.outputs))]
    cotangents = [rng.integers(-9, 9, sizes[column]) for column in operation.outputs]
    inputs = [rng.integers(-9, 9, sizes[column]) for _, column in operation.inputs]
    steps = [rng.integers(-9, 9, x.shape) for x in inputs]
    before = computed(operation, rule, columns, inputs)
    gradients = computed(gradient(operation, "", names), rule, columns, [*cotangents, *inputs])
    whole = computed(tangent(operation, "", [f"d{n}" for n in range(len(inputs))]), rule, columns, [*inputs, *steps])
    changes = []
    for n in range(len(inputs)):
        moved = [x + step if i == n else x for i, (x, step) in enumerate(zip(inputs, steps, strict=True))]
        changes.append([a - b for a, b in zip(computed(operation, rule, columns, moved), before, strict=True)])
        assert gradients[n] @ steps[n] == sum(c @ d for c, d in zip(cotangents, changes[n], strict=True))
    for o, derivative in enumerate(whole):
        assert np.array_equal(derivative, sum(change[o] for change in changes))


def test_what_is_absent_or_not_wanted_is_left_out():
    for present in itertools.product((True, False), repeat=2):
        present = (*present, True, True, True)
        for wanted in itertools.product((True, False), repeat=3):
            kept = VJP_VJP.restricted(present, wanted).products
            assert all(wanted[p.output] and all(present[i] for i in p.inputs) for p in kept)
            left_out = set(VJP_VJP.products) - set(kept)
            assert not any(wanted[p.output] and all(present[i] for i in p.inputs) for p in left_out)


@pytest.mark.parametrize("operation", [FORWARD, VJP, JVP, VJP_VJP, WEIGHTED], ids=lambda o: o.name)
def test_the_gradient_for_the_coefficients_is_what_pairs_with_them(operation, rng):
    """Every output is linear in them: <cotangents, outputs> is <gradient, C>."""
    rule = sparseacc.Rule(*(rng.integers(0, n, 20) for n in (3, 3, 5)), rng.integers(1, 9, 20), (3, 3, 5))
    columns = {M1: rule.m1, M2: rule.m2, MU: rule.mu, TERM: np.arange(20), PATH: np.arange(20) % 3}
    sizes = {M1: 3, M2: 3, MU: 5, PATH: 3}
    cotangents = [rng.integers(-9, 9, sizes[column]) for column in operation.outputs]
    inputs = [rng.integers(-9, 9, sizes[column]) for _, column in operation.inputs]
    derived = gradient(operation, "", [f"c{o}" for o in range(len(cotangents))], [C])
    (slope,) = computed(derived, rule, columns, [*cotangents, *inputs])
    outputs = computed(operation, rule, columns, inputs)
    assert derived.contraction
    assert slope @ rule.C == sum(c @ out for c, out in zip(cotangents, outputs, strict=True))


@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_the_kernel_computes_the_gradient_of_the_double_backward(dtype, instruction_set, rng):
    """One output at a time, as it does any operation of which every product has two inputs."""
    third = gradient(VJP_VJP, "vjp_vjp_vjp", ["zdy", "zx1", "zx2"])
    rule = sparseacc.clebsch_gordan(2, 3, 2)
    columns = {M1: rule.m1, M2: rule.m2, MU: rule.mu}
    inputs = [numbers(rng, (40, rule.shape[column]), dtype) for _, column in third.inputs]
    expected = [computed(third, rule, columns, row) for row in zip(*inputs, strict=True)]
    for o in range(len(third.outputs)):
        wanted = tuple(k == o for k in range(len(third.outputs)))
        result = execution.execute(rule, third, inputs, -1, wanted)[o]
        np.testing.assert_allclose(result, [row[o] for row in expected], rtol=1e-13, atol=1e-13)
