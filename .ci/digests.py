"""Prints a digest of the results of every kernel: what two compilers make of it prints the same."""

import hashlib

import numpy as np

import sparseacc


def main() -> None:
    """A line for each instruction set, dtype, axis and rule."""
    for name in sparseacc.cpu.instruction_sets():
        sparseacc.cpu.set_instruction_set(name)
        for dtype in ("f4", "f8", "c8", "f2"):
            for axis in (-1, -2):
                for l1, l2, l3 in [
                    (0, 0, 0),
                    (1, 1, 1),
                    (2, 1, 3),
                    (3, 3, 3),
                    (4, 4, 4),
                    (5, 5, 5),
                    (6, 5, 3),
                    (8, 8, 8),
                ]:
                    rule = sparseacc.clebsch_gordan(l1, l2, l3)
                    rng = np.random.default_rng(0)
                    lengths = [rule.shape[k] for k in (0, 1, 0, 1, 2)]
                    shapes = [(203, n) if axis == -1 else (3, n, 64) for n in lengths]
                    x1, x2, z1, z2, dy = (rng.normal(size=shape).astype(dtype) for shape in shapes)
                    results = (
                        rule(x1, x2, axis=axis),
                        *rule.vjp(dy, x1, x2, axis=axis),
                        *rule.vjp_vjp(z1, z2, dy, x1, x2, axis=axis),
                        rule.coefficient_vjp(dy, x1, x2, axis=axis),
                    )
                    digest = hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results)).hexdigest()
                    print(name, dtype, axis, l1, l2, l3, digest[:16])


main()
