"""The modules made from an e3nn product compute what e3nn computes, and train as it does."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")

from e3nn_products import uvu  # noqa: E402

import sparseacc  # noqa: E402
from sparseacc.torch import TensorProduct, TensorProductConv  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # e3nn's own


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def uuu():
    irreps = o3.Irreps("4x0e + 4x1o")
    instructions = [(0, 0, 0, "uuu", True), (1, 1, 0, "uuu", True), (0, 1, 1, "uuu", True), (1, 0, 1, "uuu", True)]
    return o3.TensorProduct(irreps, irreps, irreps, instructions, shared_weights=False, internal_weights=False)


PRODUCTS = {
    "even": lambda: uvu("8x0e + 8x1o", "0e + 1o + 2e"),
    "ragged": lambda: uvu("8x0e + 4x1o + 2x2e", "0e + 1o"),
    "sparse": lambda: uvu("4x0e + 2x0o + 6x1o + 2x1e", "0e + 1o", lambda ir: ir.l <= 1),
    "uuu": uuu,
}


def derivatives(function, inputs):
    value = function(*inputs)
    first = torch.autograd.grad((value**3).sum(), inputs, create_graph=True)
    return value, *first, *torch.autograd.grad(sum((g**2).sum() for g in first), inputs)


def agree(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9 * float(b.detach().abs().max()))


def tensors(*shapes):
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("make", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("batch", [(6,), (), (2, 3), (0,)], ids=str)
def test_a_tensor_product_is_e3nns(make, batch):
    tp = make()
    inputs = tensors((*batch, tp.irreps_in1.dim), (*batch, tp.irreps_in2.dim), (*batch, tp.weight_numel))
    if batch == ():  # e3nn takes weights that are shared as a single row
        inputs[2] = inputs[2].detach()[None].requires_grad_()
        ours = TensorProduct(tp)(inputs[0], inputs[1], inputs[2][0])
        assert torch.allclose(ours, tp(inputs[0][None], inputs[1][None], inputs[2])[0])
        return
    module = TensorProduct(tp)
    if 0 in batch:
        assert module(*inputs).shape == (*batch, tp.irreps_out.dim)
        return
    agree(derivatives(module, inputs), derivatives(tp, inputs))


def test_batches_broadcast():
    tp = PRODUCTS["even"]()
    x, y, weight = tensors((4, 1, tp.irreps_in1.dim), (5, tp.irreps_in2.dim), (1, 1, tp.weight_numel))
    whole = [t.expand(4, 5, t.shape[-1]) for t in (x, y, weight)]
    expected = tp(*whole)
    assert torch.allclose(TensorProduct(tp)(x, y, weight), expected)
    assert torch.allclose(TensorProduct(tp)(x, y, weight[0, 0]), expected)


def test_weights_of_all_rows_in_common():
    """Those that e3nn's product holds itself are given, too."""
    tp = uvu("8x0e + 4x1o", "0e + 1o", shared_weights=True, internal_weights=True)
    module, conv = TensorProduct(tp), TensorProductConv(tp)
    assert not module.state_dict()
    x, y = tensors((6, tp.irreps_in1.dim), (6, tp.irreps_in2.dim))
    agree(derivatives(module, [x, y, tp.weight]), derivatives(lambda x, y, _: tp(x, y), [x, y, tp.weight]))
    senders, receivers = torch.randint(0, 6, (2, 6))
    out = conv(x, y, tp.weight, senders, receivers, 6)
    assert torch.allclose(out, torch.zeros_like(out).index_add(0, receivers, tp(x[senders], y)))


def test_products_without_weights():
    tp = o3.TensorProduct("4x0e + 4x1o", "1o", "4x1o + 4x0e", [(0, 0, 0, "uvu", False), (1, 0, 1, "uvu", False)])
    x, y = tensors((6, 16), (6, 3))
    agree(derivatives(TensorProduct(tp), [x, y]), derivatives(tp, [x, y]))
    with pytest.raises(ValueError, match=r"weight is of shape \(8,\), but must be None"):
        TensorProduct(tp)(x, y, torch.ones(8))


@pytest.mark.parametrize("make", PRODUCTS.values(), ids=PRODUCTS)
def test_a_convolution_is_gathering_e3nns_product_and_adding_up(make):
    tp, nodes, edges = make(), 5, 20
    senders, receivers = torch.randint(0, nodes, (2, edges))
    inputs = tensors((nodes, tp.irreps_in1.dim), (edges, tp.irreps_in2.dim), (edges, tp.weight_numel))
    conv = TensorProductConv(tp)
    assert not conv.state_dict()

    def composed(x, y, weight):
        return torch.zeros(nodes, tp.irreps_out.dim).index_add(0, receivers, tp(x[senders], y, weight))

    def passed(x, y, weight):
        return conv(x, y, weight, senders, receivers, nodes)

    agree(derivatives(passed, inputs), derivatives(composed, inputs))


