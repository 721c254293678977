"""Models of MACE, NequIP and SevenNet before and after sparseacc.torch.accelerate."""

import copy
import io
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from models import Mace, Nequip, Sevennet, crystal  # noqa: E402

from sparseacc.torch import SymmetricContraction, accelerate  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of other packages

MODELS = {
    "MACE, 0e": lambda dtype: Mace("4x0e", dtype=dtype),
    "MACE, 0e and 1o, l to 3": lambda dtype: Mace("4x0e + 4x1o", max_ell=3, dtype=dtype, correlation=2),
    "MACE, to 2e": lambda dtype: Mace("4x0e + 4x1o + 4x2e", dtype=dtype),
    "NequIP, l to 1": lambda dtype: Nequip(1, [4, 4], dtype),
    "NequIP, l to 2, ragged": lambda dtype: Nequip(2, [8, 4, 2], dtype),
    "NequIP, l to 3, without parity": lambda dtype: Nequip(3, [4, 4, 2, 2], dtype, parity=False),
    "SevenNet": lambda dtype: Sevennet(),
    "SevenNet, l to 3, parity": lambda dtype: Sevennet(lmax=3, is_parity=True),
}
REPLACED = {
    "Mace": (2, "SymmetricContraction"),
    "Nequip": (2, "TensorProductConv"),
    "Sevennet": (2, "TensorProductConv"),
}


def error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_energies_forces_stresses_and_gradients_stay_the_same(name, dtype):
    if name.startswith("SevenNet") and dtype is torch.float64:
        pytest.skip("SevenNet computes in float32")
    model, atoms = MODELS[name](dtype), crystal()
    bound = 1e-11 if dtype is torch.float64 else 1e-5
    before = {key: model.run(atoms)[key].detach() for key in model.outputs}
    gradients = of_parameters(model, atoms)
    keys = list(model.module.state_dict())
    accelerated, report = accelerate(model.module, report=True)
    assert accelerated is model.module
    number, by = REPLACED[type(model).__name__]
    assert [each.by for each in report].count(by) == number, report
    assert list(accelerated.state_dict()) == keys
    after = model.run(atoms)
    for key in model.outputs:
        assert error(after[key].detach(), before[key]) < bound, key
    for (key, found), expected in zip(of_parameters(model, atoms).items(), gradients.values()):
        assert error(found, expected) < 100 * bound, key


def of_parameters(model, atoms):
    """The gradients of a loss on energies and forces: a double backward."""
    results = model.run(atoms, training=True)
    energy, forces = (results[key] for key in model.outputs[:2])
    model.module.zero_grad()
    (energy.sum() + forces.square().sum()).backward()
    return {key: p.grad.clone() for key, p in model.module.named_parameters() if p.grad is not None}


def test_a_turned_crystal_has_the_same_energy_and_turned_forces():
    model, atoms = Mace("4x0e + 4x1o"), crystal()
    accelerate(model.module)
    turned, (rotation, _) = atoms.copy(), np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned.set_cell(atoms.cell @ rotation.T)
    turned.set_positions(atoms.positions @ rotation.T)
    one, other = model.run(atoms), model.run(turned)
    assert error(other["energy"], one["energy"]) < 1e-12
    assert error(other["forces"], one["forces"] @ torch.from_numpy(rotation.T)) < 1e-10


def test_an_accelerated_model_is_copied_saved_and_loaded():
    model, atoms = Mace("4x0e + 4x1o"), crystal()
    state = {key: value.clone() for key, value in model.module.state_dict().items()}
    accelerate(model.module)
    expected = model.run(atoms)["forces"]
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter += 1
    model.module.load_state_dict(state)
    assert torch.equal(model.run(atoms)["forces"], expected)
    model.module = copy.deepcopy(model.module)
    assert torch.equal(model.run(atoms)["forces"], expected)
    file = io.BytesIO()
    torch.save(model.module, file)
    file.seek(0)
    model.module = torch.load(file, weights_only=False)
    assert torch.equal(model.run(atoms)["forces"], expected)


def test_what_was_replaced_is_not_replaced_again():
    model = Nequip(1, [4, 4])
    accelerate(model.module)
    assert [each.by for each in accelerate(model.module, report=True)[1] if each.by] == []


def test_the_report_says_what_was_left_and_why(capsys):
    model = Mace("4x0e")
    _, report = accelerate(model.module, report=True, verbose=True)
    left = {each.name: each.why for each in report if not each.by}
    assert set(left) == {"interactions.0.skip_tp", "interactions.1.skip_tp"}
    assert all("'uvw'" in why for why in left.values())
    printed = capsys.readouterr().out
    assert all(each.name in printed and (each.by or each.why) in printed for each in report)
    accelerate(torch.nn.Linear(2, 2), verbose=True)
    assert "nothing was replaced" in capsys.readouterr().out


def test_a_model_in_which_nothing_was_replaced_is_warned_of():
    with pytest.warns(UserWarning, match="nothing was replaced: the model holds no module that is known"):
        accelerate(torch.nn.Linear(2, 2))
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    with pytest.warns(UserWarning, match="nothing was replaced: 1 were left: verbose=True says why"):
        accelerate(o3.FullyConnectedTensorProduct("2x0e", "0e", "2x0e"))
    product = torch.nn.ModuleList([o3.TensorProduct("2x0e", "0e", "2x0e", [(0, 0, 0, "uvu", True)])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accelerate(accelerate(product))


def test_node_attributes_that_are_not_one_hot():
    part = Mace("4x0e + 4x1o").module.products[0].symmetric_contractions
    ours = SymmetricContraction(part)
    x, y = torch.randn(5, 4, 9, dtype=torch.float64), torch.rand(5, 2, dtype=torch.float64)
    torch.testing.assert_close(ours(x, y), part(x, y))
    y.requires_grad_()
    found, expected = (torch.autograd.grad(module(x, y).square().sum(), y)[0] for module in (ours, part))
    torch.testing.assert_close(found, expected)


def test_only_models_that_can_be_changed_are_taken():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, not int"):
        accelerate(3)
    with pytest.raises(TypeError, match="before it is compiled"):
        accelerate(torch.compile(torch.nn.Linear(2, 2)))
    with pytest.raises(TypeError, match="before it is compiled"):
        accelerate(torch.jit.script(torch.nn.Linear(2, 2)))
