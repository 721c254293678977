"""Products as models make them with e3nn."""

import pytest

o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")


def uvu(irreps1, irreps2, keeps=lambda ir: ir.l <= 2, **options):
    """All paths to irreps that are kept, each with a block of its own, as NequIP and MACE make them: blocks sorted."""
    irreps1, irreps2 = o3.Irreps(irreps1), o3.Irreps(irreps2)
    blocks, instructions = [], []
    for i, (mul, ir1) in enumerate(irreps1):
        for j, (_, ir2) in enumerate(irreps2):
            for ir in ir1 * ir2:
                if keeps(ir):
                    instructions.append((i, j, len(blocks), "uvu", True))
                    blocks.append((mul, ir))
    blocks, at, _ = o3.Irreps(blocks).sort()
    instructions = [(i, j, at[k], *rest) for i, j, k, *rest in instructions]
    options = {"shared_weights": False, "internal_weights": False, **options}
    return o3.TensorProduct(irreps1, irreps2, blocks, instructions, **options)
