"""Molecular dynamics by MACE, before and after sparseacc.torch.accelerate: python examples/mace_md.py [--help].

The weights are random, as nothing is downloaded: what counts is that both runs are the same, and how long they take.
It needs mace-torch and ASE.
"""

import torch
from dynamics import before_and_after, options
from mace.calculators import MACECalculator

from sparseacc.bench.models import mace

if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], hidden=1, correlation=3)
    torch.set_default_dtype(getattr(torch, given.dtype))
    before_and_after(
        mace(given.hidden, given.dtype, given.channels, given.correlation),
        lambda model: MACECalculator(models=[model], device="cpu", default_dtype=given.dtype),
        given,
    )
