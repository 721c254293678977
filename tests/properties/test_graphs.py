"""Graphs as values, graphs of nothing, and what is refused of graphs and of the arrays that go with them."""

import pickle

import numpy as np
import pytest

from sparseacc import Graph, Rule, message_passing, message_passing_vjp, message_passing_vjp_vjp
from sparseacc.graph import _restored


def test_nothing_is_fine():
    rule = Rule([0], [0], [0], [1.0], (1, 1, 1))
    nothing = Rule([], [], [], [], (2, 0, 3), path=[], num_paths=0)
    for graph in (Graph([], [], 3), Graph(None, [], 0), Graph([], None)):
        for r in (rule, nothing):
            for channels in (0, 4):
                x = np.ones((0 if graph.senders is None else 2, r.shape[0], channels))
                y, w = np.ones((0, r.shape[1])), np.ones((0, r.num_paths, channels))
                out = message_passing(r, graph, x, y, w)
                assert out.shape == (graph.num_nodes, r.shape[2], channels)
                assert not out.any()
                for gradient, like in zip(message_passing_vjp(r, graph, out, x, y, w), (x, y, w)):
                    assert gradient.shape == like.shape
                    assert not gradient.any()


GRAPH = Graph([0, 2, 1], [1, 0, 1], 2)
RULE = Rule([0, 1], [0, 2], [0, 0], [1.0, 2.0], (2, 3, 1), path=[0, 1])
X, Y, W = np.ones((3, 2, 4)), np.ones((3, 3)), np.ones((3, 2, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: message_passing(RULE, GRAPH, X[:2], Y, W), ValueError, r"senders\[1\] is 2, but x has 2 rows"),
        (lambda: message_passing(RULE, GRAPH, X, Y[:2], W), ValueError, "y has 2 rows, but the graph has 3 edges"),
        (
            lambda: message_passing(RULE, GRAPH, X, Y, W[:1]),
            ValueError,
            "weights has 1 rows, but the graph has 3 edges",
        ),
        (
            lambda: message_passing(RULE, GRAPH, X[:, :1], Y, W),
            ValueError,
            "x has length 1 along axis -2, but the rule needs 2",
        ),
        (
            lambda: message_passing(RULE, GRAPH, X, Y[:, :2], W),
            ValueError,
            "y has length 2 along axis -1, but the rule needs 3",
        ),
        (lambda: message_passing(RULE, GRAPH, X, Y, W[:, :1]), ValueError, "weights has length 1 .* the rule needs 2"),
        (lambda: message_passing(RULE, GRAPH, X, Y, W[:, :, :3]), ValueError, "weights has 3 channels and x 4"),
        (lambda: message_passing(RULE, GRAPH, X[0], Y, W), ValueError, "x must have 3 dimensions"),
        (lambda: message_passing(RULE, GRAPH, X, Y[0], W), ValueError, "y must have 2 dimensions, or 3 with channels"),
        (
            lambda: message_passing(RULE, GRAPH, X, Y, W, axis=0),
            ValueError,
            "axis is 0, but components are in the last",
        ),
        (lambda: message_passing(RULE, GRAPH, X, Y, W, axis=1.5), TypeError, "axis must be an integer"),
        (lambda: message_passing(3, GRAPH, X, Y, W), TypeError, "rule must be a sparseacc.Rule, not int"),
        (lambda: message_passing(RULE, ([0], [0]), X, Y, W), TypeError, "graph must be a sparseacc.Graph, not tuple"),
        (lambda: message_passing(RULE, GRAPH, None, Y, W), TypeError, "x is None"),
        (lambda: message_passing(RULE, GRAPH, X, Y, W.astype(str)), TypeError, "weights has dtype <U"),
        (lambda: message_passing(RULE, GRAPH, X, Y, W, out=np.ones((2, 1, 3))), ValueError, "out.shape is"),
        (
            lambda: message_passing_vjp(RULE, GRAPH, X, X, Y, W),
            ValueError,
            "dout.shape is .* must be that of the result",
        ),
        (lambda: message_passing_vjp(RULE, GRAPH, None, X, Y, W), TypeError, "dout is None"),
        (lambda: message_passing_vjp(RULE, GRAPH, X[:2, :1], X, Y, W, wrt=3), ValueError, "wrt may hold"),
        (
            lambda: message_passing_vjp_vjp(RULE, GRAPH, None, None, W, X[:2, :1], X, Y),
            ValueError,
            "zw is given, but weights is None",
        ),
        (lambda: message_passing_vjp_vjp(RULE, GRAPH, Y, None, None, X[:2, :1], X, Y, W), ValueError, "zx.shape is"),
        (lambda: Graph([0, 1], [0]), ValueError, "senders has 2 entries and receivers 1"),
        (lambda: Graph([0, -1], [0, 1]), ValueError, r"senders\[1\] is -1, but must not be negative"),
        (lambda: message_passing(RULE, GRAPH, X, Y, W[:, :, :2]), ValueError, "weights has 2 channels and x 4"),
        (lambda: message_passing(RULE, GRAPH, X.reshape(len(X), -1), Y, W), ValueError, "sparseacc.to_channels makes"),
        (lambda: message_passing(RULE, GRAPH, X, Y, W[:1]), ValueError, r"make it Graph\(..., rows_of_weights="),
        (
            lambda: Graph([0, 1], [0, 2], 2),
            ValueError,
            r"receivers\[1\] is 2, but must be between 0 and 1 \(num_nodes is 2\): pass num_nodes=3",
        ),
        (lambda: Graph([0.0], [0]), TypeError, "senders must hold integers, but its dtype is float64"),
        (lambda: Graph([[0]], [0]), ValueError, "senders must be 1-D"),
        (lambda: Graph(None, None), ValueError, "all None"),
        (lambda: Graph([0], None, 2), ValueError, "num_nodes is 2, but without receivers"),
        (lambda: Graph([0], [0], -1), ValueError, "num_nodes is -1"),
        (lambda: Graph([0], [0], 1.5), TypeError, "num_nodes must be an integer"),
        (lambda: Graph([0], [0]).__init__([1], [1]), TypeError, "immutable"),
        (lambda: setattr(GRAPH, "num_nodes", 5), AttributeError, "immutable"),
    ],
)
def test_bad_input_is_one_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", ">i4"])
def test_indices_of_any_kind_say_how_many_nodes_there_are(kind):
    assert Graph(np.array([0, 1], kind), np.array([3, 0], kind)).num_nodes == 4
    assert Graph(np.array([], kind), np.array([], kind)).num_nodes == 0


