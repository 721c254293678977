"""Message passing in PyTorch: values and derivatives of any order, every way to trace a function, and its graphs."""

import gc
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edges import Edges, random_graph  # noqa: E402
from frameworks import Torch  # noqa: E402
from strategies import DTYPES, numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.torch as bridge  # noqa: E402
from sparseacc import Graph, message_passing_vjp, message_passing_vjp_vjp  # noqa: E402
from sparseacc.graph import COLUMNS  # noqa: E402
from sparseacc.terms import as_text  # noqa: E402
from sparseacc.torch import graphs, message_operators  # noqa: E402

RULE = sparseacc.tensor_product("2x0e + 2x1o", "0e + 1o", "0e + 1o + 1e")
CHANNELS = 2
array, numpy = Torch().array, Torch().numpy
EVERY_COLUMN = [("senders", "receivers"), ("senders",), ("receivers",), COLUMNS]


def operands(rng, rows, dtype="f8", *, y_has_channels=False, w_has_channels=True, weights=True, grad=True):
    shapes = [
        (rows[0], RULE.shape[0], CHANNELS),
        (rows[1], RULE.shape[1], *[CHANNELS] * y_has_channels),
        (rows[2], RULE.num_paths, *[CHANNELS] * w_has_channels),
    ]
    return [array(numbers(rng, shape, dtype)).requires_grad_(grad) for shape in shapes[: 2 + weights]]


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


# Values and derivatives.


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


# Graphs.


def test_tuples_are_graphs(rng):
    graph, rows = random_graph(rng)
    x, y, w = operands(rng, rows)
    senders, receivers = (torch.tensor(column) for column in (graph.senders, graph.receivers))
    expected = bridge.message_passing(RULE, graph, x, y, w)
    for kind in (torch.int32, torch.int64):
        indices = senders.to(kind), receivers.to(kind), graph.num_nodes
        assert torch.equal(bridge.message_passing(RULE, indices, x, y, w), expected)
    of_edges = x[senders]
    assert torch.equal(bridge.message_passing(RULE, (None, receivers, graph.num_nodes), of_edges, y, w), expected)
    edges = bridge.message_passing(RULE, (senders, None, graph.num_edges), x, y, w)
    assert torch.equal(edges, bridge.message_passing(RULE, (None, None, graph.num_edges), of_edges, y, w))
    assert torch.allclose(torch.zeros_like(expected).index_add(0, receivers, edges), expected)


def test_no_edges_are_fine(rng):
    none = torch.zeros(0, dtype=torch.int64)
    inputs = operands(rng, (9, 0, 0))
    out = bridge.message_passing(RULE, (none, none, 5), *inputs)
    assert out.shape == (5, RULE.shape[2], CHANNELS)
    assert not out.any()
    for gradient, x in zip(torch.autograd.grad(out.sum(), inputs, create_graph=True), inputs, strict=True):
        assert gradient.shape == x.shape
        assert not gradient.any()


def test_index_tensors_that_change_are_other_graphs(rng):
    """In place, or in memory that an earlier tensor has left."""
    x, y, w = operands(rng, (9, 60, 60))
    index = torch.empty(2, 60, dtype=torch.int64)
    for _ in range(20):
        columns = rng.integers(0, 9, (2, 60))
        index.copy_(torch.tensor(columns))
        for senders, receivers in (tuple(index), tuple(torch.tensor(columns))):
            out = bridge.message_passing(RULE, (senders, receivers, 9), x, y, w)
            assert torch.equal(out, bridge.message_passing(RULE, Graph(*columns, 9), x, y, w))


