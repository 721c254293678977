"""Calls leave nothing behind, nor do rules and graphs that are made and dropped: in a process of its own, whose memory
nothing else changes."""

import subprocess
import sys

import pytest

GROWTH = """
import gc, os
import numpy as np, sparseacc
from sparseacc.cpu import execution, matrix, polynomials

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for cache in (execution._plans, execution._programs, matrix._matrices, polynomials._programs):
    cache._most = 200  # else they would be filled for minutes
rng = np.random.default_rng(0)
couplings = [sparseacc.clebsch_gordan(*degrees) for degrees in ((1, 1, 1), (2, 2, 2), (1, 2, 3), (0, 1, 1))]
whole = sparseacc.tensor_product("4x0e + 4x1o", "0e + 1o", "0e + 1o")
numbers = {dtype: np.ones((700, 7), dtype) for dtype in ("f4", "f8", "c8", "f2")}
large = np.ones((200_000, 3), np.float32)

def new_shapes(i):
    rule, x = couplings[i % 4], numbers[("f4", "f8", "c8", "f2")[i // 4 % 4]][: i * 7919 % 600 + 1]
    x1, x2, dy = (x[:, :n] for n in rule.shape)
    (lambda: rule(x1, x2), lambda: rule.vjp(dy, x1, x2), lambda: rule.vjp_vjp(x1, x2, dy, x1, x2),
     lambda: rule.coefficient_vjp(dy, x1, x2))[i % 7 % 4]()

def new_rule(nnz=60):
    return sparseacc.Rule(*rng.integers(0, 5, (3, nnz)), rng.normal(size=nnz), (5, 5, 5),
                          path=rng.integers(0, 3, nnz), num_paths=3)

def rules(i):
    rule, x = new_rule(), numbers["f4"][:2, :5]
    rule(x, x)
    rule.vjp(x, x, x, x[:, :3])

def rules_with_edges(i):
    sparseacc.message_passing(new_rule(), few, np.ones((2, 5, 2)), np.ones((2, 5)), np.ones((2, 3)))

contraction = sparseacc.symmetric_contraction("2x0e + 2x1o", "2x0e", 2)

def new_polynomials(i):
    m, mu, path = rng.integers(0, 4, (30, 2)), rng.integers(0, 2, 30), rng.integers(0, 3, 30)
    polynomial = sparseacc.Polynomial([([], [], [], []), (m, mu, path, rng.normal(size=30))], (4, 2), num_paths=3)
    polynomial.vjp(np.ones((2, 2, 3)), np.ones((2, 4, 3)), np.ones((3, 3)))

def atoms_and_channels_of_one_polynomial(i):
    atoms, channels = i * 7919 % 300 + 1, i % 7 * 9 + 1
    x, w = np.ones((atoms, 4, channels), np.float32), np.ones((3, contraction.num_paths, channels), np.float32)
    contraction.vjp(contraction(x, w[0]), x, w, rows_of_weights=np.arange(atoms) % 3)

few = sparseacc.Graph([0, 1], [1, 0], 2)
graph = sparseacc.Graph(*rng.integers(0, 20, (2, 60)), 20)

def passes(graph, nodes, channels):
    x = np.ones((nodes, whole.shape[0], channels), np.float32)
    y = np.ones((graph.num_edges, whole.shape[1]), np.float32)
    w = np.ones((graph.num_edges, whole.num_paths, channels), np.float32)
    dout = np.ones((nodes, whole.shape[2], channels), np.float32)
    sparseacc.message_passing(whole, graph, x, y, w)
    sparseacc.message_passing_vjp(whole, graph, dout, x, y, w)

def graphs(i):
    nodes, edges = i % 13 + 1, i % 200 + 1
    passes(sparseacc.Graph(*rng.integers(0, nodes, (2, edges)), nodes), nodes, 3)

def channels_of_one_graph(i):
    passes(graph, 20, i * 7919 % 300 + 1)

def large_results(i):
    couplings[0](large[: 100_000 + i % 100 * 1000], large[: 100_000 + i % 100 * 1000])

def errors(i):
    for call in (lambda: couplings[0](large[:2], large[:3]), lambda: sparseacc.Graph([0, -1], [0, 0]),
                 lambda: sparseacc.Rule([9], [0], [0], [1.0], (1, 1, 1))):
        try:
            call()
        except ValueError:
            continue
        raise AssertionError("no error")

kinds = {new_shapes: 3000, rules: 1200, rules_with_edges: 1200, graphs: 1200, channels_of_one_graph: 1000,
         new_polynomials: 1000, atoms_and_channels_of_one_polynomial: 1000, large_results: 400, errors: 1000}
for kind, calls in kinds.items():
    for i in range(calls):  # fills the caches, and the memory that Python and the C library keep
        kind(i)
    before = resident()
    for i in range(calls):
        kind(i)
    print(f"{kind.__name__}: {(resident() - before) / calls:.0f}")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_kind_of_call_leaves_anything_behind():
    """Not 500 bytes a call, nor 1000 of the few that take longer."""
    found = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=False, timeout=280)
    assert found.returncode == 0, found.stderr
    growth = {name: int(size) for name, size in (line.split(": ") for line in found.stdout.splitlines())}
    assert len(growth) == 9
    assert {name: size for name, size in growth.items() if size > (5000 if "large" in name else 1000)} == {}


GIVEN_BACK = """
import gc, os
import numpy as np, sparseacc

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def rules(number, nnz, n):
    rng = np.random.default_rng(0)
    for _ in range(number):
        rule, x = sparseacc.Rule(*rng.integers(0, n, (3, nnz)), rng.normal(size=nnz), (n, n, n)), np.ones((1, n))
        rule.vjp(x, x, x)

rules(1, 10, 3)
before = resident()
rules(20, 20_000, 100)
held = sum(kept.bytes for kept in sparseacc.cache_info().values())
assert held > 5 * 10**6
sparseacc.cache_clear()
print((resident() - before) / held)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_dropped_on_request_goes_back_to_the_system():
    """Also what the C library would keep: programs are smaller than the blocks that it maps."""
    shown = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True, timeout=100)
    assert float(shown.stdout) < 0.2
