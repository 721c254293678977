"""Times energies and forces of MACE, NequIP and SevenNet before and after sparseacc.torch.accelerate.

Run it as python benchmarks/models.py [--help]; the models are those of examples/, with random weights, for copper. Each
call builds its results anew from a graph that is made once; calls of both are timed in turn, and with --compiled those
of MACE in torch.compile too. The memory that a call takes at its highest is counted in processes of their own (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
from functools import partial
from pathlib import Path

import ase.build
import torch
from messages import medians

import sparseacc.torch
from sparseacc.bench import record
from sparseacc.bench.models import MODELS, evaluated, mace

CASES = {"MACE": (0, 1, 2), "NequIP": (1, 2, 3), "SevenNet": (2, 3)}
NAMES = [f"{name} {degree}" for name, degrees in CASES.items() for degree in degrees]


def evaluations(case, dtype, repeats, compiled=False):
    """What computes energies and forces: by sparseacc, as the model does it, and by MACE's compiled way if wanted."""
    torch.set_default_dtype(getattr(torch, dtype))
    name, degree = case.split()
    before, after = (MODELS[name].build(int(degree), dtype).eval() for _ in range(2))
    graph = MODELS[name].graph(ase.build.bulk("Cu", cubic=True) * (repeats, repeats, repeats))
    models = [sparseacc.torch.accelerate(after), before, *([compiled_mace(int(degree), dtype)] if compiled else [])]
    return [partial(evaluated, model, graph) for model in models]


def compiled_mace(degree, dtype):
    """A function of a graph: MACE, compiled as its calculator does it with `compile_mode="default"`."""
    from mace.tools.compile import prepare

    torch._dynamo.reset()  # else a model of another size would be one more case of the last one's code
    compiled = torch.compile(prepare(mace)(degree, dtype).eval())
    for parameter in compiled.parameters():
        parameter.requires_grad_(False)

    def model(graph):
        for name in ("positions", "node_attrs"):
            graph[name].requires_grad_(True)
        return compiled(graph, training=True)

    return model


def peak(name, dtype, repeats, which):
    """Megabytes that the second call takes at its highest beyond what the process has before it."""
    call = evaluations(name, dtype, repeats)[which]
    call()
    sparseacc.cache_clear()  # what the call has freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the highest is forgotten
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def status(field):
    """Megabytes of a field of the process's status."""
    return next(
        int(line.split()[1]) / 1000 for line in Path("/proc/self/status").open() if line.startswith(f"{field}:")
    )


def one_case(name, dtype, threads, repeats, seconds, compiled):
    torch.set_num_threads(threads)
    atoms = 4 * repeats**3
    compiled = compiled and name.startswith("MACE") and threads == 1  # PyTorch 2.13's code for two corrupts memory
    ours, theirs, *of_compiled = medians(evaluations(name, dtype, repeats, compiled), seconds, least=3, most=20)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        of_ours, of_theirs = pool.starmap(peak, [(name, dtype, repeats, which) for which in (0, 1)], chunksize=1)
    print(
        f"{name:10} {dtype} {threads} threads {atoms:5} atoms: {theirs:7.3f} s before, {ours:6.3f} s after, "
        f"{theirs / ours:5.1f} times as fast; {of_theirs:,.0f} MB before, {of_ours:,.0f} after"
        + "".join(f"; {each:7.3f} s compiled, {each / ours:5.1f} times ours" for each in of_compiled),
        flush=True,
    )
    case = {"case": name, "dtype": dtype, "threads": threads, "atoms": atoms, "before": theirs, "after": ours}
    if compiled:
        (case["compiled"],) = of_compiled
    return case | {"megabytes_before": of_theirs, "megabytes_after": of_ours}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, nargs="*", default=[4, 8], help="cells of 4 atoms along each side")
    parser.add_argument("--cases", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--dtypes", nargs="*", default=["float32"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, sparseacc.get_num_threads()}))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--compiled", action="store_true", help="MACE in torch.compile too, of one thread: minutes")
    parser.add_argument("--json", metavar="FILE", help="write the medians, the machine and the versions")
    a = parser.parse_args()
    found = [
        one_case(name, dtype, threads, repeats, a.seconds, a.compiled)
        for name in a.cases
        for dtype in a.dtypes
        for repeats in a.repeats
        for threads in a.threads
    ]
    if a.json:
        record.write(a.json, models=found)


if __name__ == "__main__":
    main()
