"""Trains the potential of forces.py in JAX, from the same weights: python benchmarks/forces_in_jax.py [--help].

The model is written anew as functions of arrays, with `sparseacc.jax.message_passing`; a step is one compiled function.
Its losses are those of PyTorch, up to rounding.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from forces import CUTOFF, Model, crystals, trained

import sparseacc
import sparseacc.jax
import sparseacc.torch

RATE, DECAY, SMALL = 5e-3, (0.9, 0.999), 1e-8  # of Adam, as forces.py has them


def harmonics(vectors):
    """e3nn's to l = 2, of the directions, in its "component" normalisation."""
    x, y, z = (vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)).T
    degree1 = [3**0.5 * component for component in (x, y, z)]
    products = [15**0.5 * product for product in (x * z, x * y, y * z)]
    degree2 = [*products[:2], 5**0.5 * (y**2 - (x**2 + z**2) / 2), products[2], 15**0.5 / 2 * (z**2 - x**2)]
    return jnp.stack([jnp.ones_like(x), *degree1, *degree2], axis=1)


def convolution_of(layer):
    """As a function of flat features."""
    rule = sparseacc.from_e3nn(layer)

    def convolution(x, y, weights, senders, receivers):
        x = sparseacc.to_channels(x, rule.irreps1, channels=rule.channels)
        weights = weights.reshape(-1, rule.num_paths, rule.channels)
        out = sparseacc.jax.message_passing(rule, (senders, receivers, len(x)), x, y, weights)
        return sparseacc.from_channels(out, rule.irreps_out)

    return convolution


def linear_of(layer):
    """An e3nn.o3.Linear as a function of its weights and of flat features."""
    ins, outs = layer.irreps_in.slices(), layer.irreps_out.slices()
    muls = [[mul for mul, _ in irreps] for irreps in (layer.irreps_in, layer.irreps_out)]

    def linear(weights, x):
        blocks, used = [0.0] * len(outs), 0
        for i in layer.instructions:
            mul, to = muls[0][i.i_in], muls[1][i.i_out]
            w, used = weights[used : used + mul * to].reshape(mul, to), used + mul * to
            part = x[:, ins[i.i_in]].reshape(len(x), mul, -1)
            blocks[i.i_out] += i.path_weight * jnp.einsum("nui,uv->nvi", part, w).reshape(len(x), -1)
        return jnp.concatenate(blocks, axis=1)

    return linear


def mlp(p, name, x):
    hidden = jax.nn.silu(x @ p[f"{name}.0.weight"].T + p[f"{name}.0.bias"])
    return hidden @ p[f"{name}.2.weight"].T + p[f"{name}.2.bias"]


def energy_of(model):
    """The model as a function of its parameters and of positions."""
    convolutions = [convolution_of(layer) for layer in model.convolutions]
    mixes = [linear_of(layer) for layer in model.mix]

    def energy(p, positions, box, senders, receivers):
        vectors = positions[senders] - positions[receivers]
        vectors = vectors - box * jax.lax.stop_gradient(jnp.round(vectors / box))
        r = jnp.linalg.norm(vectors, axis=1, keepdims=True)
        smooth = jnp.where(r < CUTOFF, jnp.maximum(1 - r / CUTOFF, 0) ** 2 * (1 + 2 * r / CUTOFF), 0.0)
        radial = jnp.sin(jnp.arange(1, 9) * jnp.pi * r / CUTOFF) / r * smooth
        y = harmonics(vectors)
        x = jnp.broadcast_to(p["embedding"], (len(positions), 8))
        for k, (convolution, mix) in enumerate(zip(convolutions, mixes, strict=True)):
            weights = mlp(p, f"radial.{k}", radial) * smooth
            x = mix(p[f"mix.{k}.weight"], convolution(x, y, weights, senders, receivers) / 6)
        return mlp(p, "readout", x[:, :8]).sum()

    return energy


def step_of(energy):
    """A step of Adam on forces, compiled."""

    def loss(p, positions, target, rest):
        forces = -jax.grad(energy, 1)(p, positions, *rest)
        return ((forces - target) ** 2).mean()

    @jax.jit
    def step(p, moments, count, positions, target, rest):
        value, gradient = jax.value_and_grad(loss)(p, positions, target, rest)
        first, second = (
            jax.tree.map(lambda m, g, b=b, k=k: b * m + (1 - b) * g**k, m, gradient)
            for k, (m, b) in enumerate(zip(moments, DECAY, strict=True), 1)
        )
        a, b = (1 - decay**count for decay in DECAY)
        p = jax.tree.map(lambda p, m, v: p - RATE * (m / a) / (jnp.sqrt(v / b) + SMALL), p, first, second)
        return p, (first, second), value

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    structures = crystals(arguments.cells)
    arrays = [jax.tree.map(lambda t: jnp.asarray(t.numpy()), structure) for structure in structures]
    torch.manual_seed(0)
    model = Model(lambda tp: tp)
    p = {name: jnp.asarray(value.detach().numpy()) for name, value in model.named_parameters()}
    step, moments = step_of(energy_of(model)), (jax.tree.map(jnp.zeros_like, p),) * 2
    losses, seconds = [], []
    for count in range(arguments.steps):
        begin = time.perf_counter()
        p, moments, loss = step(p, moments, count + 1, *arrays[count % len(arrays)])
        losses.append(float(loss))
        seconds.append(time.perf_counter() - begin)
    _, expected, torchs = trained(sparseacc.torch.TensorProductConv, structures, arguments.steps)
    apart = np.max(np.abs(np.subtract(losses, expected)) / expected)
    print(
        f"JAX {np.median(seconds) * 1e3:.1f} ms a step, PyTorch {torchs * 1e3:.1f}; loss {losses[0]:.6f} to "
        f"{losses[-1]:.6f}; the losses differ by at most {apart:.1e} of themselves"
    )


if __name__ == "__main__":
    main()
