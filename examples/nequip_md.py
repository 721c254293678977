"""Molecular dynamics by NequIP, before and after sparseacc.torch.accelerate: python examples/nequip_md.py [--help].

The weights are random, as nothing is downloaded: what counts is that both runs are the same, and how long they take.
It needs nequip and ASE.
"""

from dynamics import Potential, before_and_after, options

from sparseacc.bench.models import nequip, nequip_graph


def potential(model):
    """Its energy and forces of atoms."""

    def energy_and_forces(atoms):
        results = model(nequip_graph(atoms))
        return results["total_energy"], results["forces"]

    return Potential(energy_and_forces)


if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], degree=2)
    before_and_after(nequip(given.degree, given.dtype, given.channels).eval(), potential, given)