def test_threads_that_use_a_graph_first_make_one_set_of_tensors():
    """Others would be freed, and what lies there later be taken for the graph."""
    several = [Graph([0, 1], [1, 0]) for _ in range(50)]
    for graph in several:
        before, start = len(graphs._of_memory), threading.Barrier(4)
        threads = [
            threading.Thread(target=lambda g=graph, s=start: (s.wait(), graphs.index_tensors(g))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(graphs._of_memory) == before + 1


def test_a_graph_is_sorted_once_and_goes_when_nobody_has_it(rng, monkeypatch):
    seen = []
    monkeypatch.setattr(graphs, "graph_of", lambda *arguments: seen.append(1))
    graph, rows = random_graph(rng)
    inputs = operands(rng, rows)
    before = len(graphs._of_memory)
    bridge.message_passing(RULE, graph, *inputs).sum().backward()
    assert len(graphs._of_memory) == before + 1
    assert seen == []
    del graph
    gc.collect()
    assert len(graphs._of_memory) == before


def test_graphs_of_tensors_are_made_once_for_a_step(rng, monkeypatch):
    made = []
    original = Graph._fill

    def fill(self, *arguments):
        made.append(1)
        original(self, *arguments)

    monkeypatch.setattr(Graph, "_fill", fill)
    x, y, w = operands(rng, (9, 60, 60))
    senders, receivers = torch.tensor(rng.integers(0, 9, (2, 60)))
    out = bridge.message_passing(RULE, (senders, receivers, 9), x, y, w)
    (force,) = torch.autograd.grad(out.sum(), y, create_graph=True)
    force.pow(2).sum().backward()
    assert made == [1]


# Tracing.


def force_step(senders, receivers, x, y, w):
    """One of message passing, and its gradients."""
    return bridge.message_passing(RULE, (senders, receivers, x.shape[0]), x, y * 2, w) + 1


@pytest.mark.usefixtures("_no_compiled_functions")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what its compiler imports
def test_compiled_without_a_graph_break(backend, rng):
    """Index tensors are inputs, and there may be any number of nodes and edges."""
    compiled = torch.compile(force_step, fullgraph=True, backend=backend)
    for nodes, edges in ((4, 11), (5, 17), (7, 30)):  # the later ones by dynamic shapes
        index = torch.tensor(rng.integers(0, nodes, (2, edges)))
        inputs = operands(rng, (nodes, edges, edges))
        results = compiled(*index, *inputs), force_step(*index, *inputs)
        assert torch.equal(*results)
        for a, b in zip(*(torch.autograd.grad(out.pow(2).sum(), inputs) for out in results), strict=True):
            assert torch.allclose(a, b)


@pytest.mark.usefixtures("_no_compiled_functions")
def test_a_compiled_function_knows_one_graph_from_another(rng):
    compiled = torch.compile(
        lambda graph, *arrays: bridge.message_passing(RULE, graph, *arrays), fullgraph=True, backend="aot_eager"
    )
    pairs = [random_graph(rng)[0] for _ in range(2)]
    inputs = operands(rng, random_graph(rng)[1])
    for graph in (*pairs, *pairs):
        assert torch.equal(compiled(graph, *inputs), bridge.message_passing(RULE, graph, *inputs))


@pytest.mark.usefixtures("_no_compiled_functions")
def test_the_number_of_edges_may_be_unknown_while_compiling(rng):
    """As where a model chooses edges by their lengths."""

    def chosen(mask, index, x, y, w):
        edges = mask.nonzero()[:, 0]
        return bridge.message_passing(RULE, (index[0, edges], index[1, edges], 9), x, y[edges], w[edges])

    index = torch.tensor(rng.integers(0, 9, (2, 60)))
    inputs = operands(rng, (9, 60, 60))
    compiled = torch.compile(chosen, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        mask = torch.tensor(rng.integers(0, 2, 60)) == 1
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            results = compiled(mask, index, *inputs), chosen(mask, index, *inputs)
        assert torch.equal(*results)
        for a, b in zip(*(torch.autograd.grad(out.pow(2).sum(), inputs) for out in results), strict=True):
            assert torch.allclose(a, b)


class Model(torch.nn.Module):
    def forward(self, senders, receivers, x, y, w):
        return force_step(senders, receivers, x, y, w)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what its exporter imports
def test_an_exported_program_takes_any_graph(rng):
    nodes, edges = torch.export.Dim("nodes"), torch.export.Dim("edges")
    index, inputs = torch.tensor(rng.integers(0, 4, (2, 11))), operands(rng, (4, 11, 11), grad=False)
    dynamic = ({0: edges}, {0: edges}, {0: nodes}, {0: edges}, {0: edges})
    program = torch.export.export(Model(), (*index, *inputs), dynamic_shapes=dynamic).module()
    index, inputs = torch.tensor(rng.integers(0, 6, (2, 20))), operands(rng, (6, 20, 20), grad=False)
    assert torch.equal(program(*index, *inputs), force_step(*index, *inputs))


class OfGraph(torch.nn.Module):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def forward(self, *arrays):
        return bridge.message_passing(RULE, self.graph, *arrays)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("first", ["export", "inference", "grad", "vmap"])
def test_a_graph_may_first_be_used_anywhere(first, rng):
    """Its index tensors are made there, and serve everywhere after that."""
    graph, rows = random_graph(rng)
    inputs, model = operands(rng, rows, grad=False), OfGraph(graph)
    expected = bridge.message_passing(RULE, random_graph(np.random.default_rng(20))[0], *inputs)
    if first == "export":
        assert torch.equal(torch.export.export(model, tuple(inputs)).module()(*inputs), expected)
    elif first == "grad":
        torch.func.grad(lambda x: model(x, *inputs[1:]).sum())(inputs[0])
    elif first == "vmap":
        torch.vmap(lambda x: model(x, *inputs[1:]))(inputs[0][None])
    else:
        with torch.inference_mode():
            assert torch.equal(model(*inputs), expected)
    assert torch.equal(model(*inputs), expected)
    model(*(x.requires_grad_() for x in inputs)).sum().backward()


@pytest.mark.parametrize("in_dims", [(0, 0, 0), (0, None, 1), (None, 0, None), (2, 1, 0)])
@pytest.mark.parametrize("columns", EVERY_COLUMN, ids=len)
def test_vmap_is_a_loop(columns, in_dims, rng):
    graph, rows = random_graph(rng, 12, columns=columns)
    samples = [operands(rng, rows, grad=False) for _ in range(3)]
    mapped = [
        samples[0][i] if d is None else torch.stack([sample[i] for sample in samples], d) for i, d in enumerate(in_dims)
    ]

    def function(*arrays):
        return bridge.message_passing(RULE, graph, *arrays)

    def gradients(*arrays):
        return torch.func.grad(lambda *inputs: (function(*inputs) ** 3).sum(), (0, 1, 2))(*arrays)

    each = [[samples[0 if d is None else k][i] for i, d in enumerate(in_dims)] for k in range(3)]
    assert torch.allclose(torch.vmap(function, in_dims)(*mapped), torch.stack([function(*arrays) for arrays in each]))
    for found, expected in zip(torch.vmap(gradients, in_dims)(*mapped), zip(*(gradients(*arrays) for arrays in each))):
        assert torch.allclose(found, torch.stack(expected))


def test_vmap_over_graphs(rng):
    index = torch.tensor(rng.integers(0, 9, (3, 2, 60)))
    x, y, w = operands(rng, (9, 60, 60), grad=False)

    def function(senders, receivers):
        return bridge.message_passing(RULE, (senders, receivers, 9), x, y, w)

    found = torch.vmap(function)(index[:, 0], index[:, 1])
    assert torch.allclose(found, torch.stack([function(*pair) for pair in index]))


def test_forward_mode_and_its_mixtures(rng):
    graph, rows = random_graph(rng, 6, 3, 3)
    inputs = operands(rng, rows)

    def function(*arrays):
        return bridge.message_passing(RULE, graph, *arrays)

    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, inputs, check_fwd_over_rev=True, fast_mode=True)
    x, y, w = (a.detach() for a in inputs)

    def energy(y):
        return (function(x, y, w) ** 3).sum()

    reverse = torch.func.jacrev(torch.func.jacrev(torch.func.jacrev(energy)))(y)
    assert torch.allclose(torch.func.jacrev(torch.func.jacfwd(torch.func.jacrev(energy)))(y), reverse)
    assert torch.allclose(torch.func.jacfwd(torch.func.jacrev(torch.func.jacrev(energy)))(y), reverse)


@pytest.mark.parametrize("wanted", [[True, True, True], [True, False, False], [False, True, True]])
@pytest.mark.parametrize("columns", [("senders", "receivers"), COLUMNS], ids=len)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_operators_pass_opcheck(wanted, columns, rng):
    graph, rows = random_graph(rng, 8, columns=columns)
    x, y, w = operands(rng, rows)
    rest = (*graphs.index_tensors(graph), graph.num_nodes, as_text(RULE), -2)
    dout = array(rng.normal(size=(graph.num_nodes, RULE.shape[2], CHANNELS))).requires_grad_()
    z = [a.detach().clone().requires_grad_() if want else None for a, want in zip((x, y, w), wanted)]
    for operator, arguments in (
        (message_operators.messages, (x, y, w, *rest)),
        (message_operators.messages_vjp, (dout, x, y, w, *rest, wanted)),
        (message_operators.messages_vjp_vjp, (*z, dout, x, y, w, *rest, [True, *wanted])),
    ):
        assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}


def test_results_are_contiguous_whatever_the_operands_are(rng):
    """As the graph of a compiled function expects it, zeros too."""
    graph, rows = random_graph(rng)
    x, y, w = (a.swapaxes(0, -1).contiguous().swapaxes(0, -1) for a in operands(rng, rows, "c16", grad=False))
    dout = torch.ones(graph.num_nodes, RULE.shape[2], CHANNELS, dtype=x.dtype)
    rest = (*graphs.index_tensors(graph), graph.num_nodes, as_text(RULE), -2)
    results = message_operators.messages_vjp_vjp(x, None, None, dout, x, y, w, *rest, [True] * 4)
    assert all(result.is_contiguous() for result in results)
    assert not results[1].any()


# Bad input.

GRAPH = Graph([0, 2, 1], [1, 0, 1], 2)
X, Y, W = torch.ones(3, RULE.shape[0], 4), torch.ones(3, RULE.shape[1]), torch.ones(3, RULE.num_paths, 4)
LONG = torch.tensor([0, 2, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, GRAPH, X, Y, W), TypeError, "rule must be a sparseacc.Rule, not int"),
        ((RULE, 3, X, Y, W), TypeError, r"graph must be a sparseacc.Graph or a tuple \(senders, .* not int"),
        ((RULE, (LONG, LONG), X, Y, W), TypeError, "not a tuple of 2"),
        ((RULE, ([0, 1], LONG, 3), X, Y, W), TypeError, "senders must be a torch.Tensor or None, not list"),
        (
            (RULE, (LONG, LONG.float(), 3), X, Y, W),
            TypeError,
            "receivers must hold integers, but its dtype is",
        ),
        ((RULE, (LONG, LONG, 2), X, Y, W), ValueError, r"receivers\[1\] is 2, but must be between 0 and 1"),
        ((RULE, (LONG, -LONG, 3), X, Y, W), ValueError, r"receivers\[1\] is -2"),
        ((RULE, (LONG, LONG[:2], 3), X, Y, W), ValueError, "senders has 3 entries and receivers 2"),
        ((RULE, (LONG, LONG, 2.5), X, Y, W), TypeError, "num_nodes|integer"),
        ((RULE, GRAPH, X[:2], Y, W), ValueError, r"senders\[1\] is 2, but x has 2 rows"),
        ((RULE, GRAPH, X, Y[:2], W), ValueError, "y has 2 rows, but the graph has 3 edges"),
        ((RULE, GRAPH, X[:, 1:], Y, W), ValueError, "x has length .* along axis -2, but the rule needs"),
        ((RULE, GRAPH, X, Y, W[:, :, :3]), ValueError, "weights has 3 channels and x 4"),
        ((RULE, GRAPH, X, None, W), TypeError, "y is None, but must be a torch.Tensor"),
        ((RULE, GRAPH, X, Y.numpy(), W), TypeError, "y must be a torch.Tensor, not ndarray"),
        ((RULE, GRAPH, X.bool(), Y, W), TypeError, "x has dtype torch.bool"),
        ((RULE, GRAPH, X, Y.to_sparse(), W), TypeError, "y has the layout torch.sparse_coo"),
        ((RULE, GRAPH, X, Y.to("meta"), W), ValueError, "x is on cpu and y on meta"),
    ],
)
def test_message_passing_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        bridge.message_passing(*arguments)


def test_an_axis_is_the_last_or_the_one_before():
    with pytest.raises(ValueError, match="axis is 0"):
        bridge.message_passing(RULE, GRAPH, X, Y, W, axis=0)


@pytest.mark.usefixtures("_no_compiled_functions")
def test_lengths_are_checked_while_compiling():
    compiled = torch.compile(lambda x: bridge.message_passing(RULE, GRAPH, x, Y, W), backend="aot_eager")
    with pytest.raises(Exception, match="x has length 3 along the axis, but the rule needs 4"):
        compiled(X[:, 1:])


def test_operators_refuse_other_forms():
    rest = (*graphs.index_tensors(GRAPH), GRAPH.num_nodes, as_text(RULE), -2)
    with pytest.raises(ValueError, match="operators take tensors of one dtype"):
        message_operators.messages(X, Y.double(), W, *rest)
    with pytest.raises(ValueError, match="axis must be -2 or -1 in operators, but is 1"):
        message_operators.messages(X, Y, W, *rest[:-1], 1)
