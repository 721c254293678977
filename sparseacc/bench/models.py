"""Models of MACE, NequIP and SevenNet with random weights, before and after `sparseacc.torch.accelerate`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from .cases import Potential
from .measuring import OURS, Result, time_all
from .ways import default_dtype

CUTOFF, NEIGHBORS, CHANNELS = 5.0, 42, 64
BEFORE = "before"
WAYS = (OURS, BEFORE)
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}
"""Of energies and forces, over the largest. They come out of a long chain of steps, each of which rounds."""


def mace(atoms: Any, dtype: str) -> tuple[Any, Any]:
    """A model with scalars and vectors between two layers, and the graph of the atoms."""
    import torch
    from e3nn import o3
    from mace import data, modules, tools
    from mace.tools import torch_geometric

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=1,
        hidden_irreps=o3.Irreps(f"{CHANNELS}x0e + {CHANNELS}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(1),
        avg_num_neighbors=NEIGHBORS,
        atomic_numbers=[29],
        correlation=3,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=0.1,
        atomic_inter_shift=0.0,
    )
    numbers = tools.AtomicNumberTable([29])
    made = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=numbers, cutoff=CUTOFF)
    return model, next(iter(torch_geometric.dataloader.DataLoader([made], batch_size=1, shuffle=False))).to_dict()


def nequip(atoms: Any, dtype: str) -> tuple[Any, Any]:
    """A model of three layers, l up to 2."""
    from nequip.data import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = NequIPGNNModel(
        seed=0,
        model_dtype=dtype,
        type_names=["Cu"],
        r_max=CUTOFF,
        compile_mode="eager",
        avg_num_neighbors=float(NEIGHBORS),
        num_bessels=8,
        l_max=2,
        num_features=[CHANNELS, CHANNELS // 2, CHANNELS // 4],
        num_layers=3,
        parity=True,
        type_embed_num_features=CHANNELS,
    )
    types, neighbors = ChemicalSpeciesToAtomTypeMapper(["Cu"]), NeighborListTransform(r_max=CUTOFF)
    return model, neighbors(types(from_ase(atoms)))


def sevennet(atoms: Any, dtype: str) -> tuple[Any, Any]:
    """A model of three layers, l up to 2, in float32."""
    import torch
    from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.model_build import build_E3_equivariant_model
    from sevenn.train.dataload import unlabeled_atoms_to_graph
    from sevenn.util import chemical_species_preprocess

    config = copy.deepcopy(DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG)
    config.update(cutoff=CUTOFF, channel=CHANNELS, lmax=2, is_parity=False, num_convolution_layer=3)
    config.update(shift=0.0, scale=1.0, conv_denominator=float(NEIGHBORS), **chemical_species_preprocess(["Cu"]))
    model = build_E3_equivariant_model(config)
    model.set_is_batch_data(False)
    graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, CUTOFF)).to_dict()
    return model, {n: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for n, x in graph.items()}


MODELS: dict[str, tuple[str, Callable[[Any, str], tuple[Any, Any]]]] = {
    "MACE": ("mace", mace),
    "NequIP": ("nequip", nequip),
    "SevenNet": ("sevenn", sevennet),
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
    return found | {name: "not installed" for name, (package, _) in MODELS.items() if not find_spec(package)}


def measure(
    case: Potential, names: Sequence[str], dtype: str, seconds: float, quick: bool, step: Callable[[str], None]
) -> Iterator[Result]:
    """Energy and forces, each time from the graph on; `step` is called before each way, and the result."""
    import torch
    from ase.build import bulk

    from ..torch import accelerate

    result = Result(case, "energy and forces", left_out=_left_out(dtype))
    cells = round((case.atoms / 4) ** (1 / 3))
    atoms = bulk("Cu", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=0)
    calls: dict[str, Callable[[], Any]] = {}
    with default_dtype(dtype):
        for name in WAYS:
            step(name)
            torch.manual_seed(0)
            model, graph = MODELS[case.name][1](atoms, dtype)
            calls[name] = partial(_evaluated, accelerate(model.eval()) if name == OURS else model.eval(), graph)
        found = {name: _energy_and_forces(call()) for name, call in calls.items()}
        for ours, theirs in zip(found[OURS], found[BEFORE], strict=True):
            error = abs(ours - theirs).max() / abs(theirs).max()
            if not error <= TOLERANCE[dtype]:
                raise ArithmeticError(f"{case.name} differs by {error} of itself after accelerate")
        step(result.operation)
        time_all(result, calls, case.atoms, seconds)
    yield result


def _evaluated(model: Any, graph: Any) -> Any:
    """By copies of the graph's tensors, to which models add what they compute."""
    return model({name: x.detach().clone() if hasattr(x, "detach") else x for name, x in graph.items()})


def _energy_and_forces(results: Any) -> list[Any]:
    for names in (("energy", "forces"), ("total_energy", "forces"), ("inferred_total_energy", "inferred_force")):
        if all(name in results for name in names):
            return [results[name].detach().numpy() for name in names]
    raise KeyError(f"no energy and forces in {sorted(results)}")
