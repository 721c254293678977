"""Weights of paths in PyTorch: derivatives to any order, vmap, torch.compile, torch.library.opcheck."""

import numpy as np
import pytest
from oracle import Oracle, check
from strategies import numbers
from weighted import RULE, SHAPES

from sparseacc.terms import as_text

torch = pytest.importorskip("torch", reason="torch is not installed")
import sparseacc.torch as bridge  # noqa: E402 - where there is torch

ops = torch.ops.sparseacc


def tensors(rng, shapes, dtype="f8"):
    return [torch.from_numpy(numbers(rng, shape, dtype)).requires_grad_() for shape in shapes]


def product(x1, x2, w):
    return bridge.product(RULE, x1, x2, w)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "f2"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_product_is_numpys_bitwise_and_its_gradient_within_the_bound(shapes, dtype, rng):
    arrays = tensors(rng, shapes, dtype)
    y = product(*arrays)
    given = [x.detach().numpy() for x in arrays]
    assert np.array_equal(y.detach().numpy(), RULE(*given))
    dy = torch.from_numpy(numbers(rng, y.shape, dtype))
    conjugated = [x.conj() for x in given]
    oracle = Oracle(RULE, *conjugated[:2], weights=conjugated[2])
    for gradient, expected in zip(torch.autograd.grad(y, arrays, dy), oracle.vjp(dy.numpy()), strict=True):
        check(gradient.resolve_conj().numpy(), expected)


@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_derivatives_to_the_third_order_are_those_of_finite_differences(shapes, dtype, rng):
    arrays = tensors(rng, shapes, dtype)
    assert torch.autograd.gradcheck(product, arrays)
    assert torch.autograd.gradgradcheck(product, arrays)

    def second(*arrays):
        first = torch.autograd.grad((product(*arrays) ** 2).sum().abs(), arrays, create_graph=True)
        again = torch.autograd.grad(sum((g.abs() ** 2).sum() for g in first), arrays, create_graph=True)
        return tuple(again)

    assert torch.autograd.gradcheck(second, arrays, fast_mode=True)


def test_forward_mode_is_the_sum_over_the_tangents(rng):
    arrays = [x.detach() for x in tensors(rng, SHAPES[2])]
    steps = [torch.from_numpy(rng.normal(size=x.shape)) for x in arrays]
    _, derivative = torch.func.jvp(product, tuple(arrays), tuple(steps))
    expected = sum(product(*(steps[n] if k == n else x for k, x in enumerate(arrays))) for n in range(3))
    assert torch.allclose(derivative, expected)
    assert torch.autograd.gradcheck(
        product, [x.requires_grad_() for x in arrays], check_forward_ad=True, check_backward_ad=False
    )


def test_forward_mode_over_reverse_mode_is_the_hessian(rng):
    x1, x2, w = (x.detach() for x in tensors(rng, SHAPES[0]))

    def energy(w):
        return product(x1, x2, w).pow(2).sum()

    hessian = torch.autograd.functional.hessian(energy, w)
    assert torch.allclose(torch.func.jacfwd(torch.func.jacrev(energy))(w), hessian)


@pytest.mark.parametrize("dims", [(0, None, None), (None, None, 0), (0, 1, 0)], ids=str)
def test_vmap_equals_a_loop(dims, rng):
    sizes = (3, 3, 2)
    arrays = [
        torch.from_numpy(rng.normal(size=(6, n) if d is None else (4, 6, n) if d == 0 else (6, 4, n)))
        for n, d in zip(sizes, dims)
    ]

    def chosen(k):
        return [x if d is None else x.select(d, k) for x, d in zip(arrays, dims)]

    assert torch.equal(torch.vmap(product, dims)(*arrays), torch.stack([product(*chosen(k)) for k in range(4)]))
    gradient = torch.func.grad(lambda *x: (product(*x) ** 2).sum(), (0, 1, 2))
    for result, expected in zip(
        torch.vmap(gradient, dims)(*arrays), zip(*(gradient(*chosen(k)) for k in range(4)), strict=True), strict=True
    ):
        assert torch.allclose(result, torch.stack(expected))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_graph_break_it_gives_the_same(backend, dynamic, rng):
    torch._dynamo.reset()

    def loss(*arrays):
        y = bridge.product(RULE, *arrays, axis=-2)
        return (y**2).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=backend, dynamic=dynamic)
    for edges in (4, 7):
        arrays = tensors(rng, ((edges, 3, 8), (edges, 3, 1), (edges, 2, 8)))
        expected = torch.autograd.grad(loss(*arrays), arrays)
        for result, value in zip(torch.autograd.grad(compiled(*arrays), arrays), expected, strict=True):
            assert torch.allclose(result, value)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_torch_finds_nothing_wrong_with_the_operators(shapes, rng):
    x1, x2, w = tensors(rng, [(1,) * (3 - len(s)) + s for s in shapes])
    y = product(x1, x2, w)
    dy, z1, z2, zw = (torch.from_numpy(rng.normal(size=x.shape)).requires_grad_() for x in (y, x1, x2, w))
    text = as_text(RULE), -1
    operands = (dy, x1, x2, w)
    for n, missing in enumerate(operands):
        given = [None if k == n else x for k, x in enumerate(operands)]
        torch.library.opcheck(ops.weighted, (*given, *text, list(missing.shape)))
    torch.library.opcheck(ops.weighted_vjp, (*operands, *text, [True, True, True]))
    torch.library.opcheck(ops.weighted_vjp, (*operands, *text, [False, True, False]))
    torch.library.opcheck(ops.weighted_vjp_vjp, (z1, z2, zw, *operands, *text, [True] * 4))
    torch.library.opcheck(ops.weighted_vjp_vjp, (None, z2, None, *operands, *text, [True, False, True, True]))


