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
from sparseacc.terms import as_text  # noqa: E402
from sparseacc.torch import ops, stable  # noqa: E402

RULE = sparseacc.clebsch_gordan(1, 2, 2)
SQUARE = sparseacc.clebsch_gordan(1, 1, 1)
DOUBLE = sparseacc.Rule(RULE.m1, RULE.m2, RULE.mu, 2 * RULE.C, RULE.shape)

needs_c = pytest.mark.skipif(not ops.in_c, reason="this torch has no stable interface of 2.13")

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
    assert ops.in_c == (version >= (2, 13))


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
                    y = bridge.product(rule, x1, x2, axis=axis)
                    oracle = Oracle(rule, array(x1), array(x2), axis)
                    check(array(y), oracle.product())
                    dy = layout(torch.ones_like(y))
                    gradients = ops.vjp(dy, x1, x2, as_text(rule), None, axis, [True, True])
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
    arguments = (as_text(RULE), None, -1)
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
    assert ops.product(x1[:9], x2[:9], as_text(RULE), None, -1, 5).shape == (9, 5)


@needs_c
def test_an_error_in_python_is_torchs_error(monkeypatch):
    """A RuntimeError, of which `product` makes what it was."""

    def fails(*arguments):
        raise MemoryError("no room: none")

    x1, x2 = torch.ones(1234, 3, requires_grad=True), torch.ones(1234, 5)
    with monkeypatch.context() as patch:
        patch.setattr(sparseacc.cpu, "execute", fails)
        with pytest.raises(RuntimeError, match=r"MemoryError: no room: none"):
            ops.product(x1, x2, as_text(RULE), None, -1, 5)
        with pytest.raises(MemoryError, match=r"^no room: none$"):
            bridge.product(RULE, x1, x2)
    assert [x1._use_count(), x2._use_count()] == [1, 1]
    check(bridge.product(RULE, x1, x2).detach().numpy(), Oracle(RULE, x1.detach().numpy(), x2.numpy()).product())


