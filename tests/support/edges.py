"""The reference of message passing: a loop over terms in double precision, of rows that are gathered and added up, with
the bound on the error that the contract allows, as in oracle.py."""

import numpy as np
from oracle import bound, wide
from strategies import numbers

import sparseacc
from sparseacc.graph import COLUMNS

# What the bridges to frameworks are tested with.
RULE = sparseacc.tensor_product("2x0e + 2x1o", "0e + 1o", "0e + 1o + 1e")
CHANNELS = 2
GRAPH = sparseacc.Graph([0, 2, 1], [1, 0, 1], 2)
EVERY_COLUMN = [("senders", "receivers"), ("senders",), ("receivers",), COLUMNS]


class Edges:
    """Of arrays (rows, components, channels), or without channels for y and weights."""

    def __init__(self, rule, graph, dtype):
        self.rule, self.graph, self.dtype = rule, graph, dtype
        own = np.arange(graph.num_edges)
        columns = (graph.senders, graph.rows_of_y, graph.rows_of_weights, graph.receivers)
        self.rows = dict(zip(("x", "y", "w", "out"), (own if c is None else c for c in columns)))
        self.columns = {"x": rule.m1, "y": rule.m2, "w": rule.path, "out": rule.mu}

    def form(self, slot, like, arrays):
        """The derivative by the operand in a slot of the sum over edges of the product of all; of the shape `like`."""
        totals = []
        for kind in range(3):
            total = np.zeros(like, np.complex128 if any(a.dtype.kind == "c" for a in arrays.values()) else float)
            for k, C in enumerate(self.rule.C):
                product = 1 if kind == 2 else (C, abs(C))[kind]
                for name, array in arrays.items():
                    factor = wide(array)[self.rows[name], self.columns[name][k]]
                    factor = (factor, abs(factor), np.ones(factor.shape))[kind]
                    product = product * (factor if factor.ndim == 2 else factor[:, None])
                if len(like) == 2:
                    product = product.sum(axis=-1)
                np.add.at(total, (self.rows[slot], self.columns[slot][k]), product)
            totals.append(total)
        return totals

    def checked(self, result, like, *forms):
        """Compares a result with the sum of forms, each of a slot and operands."""
        value, absolute, terms = (sum(t) for t in zip(*(self.form(slot, like, arrays) for slot, arrays in forms)))
        assert result.shape == like
        assert result.dtype == self.dtype
        error = bound(terms.real, absolute.real, self.dtype)
        difference = abs(wide(result) - value)
        assert np.all(difference <= error), f"error / bound up to {np.max(difference / np.maximum(error, 1e-300))}"

    def check_result(self, out, x, y, w):
        self.checked(out, (self.graph.num_nodes, self.rule.shape[2], x.shape[2]), ("out", {"x": x, "y": y, "w": w}))

    def check_gradients(self, gradients, dout, x, y, w):
        operands = {"out": dout, "x": x, "y": y, "w": w}
        for (name, array), result in zip(list(operands.items())[1:], gradients):
            self.checked(result, array.shape, (name, {n: a for n, a in operands.items() if n != name}))

    def check_second(self, results, z, dout, x, y, w):
        operands = {"out": dout, "x": x, "y": y, "w": w}
        for (slot, array), result in zip(operands.items(), results):
            forms = [
                (slot, {n: z[name] if n == name else a for n, a in operands.items() if n != slot})
                for name in z
                if name != slot
            ]
            self.checked(result, array.shape, *forms)


def random_graph(rng, edges=60, rows=9, nodes=7, columns=("senders", "receivers")):
    """A graph with self-loops, repeated edges and nodes without edges, and how many rows x, y and w have."""
    named = {"senders": rows, "receivers": nodes, "rows_of_y": 5, "rows_of_weights": 6}
    index = {name: rng.integers(0, n, edges) if name in columns else None for name, n in named.items()}
    order = [index.pop("senders"), index.pop("receivers")]
    graph = sparseacc.Graph(*order, nodes if order[1] is not None else None, **index)
    return graph, [named[name] if name in columns else edges for name in ("senders", "rows_of_y", "rows_of_weights")]


def random_rule(rng, most=6, terms=40):
    """A rule of some paths, with terms that repeat."""
    n1, n2, n_out, paths = rng.integers(1, most, 4)
    columns = [rng.integers(0, n, terms) for n in (n1, n2, n_out)]
    path = rng.integers(0, paths, terms)
    return sparseacc.Rule(*columns, rng.normal(size=terms), (n1, n2, n_out), path=path, num_paths=paths)


def operands(rng, rule, rows, channels, dtype, y_has_channels=False, w_has_channels=True):
    """x, y and weights of so many rows."""
    shapes = (
        (rows[0], rule.shape[0], channels),
        (rows[1], rule.shape[1], *[channels] * y_has_channels),
        (rows[2], rule.num_paths, *[channels] * w_has_channels),
    )
    return [numbers(rng, shape, dtype) for shape in shapes]
