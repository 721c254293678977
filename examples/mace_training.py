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
from mace import data, tools
from mace.tools import torch_geometric
from mace_md import mace

import sparseacc.torch


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
    numbers = tools.AtomicNumberTable([29])
    graphs = [data.AtomicData.from_config(data.config_from_atoms(a), z_table=numbers, cutoff=5.0) for a, _, _ in found]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, times = [], []
    for step in range(steps + 1):
        graph, (_, energy, forces) = graphs[step % len(graphs)], found[step % len(graphs)]
        begin = time.perf_counter()
        batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1, shuffle=False))).to_dict()
        results = model(batch, training=True)
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
    model, found = mace(given.hidden, given.channels, given.correlation), structures(given.structures, given.repeats)
    before, slow = trained(copy.deepcopy(model), found, given.steps)
    after, fast = trained(sparseacc.torch.accelerate(model), found, given.steps)
    difference = float((after - before).abs().max() / before.max())
    print(f"losses: {before[0]:.4f} at first, {before[-1]:.4f} at last; those of both differ by {difference:.1e}")
    print(f"a step takes {slow:.3f} s before and {fast:.3f} s after: {slow / fast:.1f} times as fast")
    if difference > (1e-8 if given.dtype == "float64" else 1e-2):
        raise SystemExit("the trainings differ")
