"""The PyTorch bridge: the product, its derivatives of any order, dtypes, and what is refused."""

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from broadcast import BATCHES, RULE  # noqa: E402
from oracle import Oracle, bound, check  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402
from torch_products import array, numpy, product, tensors  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.torch as bridge  # noqa: E402


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


def test_half_precision_sums_in_float32(rng):
    """A thousand terms of bfloat16 into one output: summed in bfloat16 they would be off by far more than the bound."""
    n = 1000
    rule = sparseacc.Rule(np.arange(n), np.zeros(n, int), np.zeros(n, int), np.ones(n), (n, 1, 1))
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        x1, x2 = rng.random((2, n)).astype(dtype), np.ones((2, 1), dtype)
        result = numpy(bridge.product(rule, array(x1), array(x2))).astype(float)
        exact = x1.astype(float).sum(axis=1, keepdims=True)
        assert np.all(abs(result - exact) <= bound(0, exact, dtype))
