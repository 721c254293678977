"""The PyTorch bridge: the product, derivatives of any order, and every way to trace a function."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from frameworks import Torch  # noqa: E402
from oracle import Oracle, bound, check  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.torch as bridge  # noqa: E402
from sparseacc.terms import as_text  # noqa: E402
from sparseacc.torch import ops  # noqa: E402

RULE = sparseacc.clebsch_gordan(1, 2, 2)
BATCHES = [((4,), (4,)), ((4,), (1,)), ((), (4,)), ((3, 1), (4,)), ((3, 1), (1, 4))]
array, numpy = Torch().array, Torch().numpy


def product(x1, x2):
    return bridge.product(RULE, x1, x2)


def tensors(rng, batch1=(4,), batch2=(4,), dtype="f8", grad=True):
    pair = (array(numbers(rng, (*batch, n), dtype)) for batch, n in ((batch1, 3), (batch2, 5)))
    return [x.requires_grad_(grad) for x in pair]


# The product.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("batch1", "batch2"), [*BATCHES, ((0,), (0,)), ((0, 2), (1,)), ((500,), (500,))])
@pytest.mark.parametrize("axis", ["last", "first"])
def test_product_is_within_the_bound(batch1, batch2, axis, dtype, rng):
    place = -1 if axis == "last" else 0
    x1, x2 = (np.moveaxis(numbers(rng, (*b, n), dtype), -1, place) for b, n in ((batch1, 3), (batch2, 5)))
    result = bridge.product(RULE, array(x1), array(x2), axis=place)
    assert numpy(result).dtype == dtype
    check(numpy(result), Oracle(RULE, x1, x2, place, dtype).product())


@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_gradients_are_those_of_the_rule(dtype, rng):
    """To the last bit; torch's convention for complex numbers conjugates the inputs of a derivative."""
    x1, x2 = tensors(rng, (70,), (1,), dtype)
    dy, z1, z2 = (array(numbers(rng, (n, m), dtype)) for n, m in ((70, 5), (70, 3), (1, 5)))
    n1, n2, ny = (t.detach().numpy() for t in (x1, x2, dy))
    first = torch.autograd.grad(product(x1, x2), (x1, x2), dy.requires_grad_(), create_graph=True)
    for gradient, expected in zip(first, RULE.vjp(ny, n1.conj(), n2.conj())):
        assert np.array_equal(gradient.detach().numpy(), expected)
    second = torch.autograd.grad(first, (dy, x1, x2), (z1, z2))
    ddy, ddx1, ddx2 = RULE.vjp_vjp(z1.numpy(), z2.numpy(), ny.conj(), n1, n2)
    for gradient, expected in zip(second, (ddy, ddx1.conj(), ddx2.conj())):
        assert np.array_equal(gradient.resolve_conj().numpy(), expected)


@pytest.mark.parametrize(("batch1", "batch2"), BATCHES)
@pytest.mark.parametrize("dtypes", [("f8", "f8"), ("c16", "c16"), ("f8", "c16"), ("c16", "f8")])
def test_gradcheck_and_gradgradcheck(batch1, batch2, dtypes, rng):
    x1 = array(numbers(rng, (*batch1, 3), dtypes[0])).requires_grad_()
    x2 = array(numbers(rng, (*batch2, 5), dtypes[1])).requires_grad_()
    assert torch.autograd.gradcheck(product, (x1, x2), fast_mode=True)
    assert torch.autograd.gradgradcheck(product, (x1, x2), fast_mode=True)


