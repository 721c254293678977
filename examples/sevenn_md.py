"""Molecular dynamics by SevenNet, before and after sparseacc.torch.accelerate: python examples/sevenn_md.py [--help].

The weights are random, as nothing is downloaded: what counts is that both runs are the same, and how long they take.
SevenNet computes in float32. It needs sevenn and ASE.
"""

import copy

import torch
from dynamics import Potential, before_and_after, options
from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
from sevenn.atom_graph_data import AtomGraphData
from sevenn.model_build import build_E3_equivariant_model
from sevenn.train.dataload import unlabeled_atoms_to_graph
from sevenn.util import chemical_species_preprocess


def sevennet(degree, channels):
    """Three layers, l up to `degree`."""
    torch.manual_seed(0)
    config = copy.deepcopy(DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG)
    config.update(cutoff=5.0, channel=channels, lmax=degree, is_parity=False, num_convolution_layer=3)
    config.update(shift=0.0, scale=1.0, conv_denominator=42.0, **chemical_species_preprocess(["Cu"]))
    model = build_E3_equivariant_model(config)
    model.set_is_batch_data(False)
    return model


def potential(model):
    """Its energy and forces of atoms."""

    def energy_and_forces(atoms):
        graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, 5.0)).to_dict()
        graph = {name: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in graph.items()}
        results = model(graph)
        return results["inferred_total_energy"], results["inferred_force"]

    return Potential(energy_and_forces)


if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], degree=2)
    given.dtype = "float32"
    before_and_after(sevennet(given.degree, given.channels).eval(), potential, given)
