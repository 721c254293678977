"""Molecular dynamics by SevenNet, before and after sparseacc.torch.accelerate: python examples/sevenn_md.py [--help].

The weights are random, as nothing is downloaded: what counts is that both runs are the same, and how long they take.
SevenNet computes in float32. It needs sevenn and ASE.
"""

from dynamics import Potential, before_and_after, options

from sparseacc.bench.models import sevennet, sevennet_graph


def potential(model):
    """Its energy and forces of atoms."""

    def energy_and_forces(atoms):
        results = model(sevennet_graph(atoms))
        return results["inferred_total_energy"], results["inferred_force"]

    return Potential(energy_and_forces)


if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], degree=2)
    given.dtype = "float32"
    before_and_after(sevennet(given.degree, given.channels).eval(), potential, given)
