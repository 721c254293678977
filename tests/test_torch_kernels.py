"""The kernels that torch's operators have in C, through its stable interface: what they repeat and what they leave to
Python."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from frameworks import Torch  # noqa: E402
from oracle import Oracle, check  # noqa: E402
from strategies import numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.torch as bridge  # noqa: E402
from sparseacc.torch import ops, stable  # noqa: E402

RULE = sparseacc.clebsch_gordan(1, 2, 2)
SQUARE = sparseacc.clebsch_gordan(1, 1, 1)
DOUBLE = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C, RULE.shape)

needs_c = pytest.mark.skipif(not ops._in_c, reason="this torch has no stable interface of 2.13")

tensor, array = Torch().array, Torch().numpy


@pytest.fixture
def in_python(monkeypatch):
    """The calls that go through Python."""
    seen = []
    original = stable.repeat

    def repeat(plan, tensors, rule, axis):
        seen.append([t.data_ptr() for t in tensors])
        return original(plan, tensors, rule, axis)

    monkeypatch.setattr(stable, "repeat", repeat)
    return seen


def test_a_torch_that_has_the_interface_uses_it():
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    assert ops._in_c == (version >= (2, 13))


@needs_c
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "f2", ml_dtypes.bfloat16], ids=str)
def test_only_the_first_call_of_a_kind_goes_through_python(in_python, dtype, rng):
    """A kind is a rule, an axis, dtype, shapes and strides: calls of no two kinds are taken for each other."""
    kinds = [(RULE, -1), (DOUBLE, -1), (SQUARE, -1), (SQUARE, -2), (SQUARE, -3)]
    batches = [
        ((3, 7), (3, 7)),
        ((3, 7), (3, 1)),
        ((7, 3), (7, 3)),
        ((0, 3), (0, 3)),
        ((1, 1), (5, 3)),
        ((1, 3), (0, 3)),
    ]
    layouts = [lambda t: t, lambda t: t.transpose(0, 2).contiguous().transpose(0, 2), lambda t: t.repeat(2, 1, 1)[::2]]
    for turn in range(3):
        before = len(in_python)
        for rule, axis in kinds:
            for batch1, batch2 in batches:
                for layout in layouts:
                    x1, x2 = (
                        layout(tensor(numbers(rng, tuple(np.insert(batch, axis % 3, n)), np.dtype(dtype))))
                        for batch, n in zip((batch1, batch2), rule.shape, strict=False)
                    )
                    y = bridge.product(rule, x1, x2, axis)
                    oracle = Oracle(rule, array(x1), array(x2), axis)
                    check(array(y), oracle.product())
                    dy = layout(torch.ones_like(y))
                    gradients = ops.vjp(dy, x1, x2, rule._text, None, axis, [True, True])
                    for gradient, expected in zip(gradients, oracle.vjp(array(dy)), strict=True):
                        check(array(gradient), expected)
        if turn:
            sums = sum(a != b for a, b in batches) * len(kinds) * len(layouts)
            assert len(in_python) - before == sums, "sums over broadcast axes, and nothing else"


@needs_c
def test_nothing_is_copied_or_kept(in_python, rng):
    """The first call reads where the tensors lie; later ones allocate nothing but their results; no tensor is held."""
    x1, x2 = (tensor(numbers(rng, (1000, n), np.dtype("f4"))) for n in (3, 5))
    dy = torch.ones(1000, 5)
    arguments = (RULE._text, None, -1)
    first, _ = ops.product(x1, x2, *arguments, 5), ops.vjp(dy, x1, x2, *arguments, [True, True])
    assert in_python == [[x1.data_ptr(), x2.data_ptr()], [t.data_ptr() for t in (dy, x1, x2)]]
    for call, size in (
        (lambda: ops.product(x1, x2, *arguments, 5), 1000 * 5 * 4),
        (lambda: ops.vjp(dy, x1, x2, *arguments, [True, True]), 1000 * 8 * 4),
    ):
        with torch.profiler.profile(profile_memory=True) as profile:
            result = call()
        allocated = [event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0]
        assert max(allocated) == size
        del result
    assert len(in_python) == 2
    assert torch.equal(first, ops.product(x1, x2, *arguments, 5))
    assert [t._use_count() for t in (x1, x2, dy, first)] == [1] * 4


@needs_c
def test_large_results_are_in_memory_that_is_kept(in_python):
    x1, x2 = torch.ones(900_000, 3), torch.ones(900_000, 5)
    for calls in (1, 2):
        assert bridge.product(RULE, x1, x2).shape == (900_000, 5)
        assert len(in_python) == calls
    assert ops.product(x1[:9], x2[:9], RULE._text, None, -1, 5).shape == (9, 5)


@needs_c
def test_an_error_in_python_is_torchs_error(monkeypatch):
    def fails(*arguments):
        raise MemoryError("no room")

    x1, x2 = torch.ones(1234, 3), torch.ones(1234, 5)
    with monkeypatch.context() as patch:
        patch.setattr(sparseacc.cpu, "product", fails)
        with pytest.raises(RuntimeError, match="MemoryError: no room"):
            bridge.product(RULE, x1, x2)
    assert [x1._use_count(), x2._use_count()] == [1, 1]
    check(bridge.product(RULE, x1, x2).numpy(), Oracle(RULE, x1.numpy(), x2.numpy()).product())


def test_inputs_of_other_numbers_of_dimensions_are_right(rng):
    """`product` never passes them, but the operator takes them."""
    x1, x2 = (tensor(numbers(rng, s, np.dtype("f4"))) for s in ((2, 4, 3), (4, 5)))
    for _ in range(2):
        y = ops.product(x1, x2, RULE._text, None, -1, 5)
        check(y.numpy(), Oracle(RULE, x1.numpy(), x2.numpy()).product())
        y = ops.product(x2[:, :3], x1.repeat(1, 1, 2)[..., :5], RULE._text, None, -1, 5)
        check(y.numpy(), Oracle(RULE, x2[:, :3].numpy(), x1.repeat(1, 1, 2)[..., :5].numpy()).product())
    many = x1.reshape(2, 4, *[1] * 10, 3), x2.reshape(4, *[1] * 10, 5)
    for _ in range(2):
        y = ops.product(many[0], many[1][None], RULE._text, None, -1, 5)
        check(y.numpy(), Oracle(RULE, many[0].numpy(), many[1].numpy()).product())


def test_arguments_that_product_never_passes_are_safe():
    """Operators may be called by anyone: with another length than the rule's, and numbers that have to be converted."""
    x1, x2 = torch.ones(2000, 3), torch.ones(2000, 5)
    expected = RULE(x1.numpy(), x2.numpy())
    for n_out in (5, 1, 5, 1, 5, 900):
        assert np.array_equal(ops.product(x1, x2, RULE._text, None, -1, n_out).numpy(), expected)
    for first, second in ((x1, x2.double()), (x1.double(), x2), (x1.long(), x2.long())):
        calls = [ops.product(first, second, RULE._text, None, -1, 5) for _ in range(3)]
        assert all(np.array_equal(y.numpy(), RULE(first.numpy(), second.numpy())) for y in calls)
        dy = torch.ones(2000, 5)
        gradients = [ops.vjp(dy, first, second, RULE._text, None, -1, [True, True])[0] for _ in range(3)]
        assert all(np.allclose(g.numpy(), RULE.vjp(dy.numpy(), x1.numpy(), x2.numpy())[0]) for g in gradients)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what its compiler imports
