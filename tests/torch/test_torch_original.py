"""The original package's functions, and its style of test: against loops and index_add."""

import copy
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from frameworks import Torch  # noqa: E402
from oracle import Oracle, check  # noqa: E402
from strategies import numbers  # noqa: E402

import sparseacc  # noqa: E402
import sparseacc.torch as bridge  # noqa: E402
from sparseacc.extras import how_to_install  # noqa: E402

array = Torch().array


def by_loops(X1, X2, mu, size, m1, m2, C, axis):
    x1, x2 = X1.movedim(axis, -1), X2.movedim(axis, -1)
    output = torch.zeros(*x1.shape[:-1], size)
    for k in range(len(C)):
        output[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]
    return output.movedim(-1, axis)


def by_index_add(X1, X2, mu, size, m1, m2, C, axis):
    shape = [1] * X1.ndim
    shape[axis] = len(C)
    terms = X1.index_select(axis, m1) * X2.index_select(axis, m2) * C.reshape(shape)
    output = list(X1.shape)
    output[axis] = size
    return torch.zeros(output).index_add(axis, mu, terms)


def relative_error(a, b):
    a, b = a.detach(), b.detach()
    return float((a - b).abs().mean() / b.abs().mean())


@pytest.mark.parametrize("reference", [by_loops, by_index_add])
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize(
    ("function", "axis"),
    [
        (bridge.accumulate, 2),
        (bridge.accumulate_active_dim_middle, 1),
        (bridge.accumulate_active_dim_first, 0),
    ],
)
def test_accumulate_forward_and_backward_as_loops_do(function, axis, order, reference):
    torch.manual_seed(0)
    m1, m2, mu, C = bridge.get_cg_transformation_rule(5, 5, 5)
    if order == "shuffled":
        shuffle = torch.randperm(len(C))
        m1, m2, mu, C = (t[shuffle] for t in (m1, m2, mu, C))
    shape = [100, 30]
    shape.insert(axis, 11)
    X1, X2 = (torch.randn(shape, requires_grad=True) for _ in range(2))
    arguments = (X1, X2, mu, 11, m1, m2, C)
    expected, result = reference(*arguments, axis), function(*arguments)
    assert relative_error(result, expected) < 1e-7
    weight = torch.randn(shape)
    gradients = zip(*(torch.autograd.grad(y, (X1, X2), weight) for y in (result, expected)))
    for gradient, by_reference in gradients:
        assert relative_error(gradient, by_reference) < 2e-7  # the loops' own rounding is in it twice


@pytest.mark.parametrize(("l1", "l2", "l3"), [(0, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 2), (3, 2, 4)])
def test_the_transformation_rule_is_the_clebsch_gordan_rule_sorted_by_mu(l1, l2, l3):
    rule = sparseacc.clebsch_gordan(l1, l2, l3, convention="librascal")
    m1, m2, mu, C = bridge.get_cg_transformation_rule(l1, l2, l3, dtype=torch.float64, device="cpu")
    assert all(index.dtype == torch.int64 for index in (m1, m2, mu))
    assert torch.all(mu.diff() >= 0)
    again = sparseacc.Rule(m1.numpy(), m2.numpy(), mu.numpy(), C.numpy(), rule.shape)
    assert np.array_equal(again.to_dense(), rule.to_dense())
    assert bridge.get_cg_transformation_rule(l1, l2, l3)[3].dtype == torch.float32
    with pytest.raises(ValueError, match="l3"):
        bridge.get_cg_transformation_rule(l1, l2, l1 + l2 + 1)


def test_the_calculator_is_a_module_like_the_originals(rng):
    calculator = bridge.CGCalculatorSingle(2, 3, 4)
    assert list(calculator.state_dict()) == ["m1", "m2", "mu", "C"]
    x1, x2 = numbers(rng, (6, 2, 5), "f4"), numbers(rng, (6, 2, 7), "f4")
    oracle = Oracle(sparseacc.clebsch_gordan(2, 3, 4), x1, x2)
    for module in (calculator, copy.deepcopy(calculator)):
        check(module(array(x1), array(x2)).numpy(), oracle.product())
    assert bridge.CGCalculatorSingle(2, 3, 4, torch.float64).C.dtype == torch.float64
    with pytest.raises(ValueError, match="l3"):
        bridge.CGCalculatorSingle(1, 1, 3)


@pytest.mark.parametrize("convert", [torch.nn.Module.double, lambda module: module.half().float().double()])
def test_the_calculators_rule_is_exact_whatever_its_buffers_are_converted_to(convert, rng):
    calculator = convert(bridge.CGCalculatorSingle(3, 3, 2))
    assert calculator.C.dtype == torch.float64
    x1, x2 = (array(numbers(rng, (10, 7), "f8")) for _ in range(2))
    assert torch.equal(calculator(x1, x2), bridge.product(sparseacc.clebsch_gordan(3, 3, 2), x1, x2))


