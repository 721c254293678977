"""Polynomials in PyTorch: values, derivatives to any order, torch.compile, torch.func."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import sparseacc.torch  # noqa: E402
from sparseacc import symmetric_contraction  # noqa: E402
from sparseacc.torch import polynomial  # noqa: E402
from sparseacc.torch.polynomials import text_of  # noqa: E402

CONTRACTION = symmetric_contraction("2x0e + 2x1o", "2x0e + 2x1o", 3)
ROWS = torch.tensor([0, 2, 1, 0, 0])


def tensors(dtype=torch.float64, requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    shapes = (5, 4, 2), (3, CONTRACTION.num_paths, 2)
    made = (torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype) for shape in shapes)
    return [x.requires_grad_(requires_grad) for x in made]


def value(x, weights):
    return polynomial(CONTRACTION, x, weights, rows_of_weights=ROWS)


def force(x, weights):
    return torch.autograd.grad(value(x, weights).sin().sum(), x, create_graph=True)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_numbers_are_numpys(dtype):
    x, weights = tensors(dtype, False)
    out = value(x, weights)
    assert out.dtype is dtype
    expected = CONTRACTION(x.double().numpy(), weights.double().numpy(), rows_of_weights=ROWS.numpy())
    error = 100 * torch.finfo(dtype).eps
    np.testing.assert_allclose(out.double().numpy(), expected, rtol=error, atol=error)


def test_first_and_second_derivatives():
    assert torch.autograd.gradcheck(value, tensors())
    assert torch.autograd.gradgradcheck(value, tensors())


def test_third_and_fourth_derivatives():
    def of_a_loss(x, weights):
        loss = force(x, weights).square().sum()
        return torch.autograd.grad(loss, (x, weights), create_graph=True)

    assert torch.autograd.gradcheck(of_a_loss, tensors())
    assert torch.autograd.gradgradcheck(force, tensors())


def test_each_derivative_alone():
    for wanted in ((True, False), (False, True)):
        given = [x.requires_grad_(want) for x, want in zip(tensors(), wanted)]
        assert torch.autograd.gradcheck(value, given)
        assert torch.autograd.gradgradcheck(value, given)


def test_forward_mode():
    x, weights = tensors()
    assert torch.autograd.gradcheck(value, (x, weights), check_forward_ad=True, check_backward_ad=False)
    of_x = lambda x: value(x, weights.detach()).sin().sum()  # noqa: E731
    by_forward = torch.func.jacfwd(torch.func.jacrev(of_x))(x.detach())
    torch.testing.assert_close(by_forward, torch.autograd.functional.hessian(of_x, x.detach()))
    third = torch.func.jacfwd(torch.func.jacrev(torch.func.jacrev(of_x)))(x.detach())
    torch.testing.assert_close(third, torch.func.jacrev(torch.func.jacrev(torch.func.jacrev(of_x)))(x.detach()))


def test_operators_are_what_torch_expects():
    ops, text, (x, weights) = torch.ops.sparseacc, text_of(CONTRACTION), tensors()
    dy = torch.randn_like(x).requires_grad_()
    zx, zw = (z.detach().clone().requires_grad_() for z in (x, weights))
    torch.library.opcheck(ops.polynomial.default, (x, weights, ROWS, text))
    for wanted in ([True, True], [True, False]):
        torch.library.opcheck(ops.polynomial_vjp.default, (dy, x, weights, ROWS, text, wanted))
    for z, wanted in (((zx, zw), [True] * 3), ((zx, None), [True, True, False])):
        torch.library.opcheck(ops.polynomial_vjp_vjp.default, (*z, dy, x, weights, ROWS, text, wanted))


def test_a_compiled_graph_has_no_breaks():
    compiled = torch.compile(
        lambda x, w, rows: polynomial(CONTRACTION, x, w, rows_of_weights=rows).sin(), fullgraph=True
    )
    x, weights = tensors()
    out = compiled(x, weights, ROWS)
    torch.testing.assert_close(out, value(x, weights).sin())
    found = torch.autograd.grad(out.sum(), (x, weights))
    expected = torch.autograd.grad(value(x, weights).sin().sum(), (x, weights))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)


def test_samples_side_by_side():
    _, weights = tensors()
    x = torch.randn(4, 5, 4, 2, dtype=torch.float64)
    one_by_one = torch.stack([value(each, weights) for each in x])
    assert torch.equal(torch.vmap(lambda x: value(x, weights))(x), one_by_one)
    many = torch.randn(4, *weights.shape, dtype=torch.float64)
    gradient = torch.func.grad(lambda w, x: value(x, w).square().sum())
    found = torch.vmap(gradient)(many, x)
    torch.testing.assert_close(found, torch.stack([gradient(w, each) for w, each in zip(many, x)]))


def test_batches_and_axes_as_in_numpy():
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    for of_weights in ((), (3,), (2, 1)):
        weights = torch.randn(*of_weights, CONTRACTION.num_paths, 2, dtype=torch.float64)
        expected = CONTRACTION(x.numpy(), weights.numpy())
        np.testing.assert_array_equal(polynomial(CONTRACTION, x, weights).numpy(), expected)
        last = polynomial(CONTRACTION, x.transpose(-1, -2), weights.transpose(-1, -2), axis=-1)
        np.testing.assert_array_equal(last.transpose(-1, -2).numpy(), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"polynomial": 3}, TypeError, "polynomial must be a sparseacc.Polynomial, not int"),
        ({"x": np.ones((5, 4, 2))}, TypeError, "x must be a torch.Tensor, not ndarray"),
        ({"x": torch.ones(4)}, ValueError, "x must have at least 2 dimensions"),
        ({"x": torch.ones(5, 4, 2, dtype=torch.complex64)}, TypeError, "not computed of complex numbers"),
        ({"x": torch.ones(5, 4, 2, dtype=torch.bool)}, TypeError, "x has dtype torch.bool"),
        ({"x": torch.ones(5, 3, 2)}, ValueError, "x has length 3 along axis -2, but the polynomial needs 4"),
        ({"weights": torch.ones(3, 2, 2)}, ValueError, "weights has length 2 along axis -2"),
        ({"weights": torch.ones(3, CONTRACTION.num_paths, 3)}, ValueError, "weights has 3 channels and x 2"),
        ({"axis": 0}, ValueError, "axis is 0, but components are"),
        ({"rows_of_weights": ROWS * 1.0}, TypeError, "rows_of_weights must hold integers"),
        ({"rows_of_weights": ROWS[:3]}, ValueError, "with rows_of_weights of shape"),
        ({"rows_of_weights": ROWS + 1}, ValueError, r"rows_of_weights\[1\] is 3, but weights has 3 rows"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    x, weights = tensors(torch.float32)
    given = {"polynomial": CONTRACTION, "x": x, "weights": weights, "rows_of_weights": ROWS} | change
    with pytest.raises(error, match=message):
        sparseacc.torch.polynomial(given.pop("polynomial"), given.pop("x"), given.pop("weights"), **given)
