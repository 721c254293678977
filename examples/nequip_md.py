"""Molecular dynamics by NequIP, before and after sparseacc.torch.accelerate: python examples/nequip_md.py [--help].

The weights are random, as nothing is downloaded: what counts is that both runs are the same, and how long they take.
It needs nequip and ASE.
"""

from dynamics import Potential, before_and_after, options
from nequip.data import from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state


def nequip(degree, channels, dtype):
    """Three layers whose features have half as many copies of each next l."""
    return NequIPGNNModel(
        seed=0,
        model_dtype=dtype,
        type_names=["Cu"],
        r_max=5.0,
        compile_mode="eager",
        avg_num_neighbors=42.0,
        num_bessels=8,
        l_max=degree,
        num_features=[max(1, channels // 2**each) for each in range(degree + 1)],
        num_layers=3,
        parity=True,
        type_embed_num_features=channels,
    )


def potential(model):
    """Its energy and forces of atoms."""
    types, neighbors = ChemicalSpeciesToAtomTypeMapper(["Cu"]), NeighborListTransform(r_max=5.0)

    def energy_and_forces(atoms):
        results = model(neighbors(types(from_ase(atoms))))
        return results["total_energy"], results["forces"]

    return Potential(energy_and_forces)


if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], degree=2)
    set_global_state()
    before_and_after(nequip(given.degree, given.channels, given.dtype).eval(), potential, given)
