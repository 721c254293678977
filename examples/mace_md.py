"""Molecular dynamics by MACE, before and after sparseacc.torch.accelerate: python examples/mace_md.py [--help].

The weights are random, as nothing is downloaded: what counts is that both runs are the same, and how long they take.
It needs mace-torch and ASE.
"""

import numpy as np
import torch
from dynamics import before_and_after, options
from e3nn import o3
from mace import modules
from mace.calculators import MACECalculator


def mace(hidden, channels, correlation):
    """Two layers with features of l up to `hidden` between them, l up to 3 on edges, for copper."""
    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=1,
        hidden_irreps=o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(hidden + 1)]),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(1),
        avg_num_neighbors=42.0,
        atomic_numbers=[29],
        correlation=correlation,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=0.1,
        atomic_inter_shift=0.0,
    )


if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], hidden=1, correlation=3)
    torch.set_default_dtype(getattr(torch, given.dtype))
    before_and_after(
        mace(given.hidden, given.channels, given.correlation),
        lambda model: MACECalculator(models=[model], device="cpu", default_dtype=given.dtype),
        given,
    )