def test_compiled_code_calls_operators_without_derivatives(rng):
    """It is the kernel of the others, and gradients are the same."""
    torch._dynamo.reset()
    x1, x2 = (tensor(numbers(rng, (50, n), np.dtype("f8"))).requires_grad_() for n in (3, 5))
    compiled = torch.compile(lambda a, b: bridge.product(RULE, a, b).square().sum(), fullgraph=True)
    for _ in range(2):
        with torch.profiler.profile() as profile:
            gradients = torch.autograd.grad(compiled(x1, x2), (x1, x2))
    names = {event.name for event in profile.events() if event.name.startswith("sparseacc::")}
    assert names == {"sparseacc::product_plain", "sparseacc::vjp_plain"}
    expected = torch.autograd.grad(bridge.product(RULE, x1, x2).square().sum(), (x1, x2))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other)
    torch._dynamo.reset()


WITHOUT = """
import ctypes, numpy as np, torch
from torch._inductor import lowering

def nothing(path):
    raise OSError(path)

ctypes.CDLL = nothing
handler = lowering.fallback_handler

def changed(op, *arguments, **named):
    if op.name().endswith("_plain"):
        raise TypeError("an interface that has changed")
    return handler(op, *arguments, **named)

lowering.fallback_handler = changed
import sparseacc, sparseacc.torch
from sparseacc.torch import ops

assert not ops._in_c
rule = sparseacc.clebsch_gordan(1, 2, 2)
x1, x2 = torch.rand(20, 3, requires_grad=True), torch.rand(20, 5)
for product in (sparseacc.torch.product, torch.compile(sparseacc.torch.product, fullgraph=True)):
    y = product(rule, x1, x2)
    assert np.allclose(y.detach(), rule(x1.detach().numpy(), x2.numpy()), atol=1e-6)
    (gradient,) = torch.autograd.grad(y.sum(), x1)
    assert np.allclose(gradient, rule.vjp(np.ones((20, 5), "f4"), x1.detach().numpy(), x2.numpy())[0], atol=1e-6)
"""


def test_a_torch_without_these_interfaces_computes_in_python():
    found = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
