"""Torch's calls that have been made before and go straight to the kernel: right as any, and only where torch has no
more to do with them."""

import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
from frameworks import Torch
from oracle import Oracle, check
from strategies import numbers

import sparseacc

torch = pytest.importorskip("torch")
import sparseacc.torch as bridge  # noqa: E402
from sparseacc.torch import direct, original  # noqa: E402

RULE = sparseacc.clebsch_gordan(1, 2, 3)
tensor, array = Torch().array, Torch().numpy


@pytest.fixture(autouse=True)
def nothing_made_before():
    direct.calls.clear()
    original._texts.clear()


@pytest.fixture
def repeated(monkeypatch):
    """The operations that were repeated without an operator, by their numbers of tensors."""
    seen = []
    run = direct.Call.run

    def counted(self, tensors):
        seen.append(len(tensors))
        return run(self, tensors)

    monkeypatch.setattr(direct.Call, "run", counted)
    return seen


def pair(rng, rows=(4,), dtype="f8", grad=False, axis=-1):
    return [
        tensor(numbers(rng, tuple(np.insert(rows, axis % (len(rows) + 1), n)), np.dtype(dtype))).requires_grad_(grad)
        for n in RULE.shape[:2]
    ]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "f2", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_repeated_calls_are_within_the_bound(axis, dtype, repeated, rng):
    rows = (3, 2)
    for turn in range(3):
        x1, x2 = pair(rng, rows, dtype, True, axis)
        x2 = x2.detach().transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
        y = bridge.product(RULE, x1, x2, axis=axis)
        oracle = Oracle(RULE, array(x1.detach()), array(x2.detach()), axis)
        check(array(y.detach()), oracle.product())
        dy = tensor(numbers(rng, tuple(y.shape), np.dtype(dtype)))
        gradients = torch.autograd.grad(y, (x1, x2), dy)
        if not y.is_complex():  # torch's are then conjugates
            for gradient, expected in zip(gradients, oracle.vjp(array(dy)), strict=True):
                check(array(gradient), expected)
        check(array(bridge.product(RULE, x1.detach(), x2.detach(), axis=axis)), oracle.product())
        assert repeated == ([2] if turn == 0 else [2, 2] if y.is_complex() else [2, 3, 2])
        repeated.clear()


def test_all_derivatives_of_repeated_calls_are_those_of_operators(repeated, rng):
    def derivatives(x1, x2):
        y = bridge.product(RULE, x1, x2)
        first = torch.autograd.grad(y.sin().sum(), (x1, x2), create_graph=True)
        second = torch.autograd.grad(sum(g.sin().sum() for g in first), (x1, x2), create_graph=True)
        return y, *first, *second, *torch.autograd.grad(sum(g.sin().sum() for g in second), (x1, x2))

    inputs = pair(rng, grad=True)
    expected = derivatives(*inputs)
    repeated.clear()
    found = derivatives(*inputs)
    assert {2, 3, 5} <= set(repeated)
    assert all(map(torch.equal, found, expected))
    assert torch.autograd.gradgradcheck(lambda *x: bridge.product(RULE, *x), inputs)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_one_gradient_alone(wanted, repeated, rng):
    for _ in range(2):
        inputs = [x.requires_grad_(want) for x, want in zip(pair(rng), wanted, strict=True)]
        y = bridge.product(RULE, *inputs)
        (gradient,) = torch.autograd.grad(y.sum(), [x for x in inputs if x.requires_grad])
        oracle = Oracle(RULE, *(array(x.detach()) for x in inputs))
        check(array(gradient), oracle.vjp(np.ones(y.shape))[wanted.index(True)])
    assert 3 in repeated


def made_before(rng, **kinds):
    inputs = pair(rng, **kinds)
    for _ in range(2):
        expected = bridge.product(RULE, *inputs)
    return inputs, expected


def test_modes_and_transforms_get_operators(repeated, rng):
    """Whatever watches, traces or transforms sees the operator of a call that has been made before."""
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    (x1, x2), expected = made_before(rng)
    seen = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    class Dispatched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    repeated.clear()
    for mode in (Functions, Dispatched):
        with mode():
            assert torch.equal(bridge.product(RULE, x1, x2), expected)
        assert any("sparseacc.product" in name for name in seen)
        seen.clear()
    assert torch.equal(torch.vmap(lambda a, b: bridge.product(RULE, a, b))(x1, x2), expected)
    repeated.clear()  # what vmap makes of it may be repeated
    assert torch.equal(torch.func.vjp(lambda a: bridge.product(RULE, a, x2), x1)[0], expected)
    with torch.autograd.forward_ad.dual_level():
        dual = bridge.product(RULE, torch.autograd.forward_ad.make_dual(x1, x1), x2)
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(dual).tangent, expected)
    with warnings.catch_warnings(action="ignore"):  # that it is deprecated
        traced = torch.jit.trace(lambda a, b: bridge.product(RULE, a, b), (x1, x2), check_trace=False)
    assert "sparseacc::product" in str(traced.graph)
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda a, b: bridge.product(RULE, a, b))(x1, x2)
    assert "sparseacc.product" in graph.code
    assert not repeated


