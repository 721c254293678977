"""Every way to trace and transform the product in PyTorch: torch.compile, torch.export, vmap, forward mode."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from broadcast import RULE  # noqa: E402
from strategies import numbers  # noqa: E402
from torch_products import array, product, tensors  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.torch as bridge  # noqa: E402
from sparseacc.terms import as_text  # noqa: E402
from sparseacc.torch import ops  # noqa: E402


@pytest.mark.usefixtures("_no_compiled_functions")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what its compiler imports
def test_compiled_without_a_graph_break(backend, rng):
    compiled = torch.compile(lambda a, b: product(a, b) * 2, fullgraph=True, backend=backend)
    for rows in (4, 9, 17):  # the later ones by dynamic shapes
        x1, x2 = tensors(rng, (rows,), (1,), "f4")
        results = compiled(x1, x2), product(x1, x2) * 2
        assert torch.equal(*results)
        for left, right in zip(*(torch.autograd.grad(y.pow(2).sum(), (x1, x2)) for y in results)):
            assert torch.allclose(left, right, rtol=1e-5)


def of_chosen_rows(mask, x1, x2):
    return product(x1[mask.nonzero()[:, 0]], x2)


def of_rows_chosen_twice(mask, x1, x2):
    return product(x1[mask.nonzero()[:, 0]], x2[(~mask).nonzero()[:, 0]])


def of_bare_indices(mask, x1, x2):
    return bridge.accumulate(x1[mask.nonzero()[:, 0]], x2, MU, 5, M1, M2, C)


M1, M2, MU, C = bridge.get_cg_transformation_rule(1, 2, 2, torch.float64)


@pytest.mark.usefixtures("_no_compiled_functions")
@pytest.mark.parametrize(
    ("function", "batch2"),
    [(of_rows_chosen_twice, (8,)), *((f, batch2) for f in (of_chosen_rows, of_bare_indices) for batch2 in ((1,), ()))],
)
def test_the_number_of_rows_may_be_unknown_while_compiling(function, batch2, rng):
    """As where a model chooses rows by nonzero: nothing compares what only the call will know."""
    x1, x2 = tensors(rng, (8,), batch2)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for mask in ("10110010", "11001001"):
        mask = torch.tensor([int(bit) for bit in mask]) == 1
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            results = compiled(mask, x1, x2), function(mask, x1, x2)
        assert torch.equal(*results)
        for left, right in zip(*(torch.autograd.grad(y.pow(2).sum(), (x1, x2)) for y in results)):
            assert torch.allclose(left, right)


@pytest.mark.usefixtures("_no_compiled_functions")
@pytest.mark.parametrize(
    ("x1", "x2", "message"),
    [
        (torch.ones(4, 4), torch.ones(4, 5), "x1 has length 4 along the active axis, but the rule needs 3"),
        (torch.ones(4, 3), torch.ones(3, 5), "[Bb]roadcast"),
    ],
)
def test_lengths_are_checked_while_compiling(x1, x2, message):
    with pytest.raises(Exception, match=message):
        torch.compile(product, fullgraph=True, backend="aot_eager")(x1, x2)
    with pytest.raises((ValueError, RuntimeError), match=message):
        ops.product(x1.to("meta"), x2.to("meta"), as_text(RULE), None, -1, 5)


@pytest.mark.usefixtures("_no_compiled_functions")
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")  # what follows on the refusal
def test_forward_mode_leaves_a_compiled_function_or_is_refused(rng):
    """torch itself would lose the tangents."""
    (x1, x2), (dx1, _) = tensors(rng, grad=False), tensors(rng, grad=False)
    expected = product(dx1, x2)

    def tangent(a, da):
        return torch.func.jvp(lambda a: product(a, x2), (a,), (da,))[1]

    with pytest.raises(Exception, match="does not take forward mode"):
        torch.compile(tangent, fullgraph=True, backend="aot_eager")(x1, dx1)
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(tangent, backend="aot_eager")(x1, dx1), expected)
    compiled = torch.compile(lambda a: product(a, x2), backend="aot_eager")
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x1, dx1)
        assert torch.allclose(torch.autograd.forward_ad.unpack_dual(compiled(dual)).tangent, expected)


def test_traced_graphs_keep_their_derivatives(rng):
    """Traced and exported without a gradient, then differentiated."""
    from torch.fx.experimental.proxy_tensor import make_fx

    x1, x2 = tensors(rng, grad=False)
    programs = make_fx(product)(x1, x2), torch.export.export(Model(), (x1, x2)).module()
    x1.requires_grad_()
    for program, function in zip(programs, (product, Model())):
        results = (torch.autograd.grad(f(x1, x2).sum(), x1)[0] for f in (program, function))
        assert torch.allclose(*results)


@pytest.mark.usefixtures("_no_compiled_functions")
def test_a_compiled_function_knows_one_rule_from_another(rng):
    x1, x2 = tensors(rng)
    double = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C, RULE.shape)
    compiled = torch.compile(bridge.product, fullgraph=True, backend="aot_eager")
    for rule in (RULE, double, sparseacc.clebsch_gordan(1, 2, 3), RULE):
        assert torch.equal(compiled(rule, x1, x2), bridge.product(rule, x1, x2))


@pytest.mark.usefixtures("_no_compiled_functions")
def test_bare_index_tensors_are_data_of_a_compiled_function(rng):
    x1, x2 = tensors(rng)
    m1, m2, mu, C = bridge.get_cg_transformation_rule(1, 2, 2, torch.float64)
    compiled = torch.compile(bridge.accumulate, fullgraph=True, backend="aot_eager")
    for scale in (1, 3):  # the second time without a new graph
        arguments = (x1, x2, mu.flip(0), 5, m1.flip(0), m2.flip(0), scale * C.flip(0))
        results = compiled(*arguments), bridge.accumulate(*arguments)
        assert torch.equal(*results)
        for left, right in zip(*(torch.autograd.grad(y.sum(), (x1, x2)) for y in results)):
            assert torch.equal(left, right)
    calculator = bridge.CGCalculatorSingle(1, 2, 2, torch.float64)
    assert torch.equal(torch.compile(calculator, fullgraph=True, backend="aot_eager")(x1, x2), calculator(x1, x2))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calculator = bridge.CGCalculatorSingle(1, 2, 2, torch.float64)

    def forward(self, x1, x2):
        return product(x1, x2) + self.calculator(x1, x2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what its exporter imports
def test_an_exported_program_needs_nothing_but_the_package(rng, tmp_path):
    """In a process that has never seen the rule, at another number of rows."""
    x1, x2 = tensors(rng, grad=False)
    rows = torch.export.Dim("rows")
    program = torch.export.export(Model(), (x1, x2), dynamic_shapes=({0: rows}, {0: rows}))
    torch.export.save(program, tmp_path / "program.pt2")
    x1, x2 = tensors(rng, (9,), (9,), grad=False)
    torch.save((x1, x2, Model()(x1, x2)), tmp_path / "expected.pt")
    code = f"""