def test_a_convolution_is_compiled_without_a_graph_break():
    tp = PRODUCTS["ragged"]()
    conv = TensorProductConv(tp)
    torch._dynamo.reset()
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    for nodes, edges in ((4, 11), (6, 20)):
        index = torch.randint(0, nodes, (2, edges))
        inputs = tensors((nodes, tp.irreps_in1.dim), (edges, tp.irreps_in2.dim), (edges, tp.weight_numel))
        value, expected = (function(*inputs, *index, nodes) for function in (compiled, conv))
        assert torch.allclose(value, expected)
        agree(torch.autograd.grad(value.sum(), inputs), torch.autograd.grad(expected.sum(), inputs))
    torch._dynamo.reset()


def test_a_module_is_copied_and_pickled():
    tp = PRODUCTS["ragged"]()
    module = TensorProduct(tp)
    inputs = tensors((6, tp.irreps_in1.dim), (6, tp.irreps_in2.dim), (6, tp.weight_numel))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(*inputs), module(*inputs))


class Energy(torch.nn.Module):
    """Of positions: one layer of messages, whose weights are functions of the edges' lengths."""

    def __init__(self, tp, convolution):
        super().__init__()
        self.convolution = convolution
        self.embedding = torch.nn.Parameter(torch.randn(1, tp.irreps_in1.dim) / 4)
        self.radial = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, tp.weight_numel))
        self.readout = torch.nn.Linear(tp.irreps_out.dim, 1)
        self.irreps = tp.irreps_in2

    def forward(self, positions, senders, receivers):
        vectors = positions[receivers] - positions[senders]
        lengths = vectors.norm(dim=1, keepdim=True)
        y = o3.spherical_harmonics(self.irreps, vectors, normalize=True, normalization="component")
        weight = self.radial(torch.sin(lengths * torch.arange(1, 5)))
        x = self.embedding.expand(len(positions), -1)
        return self.readout(torch.tanh(self.convolution(x, y, weight, senders, receivers, len(positions)))).sum()


def losses(model, positions, senders, receivers, target, steps=20):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = []
    for _ in range(steps):
        moved = positions.clone().requires_grad_()
        (forces,) = torch.autograd.grad(-model(moved, senders, receivers), moved, create_graph=True)
        loss = (forces - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_training_on_forces_has_the_losses_of_e3nn():
    """Energy from messages, forces by autograd, a loss on forces: double backward in every step."""
    tp, nodes = uvu("4x0e + 4x1o", "0e + 1o + 2e"), 6
    positions, target = torch.randn(2, nodes, 3)
    senders, receivers = torch.tensor([(i, j) for i in range(nodes) for j in range(nodes) if i != j]).T

    def composed(x, y, weight, senders, receivers, nodes):
        return torch.zeros(nodes, tp.irreps_out.dim).index_add(0, receivers, tp(x[senders], y, weight))

    theirs = Energy(tp, composed)
    ours = Energy(tp, TensorProductConv(tp))
    ours.load_state_dict(theirs.state_dict())
    of_ours, of_theirs = (losses(m, positions, senders, receivers, target) for m in (ours, theirs))
    assert of_theirs[-1] < 0.9 * of_theirs[0]
    assert np.allclose(of_ours, of_theirs, rtol=1e-8)


def test_bad_arguments_are_one_error():
    tp = PRODUCTS["even"]()
    x, y, weight = tensors((6, tp.irreps_in1.dim), (6, tp.irreps_in2.dim), (6, tp.weight_numel))
    with pytest.raises(ValueError, match=r"weight is None, but must be \(..., 72\)"):
        TensorProduct(tp)(x, y)
    with pytest.raises(ValueError, match=r"weight is of shape \(6, 71\), but must be \(..., 72\)"):
        TensorProduct(tp)(x, y, weight[:, 1:])
    with pytest.raises(ValueError, match="x must be"):
        TensorProduct(tp)(x[:, 1:], y, weight)
    with pytest.raises(ValueError, match="instruction 0 of tp"):
        TensorProduct(o3.FullyConnectedTensorProduct("4x0e", "1x0e", "4x0e"))
    with pytest.raises(TypeError, match="tp must have irreps_in1"):
        TensorProductConv(sparseacc.clebsch_gordan(1, 1, 1))
