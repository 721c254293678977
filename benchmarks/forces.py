"""Trains a potential on forces with e3nn's convolution and with ours: python benchmarks/forces.py [--help].

Both models begin with the same weights, see the same structures in the same order, and have the same losses, up to
rounding: energies from two layers of message passing, forces as their derivative, the loss on forces, so that every
step takes a double backward. Then each runs 200 steps of molecular dynamics, whose total energy should stay.
The targets are those of a Lennard-Jones crystal.
"""

from __future__ import annotations

import argparse
import time

import torch
from e3nn import o3

import sparseacc.torch
from sparseacc.bench.messages import CUTOFF, LATTICE, crystal, e3nns_product, positions_of

SIGMA, EPSILON = 2.3, 0.4  # Angstrom, eV
MASS = 63.546 * 1.0364e-4  # of copper, in eV ps^2 / Angstrom^2
FEATURES = "8x0e + 8x1o + 8x2e"


class Gathered(torch.nn.Module):
    """What models do with e3nn: gathered rows, the product, index_add."""

    def __init__(self, tp):
        super().__init__()
        self.tp = tp

    def forward(self, x, y, weight, senders, receivers, num_nodes):
        messages = self.tp(x[senders], y, weight)
        return messages.new_zeros(num_nodes, messages.shape[1]).index_add(0, receivers, messages)


class Model(torch.nn.Module):
    """Energies of atoms from two layers."""

    def __init__(self, layer):
        super().__init__()
        harmonics = o3.Irreps.spherical_harmonics(2)
        self.embedding = torch.nn.Parameter(torch.ones(8))
        self.harmonics = o3.SphericalHarmonics(harmonics, True, normalization="component")
        self.convolutions, self.radial, self.mix = (torch.nn.ModuleList() for _ in range(3))
        for irreps in ("8x0e", FEATURES):
            tp = e3nns_product(irreps, harmonics, FEATURES)
            self.convolutions.append(layer(tp))
            self.radial.append(
                torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, tp.weight_numel))
            )
            self.mix.append(o3.Linear(tp.irreps_out, FEATURES))
        self.readout = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))

    def forward(self, positions, box, senders, receivers):
        vectors = positions[senders] - positions[receivers]
        vectors = vectors - box * torch.round(vectors.detach() / box)
        r = vectors.norm(dim=1, keepdim=True)
        n = torch.arange(1, 9, dtype=r.dtype)
        smooth = torch.where(r < CUTOFF, (1 - r / CUTOFF).clamp(min=0) ** 2 * (1 + 2 * r / CUTOFF), 0.0)
        radial = torch.sin(n * torch.pi * r / CUTOFF) / r * smooth
        y = self.harmonics(vectors)
        x = self.embedding.expand(len(positions), -1)
        for conv, weights, mix in zip(self.convolutions, self.radial, self.mix, strict=True):
            x = mix(conv(x, y, weights(radial) * smooth, senders, receivers, len(positions)) / 6)
        return self.readout(x[:, :8]).sum()


def forces_of(energy, positions, create_graph):
    return -torch.autograd.grad(energy, positions, create_graph=create_graph)[0]


def lennard_jones(positions, box, senders, receivers):
    vectors = positions[senders] - positions[receivers]
    vectors = vectors - box * torch.round(vectors.detach() / box)
    inverse = (SIGMA**2 / (vectors**2).sum(1)) ** 3
    return 2 * EPSILON * (inverse**2 - inverse).sum()


def crystals(cells):
    """Positions, forces, and (box, senders, receivers) of crystals whose atoms are off their places."""
    senders, receivers, _ = crystal(cells)
    rest = torch.tensor(cells * LATTICE), torch.from_numpy(senders), torch.from_numpy(receivers)
    torch.manual_seed(2)
    perfect = torch.from_numpy(LATTICE * positions_of(cells)).to(torch.get_default_dtype())
    structures = []
    for _ in range(8):
        at = (perfect + 0.1 * torch.randn_like(perfect)).requires_grad_()
        structures.append((at.detach(), forces_of(lennard_jones(at, *rest), at, False), rest))
    return structures


def trained(layer, structures, steps):
    """The model, its losses, and the seconds of a step."""
    torch.manual_seed(0)
    model = Model(layer)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses, seconds = [], []
    for step in range(steps):
        positions, target, rest = structures[step % len(structures)]
        begin = time.perf_counter()
        at = positions.clone().requires_grad_()
        loss = (forces_of(model(at, *rest), at, True) - target).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        losses.append(loss.item())
    return model, losses, sorted(seconds)[len(seconds) // 2]


def drift(model, positions, rest, steps=200, step=0.001):
    """How far the total energy of molecular dynamics (velocity Verlet, steps in ps) goes from where it began, in eV an
    atom.
    """
    torch.manual_seed(1)
    at = positions.clone().requires_grad_()
    velocity = 1.0 * torch.randn_like(positions)
    energy = model(at, *rest)
    force, totals = forces_of(energy, at, False), []
    for _ in range(steps):
        velocity = velocity + step / 2 * force / MASS
        at = (at + step * velocity).detach().requires_grad_()
        energy = model(at, *rest)
        force = forces_of(energy, at, False)
        velocity = velocity + step / 2 * force / MASS
        totals.append(energy.item() + 0.5 * MASS * velocity.pow(2).sum().item())
    return max(abs(total - totals[0]) for total in totals) / len(positions)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args()
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    structures, found = crystals(arguments.cells), {}
    positions, _, rest = structures[0]
    nodes, edges = len(positions), len(rest[1])
    for name, layer in {"e3nn": Gathered, "sparseacc": sparseacc.torch.TensorProductConv}.items():
        model, losses, seconds = trained(layer, structures, arguments.steps)
        found[name] = losses
        energy = drift(model, positions, rest)
        print(
            f"{name:10} {nodes} atoms, {edges} edges, {arguments.dtype}: {seconds * 1e3:.1f} ms a step, loss "
            f"{losses[0]:.6f} to {losses[-1]:.6f}; total energy within {energy:.2e} eV an atom in 200 steps",
            flush=True,
        )
    apart = max(abs(a - b) / a for a, b in zip(*found.values(), strict=True))
    print(f"losses differ by at most {apart:.1e} of themselves")


if __name__ == "__main__":
    main()