def test_weights_of_one_edge_or_channel_broadcast(rng):
    x1, x2 = tensors(rng, ((5, 3, 8), (5, 3, 1)))
    for shape in ((5, 2, 8), (5, 2, 1), (2, 8), (2, 1)):
        (w,) = tensors(rng, (shape,))
        y = bridge.product(RULE, x1, x2, w, axis=-2)
        assert np.array_equal(y.detach().numpy(), RULE(*(x.detach().numpy() for x in (x1, x2, w)), axis=-2))
        assert torch.autograd.grad(y.sum(), w)[0].shape == shape


def test_a_rule_takes_tensors_as_weights(rng):
    x1, x2, w = (x.detach() for x in tensors(rng, SHAPES[0]))
    host = [x.numpy() for x in (x1, x2, w)]
    result = RULE(x1, x2, w)
    assert isinstance(result, torch.Tensor)
    assert np.array_equal(result.numpy(), RULE(*host))
    assert isinstance(RULE(*host[:2], w), torch.Tensor)
    for gradient, expected in zip(RULE.vjp(result, x1, x2, w), RULE.vjp(RULE(*host), *host), strict=True):
        assert np.array_equal(gradient.numpy(), expected)
    with pytest.raises(TypeError, match=r"weights requires gradients.*sparseacc\.torch\.product"):
        RULE(x1, x2, w.requires_grad_())


def test_dtypes_promote_with_the_weights(rng):
    x1, x2, w = (x.detach() for x in tensors(rng, SHAPES[0]))
    assert product(x1.float(), x2.float(), w.float()).dtype == torch.float32
    assert product(x1.float(), x2.float(), w).dtype == torch.float64
    assert product(x1.long(), x2.long(), w.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones((5, 2)), TypeError, "weights must be a torch.Tensor, not ndarray"),
        (torch.ones(5, 3), ValueError, "weights has length 3 along axis -1, but the rule needs 2"),
        (torch.ones(4, 2), ValueError, "x1, x2 and weights do not broadcast"),
        (torch.ones(()), IndexError, "weights: axis -1 is out of bounds"),
        (torch.ones(5, 2, dtype=torch.bool), TypeError, "weights has dtype torch.bool"),
        (torch.ones(5, 2, device="meta"), ValueError, "x1 is on cpu and weights on meta"),
    ],
)
def test_refuses(weights, error, message):
    with pytest.raises(error, match=message):
        product(torch.ones(5, 3), torch.ones(5, 3), weights)


def test_an_operator_refuses_what_has_not_its_form():
    x, w, text = torch.ones(5, 3), torch.ones(5, 2), as_text(RULE)
    with pytest.raises(ValueError, match="one must be None, which is computed, but 0 are"):
        ops.weighted(torch.ones(5, 4), x, x, w, text, -1, [5, 4])
    with pytest.raises(ValueError, match=r"shape is \[4, 4\], but the result's is \[5, 4\]"):
        ops.weighted(None, x, x, w, text, -1, [4, 4])
    with pytest.raises(ValueError, match=r"weights torch\.float64"):
        ops.weighted(None, x, x, w.double(), text, -1, [5, 4])
