"""Writes the functions and kernels of one rule for the two programs beside this file: python generate.py FOLDER."""

import sys
from pathlib import Path

import sparseacc


def cpu(folder, **kernels):
    """The C files, and a header by which a program calls them by names of its own."""
    header = ["#pragma once", "#include <sparseacc.h>"]
    for name, (rule, op) in kernels.items():
        kernel = sparseacc.cpu.source(rule, op)
        (folder / f"{name}.c").write_text(kernel.code)
        header += [f"SPARSEACC_DECLARE(sparseacc_{op}_float32, {kernel.name});", f"#define {name} {kernel.name}"]
    (folder / "cpu_kernels.h").write_text("\n".join([*header, ""]))


def geometry(kernel):
    """What launch.h computes the launch of a CUDA kernel from."""
    return f"{kernel.rows_per_block}, {kernel.most_blocks}, {kernel.chunks}, {kernel.threads}, {kernel.shared_mem}"


def cuda(folder, **kernels):
    """A header with the sources of CUDA kernels, each with its name, its options and its geometry."""
    header = ["#pragma once", '#include "launch.h"']
    for name, (rule, op) in kernels.items():
        kernel = sparseacc.cuda.source(rule, op)
        options = ", ".join(f'"{option}"' for option in kernel.options)
        header += [f'static const char *const {name}_code = R"cuda({kernel.code})cuda";']
        header += [f'static const char *const {name}_name = "{kernel.name}";']
        header += [f"static const char *const {name}_options[] = {{{options}}};"]
        header += [f"static const Geometry {name}_geometry = {{{geometry(kernel)}}};"]
    (folder / "cuda_kernels.h").write_text("\n".join([*header, ""]))


if __name__ == "__main__":
    to = Path(sys.argv[1])
    to.mkdir(parents=True, exist_ok=True)
    rule = sparseacc.clebsch_gordan(2, 1, 2)  # x1 (rows, 5), x2 (rows, 3), out (rows, 5)
    cpu(to, product=(rule, "forward"), gradient=(rule, "vjp"))
    cuda(to, product=(rule, "forward"))