X1, X2, DY = torch.ones(8, 3), torch.ones(8, 5), torch.ones(8, 5)
TEXT = as_text(RULE)
TERMS = torch.tensor(np.stack([RULE.m1, RULE.m2, RULE.mu, RULE.C.view(np.int64)]))
WRONG = {
    "positive axis": ((X1, X2, TEXT, None, 1, 5), "axis counts from the end"),
    "axis out of range": ((X1, X2, TEXT, None, -3, 5), "axis counts from the end"),
    "another axis": ((X1, X2, TEXT, None, -2, 5), "length 8 along axis -2"),
    "other columns": ((X1[:, :2], X2, TEXT, None, -1, 5), "x1 has length 2 along axis -1"),
    "n_out too small": ((X1, X2, TEXT, None, -1, 1), "n_out"),
    "n_out too large": ((X1, X2, TEXT, None, -1, 900), "n_out"),
    "n_out negative": ((X1, X2, TEXT, None, -1, -5), "n_out"),
    "other dimensions": ((X1, X2[None], TEXT, None, -1, 5), "one number of dimensions"),
    "no dimensions": ((X1[0, 0], X2[0, 0], TEXT, None, -1, 5), "axis"),
    "other batch": ((X1, X2[:3], TEXT, None, -1, 5), "broadcast"),
    "other dtype": ((X1, X2.double(), TEXT, None, -1, 5), "one dtype"),
    "integers": ((X1.long(), X2.long(), TEXT, None, -1, 5), "TypeError.*int64"),
    "no text": ((X1, X2, "", None, -1, 5), "rule must be the text"),
    "not a text": ((X1, X2, "3,5;", None, -1, 5), "rule must be the text"),
    "half of a text": ((X1, X2, TEXT[: len(TEXT) // 2 - 1], None, -1, 5), "rule must be the text"),
    "not ASCII": ((X1, X2, TEXT[:-4] + "é", None, -1, 5), "rule must be the text"),
    "index out of range": ((X1, X2, TEXT.replace("3,5,5", "3,5,2", 1), None, -1, 2), "rule must be the text"),
    "text and terms": ((X1, X2, TEXT, TERMS, -1, 5), "terms must be"),
    "terms of floats": ((X1, X2, "", TERMS.double(), -1, 5), "terms must be"),
    "terms of three rows": ((X1, X2, "", TERMS[:3], -1, 5), "terms must be"),
    "terms out of range": ((X1, X2, "", TERMS + 3, -1, 5), "must be between"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("plain", [False, True])
def test_operators_refuse_what_has_not_their_form(kind, plain):
    """However often, as calls may be repeated, and after calls that were right."""
    arguments, message = WRONG[kind]
    x1, x2, *rule, axis, n_out = arguments
    dy = torch.ones(8, max(n_out, 0), dtype=x1.dtype)
    product, vjp = (ops.plain[op] if plain else op for op in (ops.product, ops.vjp))
    for op, given in (
        (product, arguments),
        (vjp, (dy, x1, x2, *rule, axis, [True, True])),
        (vjp, (dy, x1, x2, *rule, axis, [False, True])),
        (ops.vjp_vjp, (x1, x2, dy, x1, x2, *rule, axis, [True] * 3)),
    ):
        for _ in range(3):
            with pytest.raises((RuntimeError, ValueError, TypeError), match=message if op is product else None):
                op(*given)
            assert ops.product(X1, X2, TEXT, None, -1, 5).shape == (8, 5)


def test_operators_refuse_cotangents_of_other_shapes():
    for dy in (DY[:, :4], DY[:7], DY[None], DY.double(), DY.to("meta"), DY[:1]):
        for _ in range(3):
            with pytest.raises((RuntimeError, ValueError), match=r"dy|mixed|different"):
                assert ops.vjp(dy, X1, X2, TEXT, None, -1, [True, True])[0].is_cpu, "dy"
    for z1, z2 in ((X1[:3], X2), (X1, X2[:, :1]), (None, X2.double()), (X1[None], None)):
        with pytest.raises(ValueError, match=r"z1|z2"):
            ops.vjp_vjp(z1, z2, DY, X1, X2, TEXT, None, -1, [True] * 3)


def test_the_operators_for_calls_from_c_are_for_nobody_else():
    for op, arguments in (
        (torch.ops.sparseacc.product_first, (X1, X2, None, -1, 5)),
        (torch.ops.sparseacc.vjp_first, (DY, X1, X2, None, -1, [True, True])),
    ):
        with pytest.raises(ValueError, match="for C alone"):
            op(*arguments)


def without_memory(shape, kept):
    """As FSDP leaves parameters: `kept` bytes of a storage that would be larger."""
    tensor = torch.ones(4 + shape[0], *shape[1:])[4:]
    tensor.untyped_storage().resize_(kept)
    return tensor


@pytest.mark.parametrize("kept", [0, 4 * (12 * 3 - 1)])
@pytest.mark.parametrize("grad", [False, True])
def test_tensors_without_their_memory_are_refused(kept, grad):
    """Also where the call has been made with memory before."""
    x1 = without_memory((8, 3), kept).requires_grad_(grad)
    for _ in range(3):
        assert bridge.product(RULE, X1, X2).shape == (8, 5)
        with pytest.raises(ValueError, match="x1 has no memory"):
            bridge.product(RULE, x1, X2)
        with pytest.raises((RuntimeError, ValueError), match="x1 has no memory"):
            ops.product(x1, X2, TEXT, None, -1, 5)
        with pytest.raises((RuntimeError, ValueError), match="x1 has no memory"):
            ops.vjp(DY, x1, X2, TEXT, None, -1, [True, True])
        with pytest.raises((RuntimeError, ValueError), match="x1 has no memory"):
            ops.vjp(DY, x1, X2, TEXT, None, -1, [False, True])
        with pytest.raises(ValueError, match="x1 has no memory"):
            ops.vjp_vjp(X1, X2, DY, x1, X2, TEXT, None, -1, [True] * 3)
    empty = without_memory((0, 3), 0)
    for _ in range(2):
        assert bridge.product(RULE, empty, X2[:1]).shape == (0, 5)


@pytest.mark.parametrize("rows", [8, 11])  # calls of eight are known to C, those of eleven new
@pytest.mark.parametrize("grad", [False, True])
def test_memory_that_is_given_back_is_read_again(rows, grad):
    x1 = torch.full((rows, 3), 2.0)
    if grad:
        (bridge.product(RULE, x1, X2[0].clone().requires_grad_())).sum().backward()
    storage = x1.untyped_storage()
    expected = bridge.product(RULE, x1, X2[0])
    size = storage.nbytes()
    storage.resize_(0)
    with pytest.raises(ValueError, match="no memory"):
        bridge.product(RULE, x1, X2[0])
    storage.resize_(size)
    x1.fill_(2.0)
    assert torch.equal(bridge.product(RULE, x1, X2[0]), expected)


@pytest.mark.parametrize("efficient", [0, 1])
def test_zero_tensors_are_zeros(efficient):
    pair = [X1, X2]
    pair[efficient] = torch._efficientzerotensor(pair[efficient].shape)
    for _ in range(3):
        for y in (bridge.product(RULE, *pair), ops.product(*pair, TEXT, None, -1, 5)):
            assert torch.equal(y, torch.zeros(8, 5))
        gradients = ops.vjp(DY, *pair, TEXT, None, -1, [True, True])
        assert torch.equal(gradients[efficient], RULE_GRADIENTS[efficient])
        assert not gradients[1 - efficient].any()


RULE_GRADIENTS = [torch.from_numpy(g) for g in RULE.vjp(DY.numpy(), X1.numpy(), X2.numpy())]


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

assert not ops.in_c
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
