"""Calls from PyTorch leave nothing behind: in a process of its own, whose memory nothing else changes."""

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("resource", reason="this system does not say how much memory a process has")

GROWTH = """
import itertools, os, sys
import numpy as np, torch
import sparseacc, sparseacc.torch
from sparseacc.cpu import memory
from sparseacc.terms import as_text
from sparseacc.torch import ops

torch.set_num_threads(1)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

rng = np.random.default_rng(0)
calls, n, nnz = map(int, sys.argv[1:])
index = rng.integers(0, n, (3, nnz))
rule = sparseacc.Rule(*index, rng.normal(size=nnz), (n, n, n))
columns = [torch.tensor(c) for c in (rule.m1, rule.m2, rule.mu, rule.C)]
terms = torch.tensor(np.stack([*index, rule.C.view(np.int64)]))
product = sparseacc.torch.product
rows = itertools.count(1)

def pair(dtype=torch.float32, rows=2, grad=(False, False)):
    return [torch.ones(rows, n, dtype=dtype).requires_grad_(g) for g in grad]

def gradients(x1, x2, function=product, order=1):
    y = function(rule, x1, x2)
    inputs = [x for x in (x1, x2) if x.requires_grad]
    for _ in range(order - 1):
        y = sum(g.sum() for g in torch.autograd.grad(y.square().sum(), inputs, create_graph=True))
    torch.autograd.grad(y.sum(), inputs)

def fails(call):
    try:
        call()
    except (RuntimeError, ValueError):
        return
    raise AssertionError("no error")

def large():
    memory.KEPT = 0  # from which on results are large
    gradients(*pair(rows=3, grad=(True, True)))
    memory.KEPT = 2**21

def new_shapes():
    n = next(rows) % 400  # more than are kept
    return many[:n], many[:n]

many = torch.ones(400, n)
compiled = torch.compile(product, fullgraph=True, backend="aot_eager")
ready = pair(grad=(True, False)), pair(grad=(True, True)), pair()
kinds = {
    "the product": lambda: product(rule, *ready[2]),
    "one gradient": lambda: gradients(*ready[0]),
    "both gradients": lambda: gradients(*ready[1]),
    "double backward": lambda: gradients(*ready[1], order=2),
    "a shared input": lambda: gradients(ready[1][0], ready[1][1][:1]),
    "large results": large,
    "new shapes": lambda: product(rule, *new_shapes()),
    "integers": lambda: product(rule, *pair(torch.int64)),
    "integers, by the operator": lambda: fails(lambda: ops.product(*pair(torch.int64), as_text(rule), None, -1, n)),
    "bfloat16": lambda: gradients(*pair(torch.bfloat16, grad=(True, False))),
    "other dtypes": lambda: product(rule, *pair(torch.complex64)),
    "vmap": lambda: torch.vmap(lambda a, b: product(rule, a, b))(*ready[2]),
    "torch.func.grad": lambda: torch.func.grad(lambda a: product(rule, a, ready[2][1]).sum())(ready[2][0]),
    "compiled": lambda: gradients(*ready[0], function=compiled),
    "bare indices": lambda: sparseacc.torch.accumulate(
        *ready[2], columns[2], n, columns[0], columns[1], columns[3]).sum(),
    "new tensors, by the operator": lambda: ops.product(*pair(rows=20), as_text(rule), None, -1, n),
    "gradients of new tensors": lambda: gradients(*pair(rows=20, grad=(True, True))),
    "terms as a tensor": lambda: ops.product(*ready[2], "", terms, -1, n),
    "an error": lambda: fails(lambda: ops.product(*ready[2], as_text(rule), None, -1, n + 1)),
}
for name, call in kinds.items():
    if name == "torch.func.grad":
        calls = min(calls, 400)  # takes milliseconds
    for _ in range(calls):  # fills the caches
        call()
    before = resident()
    for _ in range(calls):
        call()
    print(f"{name}: {resident() - before}", flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("calls", "n", "nnz", "limit"),
    [
        pytest.param(400, 300, 3000, 4_000_000, id="the text of a rule"),  # 42,000 bytes
        pytest.param(2000, 5, 11, 1_000_000, id="anything of 500 bytes"),
    ],
)
def test_no_kind_of_call_leaves_anything_behind(calls, n, nnz, limit):
    command = [sys.executable, "-c", GROWTH, *map(str, (calls, n, nnz))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert found.returncode == 0, found.stderr
    growth = {name: int(size) for name, size in (line.rsplit(": ", 1) for line in found.stdout.splitlines())}
    assert len(growth) == 19
    assert {name: size for name, size in growth.items() if size > limit} == {}
