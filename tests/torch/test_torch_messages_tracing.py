"""Every way to trace and transform message passing in PyTorch: torch.compile, torch.export, vmap, forward mode."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edges import CHANNELS, EVERY_COLUMN, RULE, random_graph  # noqa: E402
from torch_messages import array, operands  # noqa: E402

import sparseacc.torch as bridge  # noqa: E402
from sparseacc.graph import COLUMNS  # noqa: E402
from sparseacc.terms import as_text  # noqa: E402
from sparseacc.torch import graphs, message_operators  # noqa: E402


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
