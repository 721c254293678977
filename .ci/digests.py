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
                    print(name, dtype, axis, l1, l2, l3, digest(results))
        for dtype in ("f4", "f8"):
            print(name, dtype, "messages", digest(messages(dtype)))


def messages(dtype: str) -> tuple[np.ndarray, ...]:
    """Of all paths to l = 3."""
    rule = sparseacc.tensor_product("1x0e + 1x1o + 1x2e + 1x3o", "0e + 1o + 2e + 3o")
    rng = np.random.default_rng(0)
    graph = sparseacc.Graph(rng.integers(0, 9, 60), rng.integers(0, 7, 60), 7)
    shapes = [(9, rule.shape[0], 104), (60, rule.shape[1]), (60, rule.num_paths, 104), (7, rule.shape[2], 104)]
    x, y, w, dout = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    return (
        sparseacc.message_passing(rule, graph, x, y, w),
        *sparseacc.message_passing_vjp(rule, graph, dout, x, y, w),
        *sparseacc.message_passing_vjp_vjp(rule, graph, x, y, w, dout, x, y, w),
    )


def digest(results: tuple[np.ndarray, ...]) -> str:
    """Of the bytes of arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results)).hexdigest()[:16]


main()
