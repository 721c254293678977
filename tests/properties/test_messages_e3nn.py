"""Message passing beside e3nn's: gathered rows, its TensorProduct, index_add; and how the result turns."""

import numpy as np
import pytest

import sparseacc

o3 = pytest.importorskip("e3nn.o3", reason="needs e3nn")
torch = pytest.importorskip("torch", reason="needs torch")
from e3nn_products import uvu  # noqa: E402 - where there is e3nn

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _float64():
    """Otherwise e3nn's coefficients are rounded to float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


LAYERS = {
    "one multiplicity": ("8x0e + 8x1o + 8x2e", "0e + 1o + 2e", "0e + 1o + 2e"),
    "ragged": ("8x0e + 4x1o + 2x2e + 2x3o", "0e + 1o + 2e + 3o", "0e + 1o + 2e"),
    "even": ("4x0e + 2x1e", "0e + 1e + 2e", "0e + 1e"),
}


class Layer:
    def __init__(self, name, nodes=6, edges=40):
        irreps1, irreps2, wanted = LAYERS[name]
        self.tp = uvu(irreps1, irreps2, lambda ir: ir in o3.Irreps(wanted))
        self.rule = sparseacc.from_e3nn(self.tp)
        rng = np.random.default_rng(0)
        self.index = rng.integers(0, nodes, (2, edges))
        self.graph = sparseacc.Graph(*self.index, nodes)
        dims = self.tp.irreps_in1.dim, self.tp.irreps_in2.dim, self.tp.weight_numel
        self.flat = [rng.normal(size=(n, dim)) for n, dim in zip((nodes, edges, edges), dims)]

    def arrays(self, x, y, w):
        channels = self.rule.channels
        x = sparseacc.to_channels(x, self.tp.irreps_in1, channels=channels)
        return x, y, w.reshape(len(w), self.rule.num_paths, channels)

    def by_e3nn(self, x, y, w):
        senders, receivers = torch.from_numpy(self.index)
        out = torch.zeros(len(x), self.tp.irreps_out.dim, dtype=x.dtype)
        return out.index_add(0, receivers, self.tp(x[senders], y, w))

    def ours(self, x, y, w):
        out = sparseacc.message_passing(self.rule, self.graph, *self.arrays(x, y, w))
        return sparseacc.from_channels(out, self.tp.irreps_out, channels=self.rule.channels)


def close(actual, expected):
    return np.allclose(actual, expected, rtol=1e-12, atol=1e-12 * np.max(abs(np.asarray(expected))))


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_both_derivatives_are_those_of_e3nn(name):
    layer = Layer(name)
    tensors = [torch.from_numpy(a).requires_grad_() for a in layer.flat]
    out = layer.by_e3nn(*tensors)
    assert close(layer.ours(*layer.flat), out.detach())

    rng = np.random.default_rng(1)
    dout, *z = (rng.normal(size=t.shape) for t in (out, *tensors))
    cotangent = torch.from_numpy(dout).requires_grad_()
    gradients = torch.autograd.grad(out, tensors, cotangent, create_graph=True)
    second = torch.autograd.grad(gradients, [cotangent, *tensors], [torch.from_numpy(a) for a in z])

    channels = layer.rule.channels
    ours_dout = sparseacc.to_channels(dout, layer.tp.irreps_out, channels=channels)
    arrays, ours_z = layer.arrays(*layer.flat), layer.arrays(*z)
    for pairs in (
        zip(sparseacc.message_passing_vjp(layer.rule, layer.graph, ours_dout, *arrays), gradients),
        zip(sparseacc.message_passing_vjp_vjp(layer.rule, layer.graph, *ours_z, ours_dout, *arrays)[1:], second[1:]),
    ):
        for (ours, theirs), back in zip(pairs, (layer.tp.irreps_in1, None, None)):
            flat = (
                ours.reshape(len(ours), -1) if back is None else sparseacc.from_channels(ours, back, channels=channels)
            )
            assert close(flat, theirs.detach())
    ddout = sparseacc.message_passing_vjp_vjp(layer.rule, layer.graph, *ours_z, ours_dout, *arrays)[0]
    assert close(sparseacc.from_channels(ddout, layer.tp.irreps_out, channels=channels), second[0])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("inversion", [0, 1])
def test_messages_turn_with_what_they_are_made_of(name, inversion):
    layer = Layer(name)
    angles = torch.tensor([0.3, 1.1, -0.7], dtype=torch.float64)
    D = [
        irreps.D_from_angles(*angles, torch.tensor(inversion)).numpy()
        for irreps in (layer.tp.irreps_in1, layer.tp.irreps_in2, layer.tp.irreps_out)
    ]
    x, y, w = layer.flat
    turned = layer.ours(x @ D[0].T, y @ D[1].T, w)
    expected = layer.ours(x, y, w) @ D[2].T
    assert close(turned, expected)
    assert not close(turned, layer.ours(x, y, w))
