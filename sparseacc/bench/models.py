"""Models of MACE, NequIP and SevenNet with random weights, before and after `sparseacc.torch.accelerate`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from .cases import Potential
from .measuring import OURS, Result, time_all
from .ways import default_dtype

CUTOFF, NEIGHBORS, CHANNELS = 5.0, 42, 64
BEFORE = "before"
WAYS = (OURS, BEFORE)
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}
"""Of energies and forces, over the largest. They come out of a long chain of steps, each of which rounds."""


def mace(degree: int, dtype: str = "float32", channels: int = CHANNELS, correlation: int = 3) -> Any:
    """A model of two layers with features of l up to `degree` between them, l up to 3 on edges."""
    import torch
    from e3nn import o3
    from mace import modules

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    with default_dtype(dtype):
        return modules.ScaleShiftMACE(
            r_max=CUTOFF,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=3,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=1,
            hidden_irreps=o3.Irreps([(channels, (each, (-1) ** each)) for each in range(degree + 1)]),
            MLP_irreps=o3.Irreps("16x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(1),
            avg_num_neighbors=float(NEIGHBORS),
            atomic_numbers=[29],
            correlation=correlation,
            radial_MLP=[64, 64, 64],
            atomic_inter_scale=0.1,
            atomic_inter_shift=0.0,
        )


def mace_graph(atoms: Any) -> dict[str, Any]:
    """What MACE takes, in PyTorch's default dtype."""
    from mace import data, tools
    from mace.tools import torch_geometric

    configuration, numbers = data.config_from_atoms(atoms), tools.AtomicNumberTable([29])
    made = data.AtomicData.from_config(configuration, z_table=numbers, cutoff=CUTOFF)
    graph: dict[str, Any] = torch_geometric.Batch.from_data_list([made]).to_dict()
    return graph


def nequip(degree: int, dtype: str = "float32", channels: int = CHANNELS) -> Any:
    """A model of three layers, whose features have half as many copies of each next l, up to `degree`."""
    import e3nn
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    options = e3nn.get_optimization_defaults()  # NequIP leaves others, by which MACE and SevenNet would be made
    with default_dtype("float64"):  # as the global state has it
        set_global_state()
        model = NequIPGNNModel(
            seed=0,
            model_dtype=dtype,
            type_names=["Cu"],
            r_max=CUTOFF,
            compile_mode="eager",
            avg_num_neighbors=float(NEIGHBORS),
            num_bessels=8,
            l_max=degree,
            num_features=[max(1, channels // 2**each) for each in range(degree + 1)],
            num_layers=3,
            parity=True,
            type_embed_num_features=channels,
        )
    e3nn.set_optimization_defaults(**options)
    return model


def nequip_graph(atoms: Any) -> dict[str, Any]:
    """What NequIP takes, in float64."""
    from nequip.data import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform

    with default_dtype("float64"):
        typed = ChemicalSpeciesToAtomTypeMapper(["Cu"])(from_ase(atoms))
        graph: dict[str, Any] = NeighborListTransform(r_max=CUTOFF)(typed)
    return graph


def sevennet(degree: int, channels: int = CHANNELS) -> Any:
    """A model of three layers, l up to `degree`, in float32."""
    import torch
    from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
    from sevenn.model_build import build_E3_equivariant_model
    from sevenn.util import chemical_species_preprocess

    torch.manual_seed(0)
    config = copy.deepcopy(DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG)
    config.update(cutoff=CUTOFF, channel=channels, lmax=degree, is_parity=False, num_convolution_layer=3)
    config.update(shift=0.0, scale=1.0, conv_denominator=float(NEIGHBORS), **chemical_species_preprocess(["Cu"]))
    model = build_E3_equivariant_model(config)
    model.set_is_batch_data(False)
    return model


def sevennet_graph(atoms: Any) -> dict[str, Any]:
    """What SevenNet takes."""
    import torch
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, CUTOFF)).to_dict()
    return {name: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in graph.items()}


class Model(NamedTuple):
    """The package that a model needs, its builder of l and dtype, what makes its graph of atoms, and an l."""

    package: str
    build: Callable[[int, str], Any]
    graph: Callable[[Any], dict[str, Any]]
    degree: int


MODELS = {
    "MACE": Model("mace", mace, mace_graph, 1),
    "NequIP": Model("nequip", nequip, nequip_graph, 2),
    "SevenNet": Model("sevenn", lambda degree, dtype: sevennet(degree), sevennet_graph, 2),
}


def cases(full: bool, dtype: str) -> list[Potential]:
    """The models of the packages that are installed, on 500 or on 108 atoms. SevenNet computes in float32 alone.

    Raises
    ------
    ModuleNotFoundError
        If there is none.
    """
    found = [name for name in MODELS if name not in _left_out(dtype)]
    if not found or not find_spec("ase"):
        raise ModuleNotFoundError(
            "--case models needs ASE and at least one of MACE, NequIP and SevenNet: "
            "python -m pip install ase mace-torch (or nequip, or sevenn)"
        )
    atoms = 500 if full else 108
    return [Potential(name, atoms, atoms * NEIGHBORS) for name in found]


def _left_out(dtype: str) -> dict[str, str]:
    """Why, by name."""
    found = {"SevenNet": "float32 alone"} if dtype != "float32" else {}
    return found | {name: "not installed" for name, model in MODELS.items() if not find_spec(model.package)}


def measure(
    case: Potential, names: Sequence[str], dtype: str, seconds: float, quick: bool, step: Callable[[str], None]
) -> Iterator[Result]:
    """Energy and forces, each time from the graph on; `step` is called before each way, and the result."""
    from ase.build import bulk

    from ..torch import accelerate

    result = Result(case, "energy and forces", left_out=_left_out(dtype))
    cells = round((case.atoms / 4) ** (1 / 3))
    atoms = bulk("Cu", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=0)
    model, calls = MODELS[case.name], dict[str, Callable[[], Any]]()
    with default_dtype(dtype):
        for name in WAYS:
            step(name)
            module = model.build(model.degree, dtype).eval()
            calls[name] = partial(evaluated, accelerate(module) if name == OURS else module, model.graph(atoms))
        found = {name: _energy_and_forces(call()) for name, call in calls.items()}
        for ours, theirs in zip(found[OURS], found[BEFORE], strict=True):
            error = abs(ours - theirs).max() / abs(theirs).max()
            if not error <= TOLERANCE[dtype]:
                raise ArithmeticError(f"{case.name} differs by {error} of itself after accelerate")
        step(result.operation)
        time_all(result, calls, case.atoms, seconds)
    yield result


def evaluated(model: Any, graph: Any) -> Any:
    """By copies of the graph's tensors, to which models add what they compute."""
    return model({name: x.detach().clone() if hasattr(x, "detach") else x for name, x in graph.items()})


def _energy_and_forces(results: Any) -> list[Any]:
    for names in (("energy", "forces"), ("total_energy", "forces"), ("inferred_total_energy", "inferred_force")):
        if all(name in results for name in names):
            return [results[name].detach().numpy() for name in names]
    raise KeyError(f"no energy and forces in {sorted(results)}")
