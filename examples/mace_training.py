"""Training of a small MACE on energies and forces of ASE's EMT, before and after sparseacc.torch.accelerate.

Run it as python examples/mace_training.py [--help]. Both trainings begin with the same random weights, and their losses
are the same. It needs mace-torch and ASE.
"""

import copy
import time

import ase.build
import torch
from ase.calculators.emt import EMT
from dynamics import options

import sparseacc.torch
from sparseacc.bench.models import mace, mace_graph


def structures(number, repeats):
    """Rattled copper, with EMT's energies (eV) and forces (eV/A)."""
    found = []
    for seed in range(number):
        atoms = ase.build.bulk("Cu", cubic=True) * (repeats, repeats, repeats)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        found.append((atoms, atoms.get_potential_energy(), torch.from_numpy(atoms.get_forces())))
    return found


def trained(model, found, steps):
    """The loss of every step, and seconds a step after the first."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, times = [], []
    for step in range(steps + 1):
        atoms, energy, forces = found[step % len(found)]
        graph, begin = mace_graph(atoms), time.perf_counter()
        results = model(graph, training=True)
        loss = ((results["energy"] - energy) / len(forces)).square().sum()
        loss = loss + (results["forces"] - forces.to(results["forces"])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        times.append(time.perf_counter() - begin)
    return torch.stack(losses), sum(times[1:]) / max(1, steps)


if __name__ == "__main__":
    given = options(__doc__.split("\n")[0], hidden=1, correlation=3, structures=4)
    torch.set_default_dtype(getattr(torch, given.dtype))
    model = mace(given.hidden, given.dtype, given.channels, given.correlation)
    found = structures(given.structures, given.repeats)
    before, slow = trained(copy.deepcopy(model), found, given.steps)
    after, fast = trained(sparseacc.torch.accelerate(model), found, given.steps)
    difference = float((after - before).abs().max() / before.max())
    print(f"losses: {before[0]:.4f} at first, {before[-1]:.4f} at last; those of both differ by {difference:.1e}")
    print(f"a step takes {slow:.3f} s before and {fast:.3f} s after: {slow / fast:.1f} times as fast")
    if difference > (1e-8 if given.dtype == "float64" else 1e-2):
        raise SystemExit("the trainings differ")