@pytest.mark.parametrize("batch2", [(4,), (1,)])
@pytest.mark.parametrize("only", [None, 0, 1])
def test_third_and_fourth_derivatives(batch2, only, rng):
    """Also where only one input has gradients, whose operators then leave the others out."""
    x1, x2 = tensors(rng, batch2=batch2)
    inputs = [x1, x2] if only is None else [(x1, x2)[only]]

    def second(*chosen):
        a, b = chosen if only is None else (chosen[0], x2.detach()) if only == 0 else (x1.detach(), chosen[0])
        first = torch.autograd.grad((product(a, b) ** 3).sum(), chosen, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), chosen, create_graph=True)

    assert torch.autograd.gradcheck(second, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(second, inputs, fast_mode=True)


def test_third_derivatives_along_one_input_at_a_time(rng):
    """<w1, d/dx1> <w2, d/dx2> <dy, product> is the product of w1 and w2: operators with absent z1 or z2."""
    x1, x2 = tensors(rng)
    w1, w2, dy = (array(numbers(rng, (4, n), "f8")).requires_grad_() for n in (3, 5, 5))
    (g1,) = torch.autograd.grad(product(x1, x2), x1, dy, create_graph=True)
    (g12,) = torch.autograd.grad(g1, x2, w1, create_graph=True)
    (by_dy,) = torch.autograd.grad(g12, dy, w2, create_graph=True)
    expected = product(w1, w2)
    assert torch.allclose(by_dy, expected)
    for left, right in zip(
        torch.autograd.grad(by_dy.pow(2).sum(), (w1, w2)), torch.autograd.grad(expected.pow(2).sum(), (w1, w2))
    ):
        assert torch.allclose(left, right)


def test_a_double_backward_is_three_operators(rng):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Called(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "sparseacc":
                names.append(func._opname)
            return func(*args, **(kwargs or {}))

    names = []
    x1, x2 = tensors(rng)
    with Called():
        forces = torch.autograd.grad(product(x1, x2).sum(), (x1, x2), create_graph=True)
        torch.autograd.grad(sum((f**2).sum() for f in forces), (x1, x2))
    assert names == ["product", "vjp", "vjp_vjp"]


def test_force_matching_agrees_with_finite_differences(rng):
    """Energy of positions and parameters, forces, a loss on forces, its gradient with respect to the parameters."""
    target = array(rng.normal(size=(6, 3)))
    start = array(rng.normal(size=(6, 3)))
    weights = array(rng.normal(size=(3, 5)))

    def loss(weights):
        positions = start.clone().requires_grad_()
        features = torch.sin(positions @ weights)
        energy = (product(positions, features) ** 2).sum()
        (forces,) = torch.autograd.grad(-energy, positions, create_graph=True)
        return ((forces - target) ** 2).mean()

    (gradient,) = torch.autograd.grad(loss(weights.requires_grad_()), weights)
    weights = weights.detach()
    for _ in range(5):
        direction = array(rng.normal(size=(3, 5)))
        h = 1e-5
        slope = (loss(weights + h * direction) - loss(weights - h * direction)) / (2 * h)
        assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6)


def test_conjugate_and_negative_views(rng):
    x1, x2 = tensors(rng, dtype="c16", grad=False)
    check(product(x1.conj(), x2).numpy(), Oracle(RULE, x1.numpy().conj(), x2.numpy()).product())
    negative = x1.conj().imag
    assert negative.is_neg()
    check(product(negative, x2.real).numpy(), Oracle(RULE, -x1.numpy().imag, x2.numpy().real).product())


def test_dtypes_promote_as_torch_promotes_them_in_autocast_too():
    def result(d1, d2):
        return product(torch.ones(4, 3, dtype=d1), torch.ones(4, 5, dtype=d2)).dtype

    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert result(torch.float32, torch.float64) == torch.float64
            assert result(torch.float32, torch.bfloat16) == torch.float32
            assert result(torch.float16, torch.bfloat16) == torch.float32
            assert result(torch.bfloat16, torch.bfloat16) == torch.bfloat16
            assert result(torch.int64, torch.float32) == torch.float32
            assert result(torch.int64, torch.uint8) == torch.float64
            assert result(torch.complex64, torch.float64) == torch.complex128


def test_autocast_keeps_gradients_of_mixed_precision(rng):
    """The layers around run in bfloat16, the product in the widest dtype of its inputs."""
    x1, x2 = tensors(rng, dtype="f4")
    layer = torch.nn.Linear(5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = layer(x2)
        assert narrow.dtype == torch.bfloat16
        y = product(x1, narrow)
    assert y.dtype == torch.float32
    check(y.detach().numpy(), Oracle(RULE, x1.detach().numpy(), narrow.detach().float().numpy()).product())
    y.sum().backward()
    assert x1.grad.dtype == x2.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("x1", "x2", "axis", "error", "message"),
    [
        (torch.ones(4, 3, dtype=torch.bool), torch.ones(5), -1, TypeError, "x1 has dtype torch.bool"),
        (torch.ones(4, 3), torch.ones(5).to(torch.float8_e5m2), -1, TypeError, "x2 has dtype torch.float8"),
        (np.ones(3), torch.ones(5), -1, TypeError, "x1 must be a torch.Tensor, not ndarray"),
        (torch.ones(4, 3), torch.ones(5, device="meta"), -1, ValueError, "x1 is on cpu and x2 on meta"),
        (
            torch.ones(4, 4),
            torch.ones(5),
            -1,
            ValueError,
            r"x1 has length 4 along axis -1, but the rule needs 3: x1.shape is \(4, 4\), the rule's shape is \(3",
        ),
        (torch.ones(3), torch.ones(5, 5, 2), 0, ValueError, None),
        (
            torch.ones(4, 3),
            torch.ones(2, 5),
            -1,
            ValueError,
            r"do not broadcast.*\(4, 3\) and \(2, 5\), and without axis -1 \(4,\) and \(2,\)",
        ),
        (torch.ones(4, 3), torch.ones(4, 5), 0, ValueError, "x1 has length 4 along axis 0, but the rule needs 3"),
        (torch.ones(3), torch.ones(5), 1.0, TypeError, "axis must be an integer, not 1.0"),
        (torch.ones(3), torch.ones(5), None, TypeError, "axis must be an integer, not None"),
        (None, torch.ones(5), -1, TypeError, "x1 is None, but must be a torch.Tensor"),
        (torch.ones(3), None, -1, TypeError, "x2 is None, but must be a torch.Tensor"),
        (torch.ones(4, 3).to_sparse(), torch.ones(5), -1, TypeError, r"^x1 has the layout torch.sparse_coo.*to_dense"),
        (torch.ones(4, 3), torch.ones(4, 5).to_mkldnn(), -1, TypeError, r"^x2 has the layout torch._mkldnn.*to_dense"),
        (torch.ones(3), torch.ones(5), 1, IndexError, "x1: axis 1 is out of bounds"),
        (torch.ones(()), torch.ones(5), -1, IndexError, "x1: axis -1"),
    ],
)
def test_product_refuses(x1, x2, axis, error, message):
    if message is None:  # axes of 1 that are added keep the active axis where it is
        assert bridge.product(RULE, x1, x2, axis=axis).shape == (5, 5, 2)
        return
    with pytest.raises(error, match=message):
        bridge.product(RULE, x1, x2, axis=axis)


def test_a_rule_must_be_a_rule():
    with pytest.raises(TypeError, match=r"rule must be a sparseacc.Rule, not tuple"):
        bridge.product((1, 2), torch.ones(3), torch.ones(5))


def test_the_first_result_lies_where_the_kernel_wrote_it(rng, monkeypatch):
    """In a compiled function too; test_torch_kernels.py has those after it."""
    seen = []

    def kernel(rule, operation, arrays, *rest):
        (result,) = original(rule, operation, arrays, *rest)
        seen.append((*(x.ctypes.data for x in arrays), result))
        return (result,)

    original = sparseacc.cpu.execute
    monkeypatch.setattr(sparseacc.cpu, "execute", kernel)
    for rows, function in ((1001, product), (1002, torch.compile(product, fullgraph=True, backend="aot_eager"))):
        x1, x2 = tensors(rng, (rows,), (rows,), "f4", grad=False)
        y = function(x1, x2)
        address1, address2, result = seen[-1]
        assert (address1, address2, y.data_ptr()) == (x1.data_ptr(), x2.data_ptr(), result.ctypes.data)


# Tracing.


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


def test_half_precision_sums_in_float32(rng):
    """A thousand terms of bfloat16 into one output: summed in bfloat16 they would be off by far more than the bound."""
    n = 1000
    rule = sparseacc.Rule(np.arange(n), np.zeros(n, int), np.zeros(n, int), np.ones(n), (n, 1, 1))
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        x1, x2 = rng.random((2, n)).astype(dtype), np.ones((2, 1), dtype)
        result = numpy(bridge.product(rule, array(x1), array(x2))).astype(float)
        exact = x1.astype(float).sum(axis=1, keepdims=True)
        assert np.all(abs(result - exact) <= bound(0, exact, dtype))


@pytest.mark.usefixtures("_no_compiled_functions")
def test_a_rule_whose_text_nobody_has_asked_for_is_a_constant_of_a_graph(rng):
    x1, x2 = tensors(rng)
    rules = [sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, factor * RULE.C, RULE.shape) for factor in (3, 4)]
    compiled = torch.compile(bridge.product, fullgraph=True, backend="aot_eager")
    results = [compiled(rule, x1, x2) for rule in (*rules, *rules)]
    for rule, result in zip((*rules, *rules), results):
        assert torch.equal(result, bridge.product(rule, x1, x2))