def test_gradients_may_be_batched(rng):
    (x1, x2), _ = made_before(rng, grad=True)
    y = bridge.product(RULE, x1, x2)
    dy = torch.randn(3, *y.shape, dtype=y.dtype)
    batched = torch.autograd.grad(y, (x1, x2), dy, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        for one, all_three in zip(torch.autograd.grad(y, (x1, x2), dy[i], retain_graph=True), batched, strict=True):
            assert torch.equal(one, all_three[i])


@pytest.mark.parametrize("view", ["conjugate", "negative", "zero", "inference"])
def test_views_and_tensors_of_a_kind_are_not_taken_for_plain_ones(view, rng):
    (x1, x2), expected = made_before(rng, dtype="c16" if view == "conjugate" else "f8")
    if view == "conjugate":
        assert torch.allclose(bridge.product(RULE, x1.conj(), x2.conj()), expected.conj())
    elif view == "negative":
        negative = torch.complex(torch.zeros_like(x1), x1).conj().imag
        assert negative.is_neg()
        assert torch.equal(bridge.product(RULE, negative.contiguous(), x2), -expected)
        assert torch.equal(bridge.product(RULE, negative, x2), -expected)
    elif view == "zero":
        assert not bridge.product(RULE, torch._efficientzerotensor(x1.shape, dtype=x1.dtype), x2).any()
    else:
        with torch.inference_mode():
            assert torch.equal(bridge.product(RULE, x1.clone(), x2), expected)


def test_memory_that_was_taken_away_is_an_error(rng):
    x1, x2 = (x.clone().requires_grad_() for x in pair(rng))  # torch may resize what it has allocated alone
    expected = [bridge.product(RULE, x1, x2) for _ in range(2)][-1]
    for taken in (x1, x2):
        kept = taken.detach().clone()
        taken.untyped_storage().resize_(0)
        with pytest.raises(ValueError, match=r"has no memory: it needs a storage of"):
            bridge.product(RULE, x1, x2)
        taken.untyped_storage().resize_(kept.nbytes)
        with torch.no_grad():
            taken.copy_(kept)
        assert torch.equal(bridge.product(RULE, x1, x2), expected)


def test_checkpoints_may_begin_with_a_call_that_is_new(rng):
    from torch.utils.checkpoint import checkpoint

    x1, x2 = pair(rng, grad=True)
    for _ in range(2):  # repeated only when it is computed once more, and both times
        y = checkpoint(lambda a, b: bridge.product(RULE, a, b).sin(), x1, x2, use_reentrant=False)
        found = torch.autograd.grad(y.sum(), (x1, x2))
        assert all(map(torch.equal, found, torch.autograd.grad(bridge.product(RULE, x1, x2).sin().sum(), (x1, x2))))
        y = bridge.product(RULE, x1, x2)


def test_what_was_saved_must_not_be_changed(rng):
    (x1, x2), _ = made_before(rng, grad=True)
    y = bridge.product(RULE, x1 * 1, other := x2 * 1)
    other += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_no_more_than_a_number_of_calls_is_kept(rng, monkeypatch):
    monkeypatch.setattr(direct.calls, "_most", 5)
    for rows in range(1, 20):
        bridge.product(RULE, *pair(rng, (rows,)))
        assert 1 <= len(direct.calls) <= 5


def test_large_results_and_sums_are_left_to_operators(repeated):
    for _ in range(2):
        bridge.product(RULE, torch.ones(200_000, 3), torch.ones(200_000, 5))
        x = torch.ones(5, requires_grad=True)
        bridge.product(RULE, torch.ones(4, 3), x).sum().backward()
    assert repeated == [2]
    check(array(x.grad), Oracle(RULE, np.ones((4, 3), "f4"), np.ones(5, "f4")).vjp(np.ones((4, 7), "f4"))[1])


TERMS = [torch.tensor(c) for c in (RULE.mu, RULE.m1, RULE.m2, RULE.C)]


def accumulate(x1, x2, mu, m1, m2, C, axis=-1):
    call = {-1: bridge.accumulate, 0: bridge.accumulate_active_dim_first, 1: bridge.accumulate_active_dim_middle}[axis]
    return call(x1, x2, mu, 7, m1, m2, C)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_accumulate_reads_its_terms_once(axis, repeated, rng, monkeypatch):
    x1, x2 = pair(rng, (4, 6), grad=True, axis=axis)
    expected = accumulate(x1, x2, *TERMS, axis)
    monkeypatch.setattr(original, "cached_rule", None)
    found = accumulate(x1, x2, *TERMS, axis)
    assert torch.equal(found, expected)
    assert repeated == [2]
    gradients = [torch.autograd.grad(y.sum(), (x1, x2)) for y in (expected, found)]
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("changed", range(4))
def test_terms_that_have_changed_are_read_again(changed, rng):
    """Also through an alias that torch does not know of."""
    x1, x2 = pair(rng)
    terms = [t.clone() for t in TERMS]
    for _ in range(2):
        expected = accumulate(x1, x2, *terms)
    alias = terms[changed].numpy()
    before, alias[0] = alias[0], alias[1] + 1 if changed == 3 else (alias[0] + 1) % 3
    right = accumulate(x1, x2, *(t.clone() for t in terms))
    assert not torch.equal(right, expected)
    for _ in range(2):
        assert torch.equal(accumulate(x1, x2, *terms), right)
    alias[0] = before
    assert torch.equal(accumulate(x1, x2, *terms), expected)


def test_terms_whose_memory_was_taken_away_crash_nothing():
    code = """
import torch, sparseacc.torch as bridge
x = torch.ones(4, 3)
rule = bridge.get_cg_transformation_rule(1, 1, 1)
bridge.accumulate(x, x, rule[2], 3, *rule[:2], rule[3])
for i in range(4):
    m1, m2, mu, C = terms = [t.clone() for t in rule]
    terms[i].untyped_storage().resize_(0)
    try:
        bridge.accumulate(x, x, mu, 3, m1, m2, C)
    except (ValueError, RuntimeError) as error:
        print("refused")
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (finished.returncode, finished.stdout) == (0, "refused\n" * 4), finished.stderr


def test_a_view_that_begins_where_terms_did_is_read(rng):
    x1, x2 = pair(rng)
    mu, m1, m2, C = TERMS
    wide = torch.stack([C, 2 * C], 1).flatten()
    wide[: len(C)] = C
    for _ in range(2):
        accumulate(x1, x2, mu, m1, m2, wide[: len(C)])
    view = wide[::2]
    assert torch.equal(accumulate(x1, x2, mu, m1, m2, view), accumulate(x1, x2, mu, m1, m2, view.clone()))


def test_subclasses_of_tensors_stay_what_they_are(rng):
    class Named(torch.Tensor):
        pass

    (x1, x2), expected = made_before(rng)
    result = bridge.product(RULE, x1.as_subclass(Named), x2)
    assert type(result) is Named
    assert torch.equal(result.as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize("index", [torch.uint8, torch.int16, torch.int64], ids=str)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_terms_may_be_of_any_dtype(kind, index, repeated, rng):
    x1, x2 = pair(rng)
    terms = [t.to(index) for t in TERMS[:3]] + [TERMS[3].to(kind)]
    expected = accumulate(x1, x2, *TERMS[:3], terms[3].double())
    for _ in range(2):
        assert torch.equal(accumulate(x1, x2, *terms), expected)
    assert repeated


def test_terms_are_kept_once_for_all_sizes_of_a_batch(rng):
    for rows in range(1, 20):
        accumulate(*pair(rng, (rows,)), *TERMS)
    assert len(original._texts) == 1


def test_no_more_bytes_of_terms_are_kept_than_a_bound(rng, monkeypatch):
    one = sum(t.nbytes for t in TERMS)
    monkeypatch.setattr(original._texts, "_most_bytes", 4 * one)
    held = [[t.clone() for t in TERMS] for _ in range(20)]
    for terms in held:
        accumulate(*pair(rng), *terms)
        assert 1 <= len(original._texts) <= 5


def test_a_profiler_sees_operators(rng):
    inputs, _ = made_before(rng)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        bridge.product(RULE, *inputs)
    assert "sparseacc::product" in {event.key for event in profile.key_averages()}


def test_what_is_computed_below_autograd_has_no_graph(rng):
    inputs, expected = made_before(rng, grad=True)
    with torch._C._AutoDispatchBelowAutograd():
        result = bridge.product(RULE, *inputs)
    assert not result.requires_grad
    assert torch.equal(result, expected.detach())
