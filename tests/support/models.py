"""Small models of MACE, NequIP and SevenNet with random weights, and what they say of a crystal of two metals."""

import copy
import warnings

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch


def crystal(repeats=2, seed=1):
    build = pytest.importorskip("ase.build", reason="ASE is not installed")
    atoms = build.bulk("Cu", cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.1, seed=seed)
    numbers = atoms.get_atomic_numbers()
    numbers[::3] = 47
    atoms.set_atomic_numbers(numbers)
    return atoms


class Mace:
    """hidden: its irreps between two layers; correlation 3 and l up to max_ell otherwise."""

    outputs = ("energy", "forces", "stress")

    def __init__(self, hidden, max_ell=2, dtype=torch.float64, correlation=3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            modules = pytest.importorskip("mace.modules", reason="mace-torch is not installed")
            from e3nn import o3
            from mace import data, tools
            from mace.tools import torch_geometric
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        torch.manual_seed(0)
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        numbers = tools.AtomicNumberTable([29, 47])
        self.module = modules.ScaleShiftMACE(
            r_max=4.0,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=max_ell,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=2,
            hidden_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(2),
            avg_num_neighbors=18.0,
            atomic_numbers=numbers.zs,
            correlation=correlation,
            radial_MLP=[8, 8],
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
            use_reduced_cg=False,  # cuequivariance's are those of the dtype that a process has asked for first
        )

        def batch(atoms):
            torch.set_default_dtype(dtype)
            try:
                graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=numbers, cutoff=4.0)
                loader = torch_geometric.dataloader.DataLoader([graph], batch_size=1, shuffle=False)
                return next(iter(loader)).to_dict()
            finally:
                torch.set_default_dtype(before)

        self._batch = batch
        torch.set_default_dtype(before)

    def run(self, atoms, training=False):
        return self.module(self._batch(atoms), compute_stress=True, training=training)


class Nequip:
    outputs = ("total_energy", "forces", "stress")

    def __init__(self, l_max, features, dtype=torch.float64, parity=True):
        e3nn = pytest.importorskip("e3nn", reason="e3nn is not installed")
        before, options = torch.get_default_dtype(), e3nn.get_optimization_defaults()  # which the global state changes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = pytest.importorskip("nequip.model", reason="nequip is not installed")
            from nequip.data import from_ase
            from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
            from nequip.utils.global_state import set_global_state

            set_global_state()
        self.module = model.NequIPGNNModel(
            seed=1,
            model_dtype=str(dtype).removeprefix("torch."),
            type_names=["Cu", "Ag"],
            r_max=4.0,
            compile_mode="eager",
            avg_num_neighbors=18.0,
            num_bessels=4,
            l_max=l_max,
            num_features=features,
            num_layers=2,
            parity=parity,
            type_embed_num_features=4,
        )
        types, neighbors = ChemicalSpeciesToAtomTypeMapper(["Cu", "Ag"]), NeighborListTransform(r_max=4.0)
        self._batch = lambda atoms: neighbors(types(from_ase(atoms)))
        torch.set_default_dtype(before)
        e3nn.set_optimization_defaults(**options)

    def run(self, atoms, training=False):
        return self.module.train(training)(self._batch(atoms))


class Sevennet:
    """In float32 alone: its embedding of atoms is."""

    outputs = ("inferred_total_energy", "inferred_force", "inferred_stress")

    def __init__(self, **changes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            building = pytest.importorskip("sevenn.model_build", reason="sevenn is not installed")
            from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
            from sevenn.atom_graph_data import AtomGraphData
            from sevenn.train.dataload import unlabeled_atoms_to_graph
            from sevenn.util import chemical_species_preprocess
        config = copy.deepcopy(DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG)
        config.update(cutoff=4.0, channel=4, lmax=2, is_parity=False, num_convolution_layer=2, shift=0.0, scale=1.0)
        config.update(conv_denominator=18.0, **changes)
        config.update(chemical_species_preprocess(["Cu", "Ag"]))
        torch.manual_seed(0)
        self.module = building.build_E3_equivariant_model(config)
        self.module.set_is_batch_data(False)

        def batch(atoms):
            graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, 4.0)).to_dict()
            return {name: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in graph.items()}

        self._batch = batch

    def run(self, atoms, training=False):
        return self.module.train(training)(self._batch(atoms))