def test_calculators_work_in_ensembles_on_no_device_and_saved(rng, tmp_path):
    calculators = [bridge.CGCalculatorSingle(1, 2, 3) for _ in range(2)]
    x1, x2 = array(numbers(rng, (4, 3), "f4")), array(numbers(rng, (4, 5), "f4"))
    state = torch.func.stack_module_state(calculators)
    ensemble = torch.vmap(lambda *state: torch.func.functional_call(calculators[0], state, (x1, x2)))(*state)
    assert torch.equal(ensemble, calculators[0](x1, x2).expand(2, -1, -1))
    torch.save(calculators[0], tmp_path / "calculator.pt")
    loaded = torch.load(tmp_path / "calculator.pt", weights_only=False)
    assert torch.equal(loaded(x1, x2), ensemble[0])
    loaded.load_state_dict(calculators[1].state_dict())
    nowhere = loaded.to("meta")(x1.to("meta"), x2.to("meta"))
    assert nowhere.device.type == "meta"
    assert nowhere.shape == (4, 7)


OTHER_TORCH = """
import sys
class Torch: __version__ = "2.5.1"
sys.modules["torch"] = {}
try:
    import sparseacc.torch
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(("module", "said"), [("None", ": "), ("Torch", ", but this is PyTorch 2.5.1: ")])
def test_a_torch_that_will_not_do_is_named(module, said):
    code = OTHER_TORCH.replace("{}", module)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == f"sparseacc.torch needs PyTorch 2.6 or newer{said}{how_to_install('torch')}"


def test_complex_multipliers_are_refused():
    m1, m2, mu, C = bridge.get_cg_transformation_rule(1, 1, 1)
    with pytest.raises(TypeError, match=r"multipliers must hold real numbers, but its dtype is torch\.complex64"):
        bridge.accumulate(torch.ones(4, 3), torch.ones(4, 3), mu, 3, m1, m2, C * 1j)


def test_accumulate_refuses():
    m1, m2, mu, C = bridge.get_cg_transformation_rule(1, 1, 1)
    X = torch.ones(4, 3)
    for arguments, error, message in (
        ((None, X), TypeError, "^X1 is None, but must be a torch.Tensor$"),
        (
            (X, X.to_sparse()),
            TypeError,
            r"^X2 has the layout torch.sparse_coo.* pass X2.to_dense\(\)$",
        ),
        (
            (X, torch.ones(5, 3)),
            ValueError,
            r"^X1 and X2 do not broadcast.*, and without axis -1 ",
        ),
    ):
        with pytest.raises(error, match=message):
            bridge.accumulate(*arguments, mu, 3, m1, m2, C)
    with pytest.raises(ValueError, match=r"multipliers requires gradients.*coefficient_vjp"):
        bridge.accumulate(X, X, mu, 3, m1, m2, C.requires_grad_())
    with torch.no_grad():
        bridge.accumulate(X, X, mu, 3, m1, m2, C)
    C = C.detach()
    with pytest.raises(TypeError, match="idx_1 must hold integers"):
        bridge.accumulate(X, X, mu, 3, m1.float(), m2, C)
    compiled = torch.compile(bridge.accumulate, fullgraph=True, backend="aot_eager")
    of_the_kernel = RuntimeError if bridge.ops.in_c else ValueError  # torch's, of a kernel in C
    for function, error, name in ((bridge.accumulate, ValueError, "idx_output"), (compiled, of_the_kernel, "mu")):
        with pytest.raises(error, match=rf"{name}\[\d\] is 2, but must be between 0 and 1"):
            function(X, X, mu, 2, m1, m2, C)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        m1, m2, mu, C = map(fake.from_tensor, (m1, m2, mu, C))
        assert bridge.accumulate(X, X, mu, 3, m1, m2, C).shape == (4, 3)
        with pytest.raises(TypeError, match="idx_1 must hold integers"):
            bridge.accumulate(X, X, mu, 3, m1.float(), m2, C)
    with pytest.raises(TypeError, match=r"idx_2 must be a torch.Tensor, not list"):
        bridge.accumulate(X, X, mu, 3, m1, [0], C)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu": lambda t: t.double()}, "idx_output must hold integers"),
        ({"m1": lambda t: t + 5}, r"idx_1\[0\] is \d+, but must be between 0 and 2 \(the length of X1 is 3\)"),
        ({"m2": lambda t: t - 9}, r"idx_2\[0\] is -\d+, but must be between 0 and 4 \(the length of X2 is 5\)"),
        ({"mu": lambda t: t + 50}, r"idx_output\[0\] is \d+, but must be between 0 and 6 \(output_size is 7\)"),
        ({"C": lambda t: t * torch.nan}, r"multipliers\[0\] is nan"),
        ({"output_size": lambda n: -n}, "output_size is -7"),
    ],
)
def test_errors_of_accumulate_name_its_arguments(change, message):
    rule = sparseacc.clebsch_gordan(1, 2, 3)
    terms = {name: torch.tensor(getattr(rule, name)) for name in ("m1", "m2", "mu", "C")} | {"output_size": 7}
    terms |= {name: way(terms[name]) for name, way in change.items()}
    mu, m1, m2, C = (terms[name] for name in ("mu", "m1", "m2", "C"))
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        bridge.accumulate(torch.ones(4, 3), torch.ones(4, 5), mu, terms["output_size"], m1, m2, C)
