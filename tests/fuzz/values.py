"""What fuzzed calls are of: rules, graphs and polynomials."""

import pickle
from functools import lru_cache

import numpy as np

import sparseacc
from sparseacc import Graph, Polynomial, Rule

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 0)
COUPLINGS = ((0, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 2, 4), (1, 5, 5))


@lru_cache(500)
def _random_rule(shape, nnz, paths, style, seed):
    rng = np.random.default_rng(seed)
    m1, m2, mu = (rng.integers(0, max(n, 1), nnz) for n in shape)
    C = rng.normal(size=nnz) if style % 2 else rng.choice([-1.5, -0.7, 0, 0.7, 1.5], nnz)
    if style // 2 == 1:  # repeated terms
        m1, m2, mu, C = (np.repeat(a, 2)[:nnz] for a in (m1, m2, mu, C))
    if style // 2 == 2:  # in the order of outputs, each of a path of its own
        mu = np.sort(mu)
    path = mu % paths if style // 2 == 2 else rng.integers(0, paths, nnz)
    return Rule(m1, m2, mu, C, shape, path=path, num_paths=paths)


_coupling = lru_cache(sparseacc.clebsch_gordan)


@lru_cache
def _tensor_product(irreps):
    return sparseacc.tensor_product(irreps, "0e + 1o", "0e + 1o")


def draw_rule(choices):
    kind = choices.below(8)
    if kind < 2:
        rule = _coupling(*choices.of(COUPLINGS))
    elif kind == 2:
        rule = _tensor_product(choices.of(("0e", "3x0e + 2x1o", "0e + 1o + 1e")))
    else:
        large = choices.once_in(60)
        shape = tuple(choices.of((1, 9, 40, 130) if large else LENGTHS) for _ in range(3))
        nnz = choices.of((100, 400, 1000) if large else (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 30, 60))
        paths = choices.between(1, 4)
        rule = _random_rule(shape, nnz if all(shape) else 0, paths, choices.below(6), choices.below(8))
    if choices.once_in(8):
        rule = rule.transpose(choices.order(3))
    return pickle.loads(pickle.dumps(rule)) if choices.once_in(16) else rule


@lru_cache(500)
def _random_graph(edges, rows, nodes, columns, in_order, given_nodes, kind, seed):
    rng = np.random.default_rng(seed)
    most = {"senders": rows, "receivers": nodes, "rows_of_y": 5, "rows_of_weights": 6}
    index = {name: rng.integers(0, most[name], edges) if name in columns else None for name in most}
    if in_order and "receivers" in columns:
        index["receivers"].sort()
    if kind:
        index = {name: None if a is None else a.astype(kind) for name, a in index.items()}
    if not kind:
        index = {name: None if a is None else a.tolist() for name, a in index.items()}
    return Graph(index.pop("senders"), index.pop("receivers"), nodes if given_nodes else None, **index)


def draw_graph(choices):
    columns = tuple(choices.some(("senders", "receivers", "rows_of_y", "rows_of_weights"))) or ("senders", "receivers")
    edges = choices.of((5, 1, 2, 3, 0, 15, 16, 17, 40))
    given_nodes = "receivers" in columns and choices.below(2)
    kind = choices.of(("i8", "i4", "u2", ">i8", None))
    nodes = choices.between(1, 7)
    graph = _random_graph(edges, 4, nodes, columns, choices.below(2), given_nodes, kind, choices.below(8))
    return pickle.loads(pickle.dumps(graph)) if choices.once_in(16) else graph


@lru_cache(500)
def _random_polynomial(shape, paths, sizes, seed):
    rng = np.random.default_rng(seed)
    terms = []
    for nu, nnz in enumerate(sizes, start=1):
        m = rng.integers(0, shape[0], (nnz, nu))
        terms.append((m, rng.integers(0, shape[1], nnz), rng.integers(0, paths, nnz), rng.normal(size=nnz)))
    return Polynomial(terms, shape, num_paths=paths)


_contraction = lru_cache(sparseacc.symmetric_contraction)


def draw_polynomial_alone(choices):
    if choices.below(4) == 3:
        polynomial = _contraction(*choices.of((("2x0e + 2x1o", "2x0e", 2), ("0e + 1o", "0e + 1o", 2), ("1o", "0e", 3))))
    else:
        shape, paths = (choices.between(1, 5), choices.between(1, 3)), choices.between(1, 4)
        sizes = tuple(choices.of((0, 1, 3, 8)) for _ in range(choices.between(0, 4)))
        polynomial = _random_polynomial(shape, paths, sizes, choices.below(8))
    return pickle.loads(pickle.dumps(polynomial)) if choices.once_in(16) else polynomial
