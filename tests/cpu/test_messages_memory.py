"""Message passing keeps nothing of edges times rows times channels."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np, sparseacc

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

rule = sparseacc.tensor_product("128x0e + 128x1o", "0e + 1o + 2e + 3o", "0e + 1o + 2e + 3o")
edges, nodes = 20_000, 500
rng = np.random.default_rng(0)
graph = sparseacc.Graph(rng.integers(0, nodes, edges), np.sort(rng.integers(0, nodes, edges)), nodes)
x, y, w = (np.ones((n, k, 128)[: 2 + d], np.float32)
           for n, k, d in ((nodes, rule.shape[0], 1), (edges, rule.shape[1], 0), (edges, rule.num_paths, 1)))
dout = np.ones((nodes, rule.shape[2], 128), np.float32)
few = sparseacc.Graph([0], [0], 1)  # what a first call loads and plans is not counted
for _ in range(2):
    sparseacc.message_passing_vjp(rule, few, dout[:1], x[:1], y[:1], w[:1])
    sparseacc.message_passing(rule, few, x[:1], y[:1], w[:1])
if SHARED:  # rows of y, which have channels, and of weights
    graph = sparseacc.Graph(graph.senders, graph.receivers, nodes,
                            **{name: rng.integers(0, 100, edges) for name in ("rows_of_y", "rows_of_weights")})
    y, w = np.ones((100, rule.shape[1], 128), np.float32), w[:100]
before = peak()
results = [sparseacc.message_passing(rule, graph, x, y, w), *sparseacc.message_passing_vjp(rule, graph, dout, x, y, w)]
new = sum(a.nbytes for a in results)
print((peak() - before - new) / (new + sum(a.nbytes for a in (x, y, w, dout))))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the peak of the memory as Linux gives it")
@pytest.mark.parametrize("shared", [False, True], ids=["rows of edges", "rows that edges share"])
def test_memory_beyond_inputs_and_outputs_is_less_than_a_twentieth(shared):
    script = SCRIPT.replace("SHARED", str(shared))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.05