import torch, sparseacc.torch
x1, x2, expected = torch.load({str(tmp_path / "expected.pt")!r})
program = torch.export.load({str(tmp_path / "program.pt2")!r})
assert torch.equal(program.module()(x1, x2), expected)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0), (0, 2)])
def test_vmap_is_a_loop(in_dims, rng):
    x1, x2 = tensors(rng, (3, 4), (3, 1), grad=False)
    mapped = [x if d is None else x.movedim(0, d) for x, d in zip((x1[0], x2[0]), (None, None))]
    mapped = [x[0] if d is None else x.movedim(0, d) for x, d in zip((x1, x2), in_dims)]
    result = torch.vmap(product, in_dims)(*mapped)
    pairs = [(x1[0] if in_dims[0] is None else x1[i], x2[0] if in_dims[1] is None else x2[i]) for i in range(3)]
    assert torch.equal(result, torch.stack([product(a, b) for a, b in pairs]))


def test_gradients_of_each_sample(rng):
    """vmap of grad: gradients are not summed over the samples, though one of the inputs is theirs in common."""
    x1, x2 = tensors(rng, (3, 4), (1,), grad=False)

    def energy(b, a):
        return (product(a, b) ** 3).sum()

    for function in (torch.func.grad(energy), torch.func.hessian(energy)):
        result = torch.vmap(function, (None, 0))(x2, x1)
        assert torch.allclose(result, torch.stack([function(x2, a) for a in x1]))


