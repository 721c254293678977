"""Message passing in PyTorch: values, derivatives of any order, dtypes, and memory."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edges import CHANNELS, EVERY_COLUMN, RULE, Edges, random_graph  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402
from torch_messages import array, numpy, operands  # noqa: E402

import sparseacc.torch as bridge  # noqa: E402
from sparseacc import message_passing_vjp, message_passing_vjp_vjp  # noqa: E402
from sparseacc.graph import COLUMNS  # noqa: E402


def composed(graph, x, y, w=None):
    """The same of torch's own functions, by the dense tensors of the paths."""
    C = torch.zeros(RULE.num_paths, *RULE.shape, dtype=x.dtype)
    for path, i, j, k, value in zip(RULE.path, RULE.m1, RULE.m2, RULE.mu, RULE.C):
        C[path, i, j, k] += value
    edges = torch.arange(graph.num_edges)
    senders, receivers, rows_of_y, rows_of_weights = (
        edges if column is None else torch.tensor(column) for column in (getattr(graph, name) for name in COLUMNS)
    )
    y = y if y.ndim == 3 else y[:, :, None].expand(*y.shape, CHANNELS)
    w = torch.ones(1, RULE.num_paths, 1, dtype=x.dtype).expand(graph.num_edges, -1, CHANNELS) if w is None else w
    w = w if w.ndim == 3 else w[:, :, None].expand(*w.shape, CHANNELS)
    edge = torch.einsum("pijk,eic,ejc,epc->ekc", C, x[senders], y[rows_of_y], w[rows_of_weights])
    return torch.zeros(graph.num_nodes, *edge.shape[1:], dtype=x.dtype).index_add(0, receivers, edge)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
def test_messages_are_within_the_bound(columns, dtype, rng):
    graph, rows = random_graph(rng, columns=columns)
    x, y, w = operands(rng, rows, dtype, grad=False)
    out = bridge.message_passing(RULE, graph, x, y, w)
    Edges(RULE, graph, dtype).check_result(numpy(out), *map(numpy, (x, y, w)))
    last = bridge.message_passing(RULE, graph, x.swapaxes(1, 2), y, w.swapaxes(1, 2), axis=2)
    assert torch.equal(last.swapaxes(1, 2), out)


def test_one_number_for_all_channels_may_have_an_axis_for_them(rng):
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows, w_has_channels=False)
    out = bridge.message_passing(RULE, graph, x, y, w)
    expected = torch.autograd.grad(out.square().sum(), (x, y, w))
    given = x, y.detach()[:, :, None].requires_grad_(), w.detach()[:, :, None].requires_grad_()
    assert torch.equal(bridge.message_passing(RULE, graph, *given), out)
    found = torch.autograd.grad(bridge.message_passing(RULE, graph, *given).square().sum(), given)
    for one, other, like in zip(found, expected, given):
        assert one.shape == like.shape
        assert torch.equal(one.squeeze(), other.squeeze())
    last = [t.swapaxes(1, 2) for t in given]
    assert torch.equal(bridge.message_passing(RULE, graph, *last, axis=-1).swapaxes(1, 2), out)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
def test_gradients_are_those_of_the_fused_calls(columns, dtype, rng):
    """To the last bit; torch's convention for complex numbers conjugates the operands of a derivative."""
    graph, rows = random_graph(rng, columns=columns)
    x, y, w = operands(rng, rows, dtype)
    out = bridge.message_passing(RULE, graph, x, y, w)
    dout = array(numbers(rng, out.shape, dtype)).requires_grad_()
    z = [array(numbers(rng, a.shape, dtype)) for a in (x, y, w)]
    first = torch.autograd.grad(out, (x, y, w), dout, create_graph=True)
    a, b, c, d = (t.detach().numpy() for t in (dout, x, y, w))
    conjugates = [t.conj() for t in (b, c, d)]
    for gradient, expected in zip(first, message_passing_vjp(RULE, graph, a, *conjugates), strict=True):
        assert np.array_equal(gradient.detach().numpy(), expected)
    second = torch.autograd.grad(first, (dout, x, y, w), z)
    expected = message_passing_vjp_vjp(RULE, graph, *(t.numpy() for t in z), a.conj(), b, c, d)
    for gradient, value in zip(second, (expected[0], *(e.conj() for e in expected[1:])), strict=True):
        assert np.array_equal(gradient.resolve_conj().numpy(), value)