def test_a_graph_is_a_value_that_nobody_changes():
    senders = np.array([0, 1])
    graph = Graph(senders, np.array([1, 0], "i4"), rows_of_y=[0, 0])
    senders[0] = 5
    assert graph.senders.tolist() == [0, 1]
    assert (graph.num_nodes, graph.rows_of_weights) == (2, None)
    with pytest.raises(ValueError, match="WRITEABLE"):
        graph.receivers.flags.writeable = True
    again = pickle.loads(pickle.dumps(graph))
    assert again.receivers.tolist() == [1, 0]
    assert again.rows_of_y.tolist() == [0, 0]
    on_gpu = _restored((senders, None, None, None), 2, False, 3)
    assert pickle.loads(pickle.dumps(on_gpu)).device == 3


def test_indices_that_another_thread_writes_while_they_are_checked_are_not_kept(monkeypatch):
    senders, find = np.array([0, 1]), np.flatnonzero
    monkeypatch.setattr(np, "flatnonzero", lambda bad: (senders.fill(-1), find(bad))[1])
    assert Graph(senders, [0, 0]).senders.tolist() == [0, 1]
    assert senders.tolist() == [-1, -1]


def test_rows_beyond_the_senders_have_no_gradient():
    dx, *_ = message_passing_vjp(RULE, GRAPH, np.ones((2, 1, 4)), np.ones((100, 2, 4)), Y, W)
    assert dx.shape == (100, 2, 4)
    assert not dx[3:].any()
