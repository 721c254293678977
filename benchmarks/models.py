"""Times energies and forces of MACE, NequIP and SevenNet before and after sparseacc.torch.accelerate.

Run it as python benchmarks/models.py [--help]; the models are those of examples/, with random weights, for copper. Each
call builds its results anew from a graph that is made once; calls of both are timed in turn. The memory that a call
takes at its highest is counted in processes of their own (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from functools import partial
from pathlib import Path

import ase.build
import torch
from messages import medians

import sparseacc.torch
from sparseacc.bench import record

sys.path.append(str(Path(__file__).parents[1] / "examples"))
CHANNELS = 64


def mace(hidden, dtype):
    """A model, and a function of atoms that gives what it takes."""
    from mace import data, tools
    from mace.tools import torch_geometric
    from mace_md import mace

    numbers = tools.AtomicNumberTable([29])

    def graph(atoms):
        made = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=numbers, cutoff=5.0)
        return next(iter(torch_geometric.dataloader.DataLoader([made], batch_size=1, shuffle=False))).to_dict()

    return mace(hidden, CHANNELS, 3), graph


def nequip(degree, dtype):
    from nequip.data import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.utils.global_state import set_global_state
    from nequip_md import nequip

    set_global_state()
    types, neighbors = ChemicalSpeciesToAtomTypeMapper(["Cu"]), NeighborListTransform(r_max=5.0)
    return nequip(degree, CHANNELS, dtype).eval(), lambda atoms: neighbors(types(from_ase(atoms)))


def sevennet(degree, dtype):
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph
    from sevenn_md import sevennet

    def graph(atoms):
        made = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, 5.0)).to_dict()
        return {name: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in made.items()}

    return sevennet(degree, CHANNELS).eval(), graph


MODELS = {
    **{f"MACE {degree}": partial(mace, degree) for degree in (0, 1, 2)},
    **{f"NequIP {degree}": partial(nequip, degree) for degree in (1, 2, 3)},
    **{f"SevenNet {degree}": partial(sevennet, degree) for degree in (2, 3)},
}


def evaluations(name, dtype, repeats):
    """What computes energies and forces: by sparseacc, and as the model does it."""
    torch.set_default_dtype(getattr(torch, dtype))
    model, graph_of = MODELS[name](dtype)
    graph = graph_of(ase.build.bulk("Cu", cubic=True) * (repeats, repeats, repeats))
    accelerated = sparseacc.torch.accelerate(MODELS[name](dtype)[0])

    def evaluate(model):
        given = {key: x.detach().clone() if torch.is_tensor(x) else x for key, x in graph.items()}
        return model(given)

    return [partial(evaluate, accelerated), partial(evaluate, model)]


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


def one_case(name, dtype, threads, repeats, seconds):
    torch.set_num_threads(threads)
    atoms = 4 * repeats**3
    ours, theirs = medians(evaluations(name, dtype, repeats), seconds, least=3, most=20)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        of_ours, of_theirs = pool.starmap(peak, [(name, dtype, repeats, which) for which in (0, 1)], chunksize=1)
    print(
        f"{name:10} {dtype} {threads} threads {atoms:5} atoms: {theirs:7.3f} s before, {ours:6.3f} s after, "
        f"{theirs / ours:5.1f} times as fast; {of_theirs:,.0f} MB before, {of_ours:,.0f} after",
        flush=True,
    )
    case = {"case": name, "dtype": dtype, "threads": threads, "atoms": atoms, "before": theirs, "after": ours}
    return case | {"megabytes_before": of_theirs, "megabytes_after": of_ours}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, nargs="*", default=[4, 8], help="cells of 4 atoms along each side")
    parser.add_argument("--cases", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--dtypes", nargs="*", default=["float32"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, sparseacc.get_num_threads()}))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--json", metavar="FILE", help="write the medians, the machine and the versions")
    a = parser.parse_args()
    found = [
        one_case(name, dtype, threads, repeats, a.seconds)
        for name in a.cases
        for dtype in a.dtypes
        for repeats in a.repeats
        for threads in a.threads
    ]
    if a.json:
        record.write(a.json, models=found)


if __name__ == "__main__":
    main()