@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
@pytest.mark.parametrize(
    "options", [{}, {"weights": False}, {"y_has_channels": True, "w_has_channels": False}], ids=str
)
def test_derivatives_to_the_third_are_those_of_the_composition(columns, options, rng):
    graph, rows = random_graph(rng, 12, 4, 3, columns=columns)
    inputs = operands(rng, rows, **options)

    def derivatives(function):
        value = (function(graph, *inputs) ** 3).sum()
        first = torch.autograd.grad(value, inputs, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), inputs, create_graph=True)
        third = torch.autograd.grad(sum((g**2).sum() for g in second), inputs)
        return value, *first, *second, *third

    def passed(graph, *arrays):
        return bridge.message_passing(RULE, graph, *arrays)

    for ours, expected in zip(derivatives(passed), derivatives(composed), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-9 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("dtypes", [("f8",) * 3, ("c16",) * 3, ("f8", "c16", "f8"), ("c16", "f8", "f8")])
def test_gradcheck_and_gradgradcheck(dtypes, rng):
    graph, rows = random_graph(rng, 7, 4, 3)
    shapes = [x.shape for x in operands(rng, rows)]
    inputs = [array(numbers(rng, *each)).requires_grad_() for each in zip(shapes, dtypes, strict=True)]

    def function(*arrays):
        return bridge.message_passing(RULE, graph, *arrays)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("only", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_third_and_fourth_derivatives(only, rng):
    """Also where not all operands have gradients, whose operators then leave the others out."""
    graph, rows = random_graph(rng, 5, 3, 3)
    inputs = operands(rng, rows)

    def second(*chosen):
        arrays = [x.detach() for x in inputs]
        for i, x in zip(only, chosen, strict=True):
            arrays[i] = x
        first = torch.autograd.grad(
            (bridge.message_passing(RULE, graph, *arrays) ** 3).sum(), chosen, create_graph=True
        )
        return torch.autograd.grad(sum((g**2).sum() for g in first), chosen, create_graph=True)

    chosen = [inputs[i] for i in only]
    assert torch.autograd.gradcheck(second, chosen, fast_mode=True)
    assert torch.autograd.gradgradcheck(second, chosen, fast_mode=True)


@pytest.mark.parametrize(("first", "second", "third"), [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_third_derivatives_along_one_operand_at_a_time(first, second, third, rng):
    """<dout, messages>, derived along each operand in turn, is the product of the directions."""
    graph, rows = random_graph(rng)
    inputs = operands(rng, rows)
    along = [x.detach().clone().requires_grad_() for x in operands(rng, rows)]
    out = bridge.message_passing(RULE, graph, *inputs)
    dout = array(numbers(rng, out.shape, "f8")).requires_grad_()
    (g1,) = torch.autograd.grad(out, inputs[first], dout, create_graph=True)
    (g2,) = torch.autograd.grad(g1, inputs[second], along[first], create_graph=True)
    (g3,) = torch.autograd.grad(g2, inputs[third], along[second], create_graph=True)
    (by_dout,) = torch.autograd.grad(g3, dout, along[third], create_graph=True)
    expected = bridge.message_passing(RULE, graph, *along)
    assert torch.allclose(by_dout, expected)
    gradients = (torch.autograd.grad(value.pow(2).sum(), along) for value in (by_dout, expected))
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_force_training_is_three_operators(rng):
    """Energy from messages, forces by autograd, a loss on forces: nothing else has edges times rows times channels."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Called(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "sparseacc":
                names.append(func._opname)
            return func(*args, **(kwargs or {}))

    names = []
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows)
    with Called():
        (forces,) = torch.autograd.grad(bridge.message_passing(RULE, graph, x, y, w).sum(), y, create_graph=True)
        forces.pow(2).sum().backward()
    assert names == ["messages", "messages_vjp", "messages_vjp_vjp"]
    assert x.grad.shape == x.shape
    assert w.grad.shape == w.shape


def test_memory_is_that_of_operands_and_results(rng):
    """Counted by torch's allocator and the kernel's: no intermediate of edges times rows times channels."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            results = func(*args, **(kwargs or {}))
            made = results if isinstance(results, (tuple, list)) else [results]
            sizes.extend(x.numel() for x in made if isinstance(x, torch.Tensor))
            return results

    sizes = []
    graph, rows = random_graph(rng, 3000, 20, 20)
    inputs = operands(rng, rows, w_has_channels=False)
    with Largest():
        first = torch.autograd.grad(
            bridge.message_passing(RULE, graph, *inputs).pow(2).sum(), inputs, create_graph=True
        )
        torch.autograd.grad(sum((g**2).sum() for g in first), inputs)
    assert max(sizes) == max(x.numel() for x in inputs) < graph.num_edges * RULE.shape[2] * CHANNELS


def test_dtypes_promote_as_torch_promotes_them(rng):
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows, "f4", grad=False)
    for others, dtype in (
        ((x, y, w), torch.float32),
        ((x, y.double(), w), torch.float64),
        ((x.bfloat16(), y.bfloat16(), w.bfloat16()), torch.bfloat16),
        ((x, y.long(), w.half()), torch.float32),
        ((x.long(), y.long(), w.int()), torch.float64),
    ):
        assert bridge.message_passing(RULE, graph, *others).dtype == dtype