def test_the_operators_map_over_gradients(rng):
    """vmap over the backward pass alone, as is_grads_batched and jacobians do it."""
    x1, x2 = tensors(rng)
    y = product(x1, x2)
    directions = torch.eye(y.numel(), dtype=y.dtype).reshape(-1, *y.shape)
    batched = torch.autograd.grad(y, (x1, x2), directions, is_grads_batched=True)
    for jacobian, expected in zip(batched, torch.autograd.functional.jacobian(product, (x1, x2))):
        assert torch.allclose(jacobian, expected.reshape(jacobian.shape))


def test_forward_mode_and_its_mixtures(rng):
    x1, x2 = tensors(rng, (4,), (1,))
    assert torch.autograd.gradcheck(product, (x1, x2), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(product, (x1, x2), check_fwd_over_rev=True)
    x1, x2 = x1.detach(), x2.detach()

    def energy(b):
        return (product(x1, b) ** 3).sum()

    reverse = torch.func.jacrev(torch.func.jacrev(torch.func.jacrev(energy)))(x2)
    mixed = torch.func.jacrev(torch.func.jacfwd(torch.func.jacrev(energy)))(x2)
    assert torch.allclose(mixed, reverse)
    third = torch.func.jacfwd(torch.func.jacrev(torch.func.jacrev(energy)))(x2)
    assert torch.allclose(third, reverse)


def test_forward_mode_inside_forward_mode_is_refused(rng):
    """torch itself would return zeros."""
    x1, x2 = tensors(rng, grad=False)
    with pytest.raises(NotImplementedError, match="forward mode inside forward mode"):
        torch.func.jacfwd(torch.func.jacfwd(lambda b: product(x1, b)))(x2)


@pytest.mark.parametrize("wanted", [[True, True], [True, False], [False, True]])
@pytest.mark.parametrize("form", ["text", "tensor"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_operators_pass_opcheck(wanted, form, rng):
    x1, x2 = tensors(rng, (4,), (1,))
    dy = array(numbers(rng, (4, 5), "f8")).requires_grad_()
    rule = (as_text(RULE), None, -1)
    if form == "tensor":
        columns = (RULE.m1, RULE.m2, RULE.mu, RULE.C.view(np.int64))
        rule = ("", torch.tensor(np.stack(columns)), -1)
    z1, z2 = (x.detach().clone().requires_grad_() if want else None for x, want in zip((x1, x2), wanted))
    for operator, arguments in (
        (ops.product, (x1, x2, *rule, 5)),
        (ops.vjp, (dy, x1, x2, *rule, wanted)),
        (ops.vjp_vjp, (z1, z2, dy, x1, x2, *rule, [True, *wanted])),
    ):
        assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}


@pytest.mark.usefixtures("_no_compiled_functions")
def test_a_rule_whose_text_nobody_has_asked_for_is_a_constant_of_a_graph(rng):
    x1, x2 = tensors(rng)
    rules = [sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, factor * RULE.C, RULE.shape) for factor in (3, 4)]
    compiled = torch.compile(bridge.product, fullgraph=True, backend="aot_eager")
    results = [compiled(rule, x1, x2) for rule in (*rules, *rules)]
    for rule, result in zip((*rules, *rules), results):
        assert torch.equal(result, bridge.product(rule, x1, x2))
