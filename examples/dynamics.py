"""Molecular dynamics of copper before and after sparseacc.torch.accelerate, for any potential; see mace_md.py."""

import argparse
import time

import ase.build
import ase.units
import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

import sparseacc.torch


def options(description, **defaults):
    """What all examples take from the command line, and integers of one's own with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in {**defaults, "channels": 64, "repeats": 4, "steps": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    return parser.parse_args()


class Potential(Calculator):
    """A function of atoms that gives an energy (eV) and forces (eV/A) as an ASE calculator."""

    implemented_properties = ("energy", "forces")

    def __init__(self, function):
        super().__init__()
        self.function = function

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Called by ASE."""
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.function(self.atoms)
        self.results = {"energy": float(energy), "forces": forces.detach().numpy()}


def dynamics(calculator, repeats, steps):
    """Energies of a run at constant energy (eV), seconds a step after the first, and the number of atoms."""
    atoms = ase.build.bulk("Cu", cubic=True) * (repeats, repeats, repeats)
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(0))
    run = VelocityVerlet(atoms, timestep=1 * ase.units.fs)
    run.run(1)
    energies, begin = [atoms.get_total_energy()], time.perf_counter()
    for _ in range(steps):
        run.run(1)
        energies.append(atoms.get_total_energy())
    return np.array(energies), (time.perf_counter() - begin) / max(1, steps), len(atoms)


def before_and_after(model, calculator_of, given):
    """Runs both, and prints what is the same and what is not."""
    before, slow, atoms = dynamics(calculator_of(model), given.repeats, given.steps)
    sparseacc.torch.accelerate(model, verbose=True)
    after, fast, _ = dynamics(calculator_of(model), given.repeats, given.steps)
    difference, drift = abs(after - before).max(), np.ptp(after)
    print(f"{atoms} atoms, {given.dtype}, {torch.get_num_threads()} threads")
    print(f"energies differ by {difference:.1e} eV at most; the total energy stays within {drift:.1e} eV")
    print(f"a step takes {slow:.3f} s before and {fast:.3f} s after: {slow / fast:.1f} times as fast")
    if difference > (1e-9 if given.dtype == "float64" else 1e-3) * atoms:
        raise SystemExit("the runs differ")
