"""Graphs of message passing in PyTorch: tuples of tensors, what is kept of them, and what is refused."""

import gc
import threading

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edges import CHANNELS, GRAPH, RULE, random_graph  # noqa: E402
from torch_messages import operands  # noqa: E402

import sparseacc.torch as bridge  # noqa: E402
from sparseacc import Graph  # noqa: E402
from sparseacc.terms import as_text  # noqa: E402
from sparseacc.torch import graphs, message_operators  # noqa: E402


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


# Bad input.

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
