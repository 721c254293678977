"""Runs the CUDA sources of message passing on the host, planned as calls on a device are."""

import cuda_host
import numpy as np

from sparseacc.calls.dtypes import computed_in
from sparseacc.cuda.message_kernels import messages_kernel
from sparseacc.cuda.passes import Pass
from sparseacc.cuda.sorted_edges import indexed, kernels_for, sort_edges


def calls(rule, graph, slots, arrays, along=()):
    """The kernels that compute outputs, each with its pass and the edges. Arrays are named as inputs are."""
    spec = Pass(
        (),
        None,
        along,
        arrays["x"].dtype.name,
        arrays["x"].shape[2],
        tuple(name for name in "yw" if name in arrays and arrays[name].ndim == 3),
        indexed(graph),
        "w" in arrays,
    )
    rows = {name: len(arrays[name]) for name in "xyw" if name in arrays} | {"out": graph.num_nodes}
    left = kernels_for(slots, graph)
    while left:
        column, outputs = left.pop(0)
        edges = sort_edges(graph, column, rows.get(column, 0))
        of_kernel = spec._replace(outputs=outputs, column=column, pieces=edges.pieces is not None)
        source = messages_kernel(rule, of_kernel)
        if source is None:
            left += [(slot if slot == column else None, (slot,)) for slot in outputs]
            continue
        if source.tables and column is None:
            edges = sort_edges(graph, None, 0, 1)
        yield source, of_kernel, edges


def targets(rule, graph, spec, edges):
    """What a kernel writes."""
    widths = dict(zip(("x", "y", "out", "w"), (*rule.shape, rule.num_paths)))
    for slot in spec.outputs:
        rows = len(edges.begins) - 1 if slot == spec.column else graph.num_edges
        shares = () if spec.has_channels(slot) else (spec.shares,)
        shape = (*shares, rows, widths[slot], *([spec.channels] * spec.has_channels(slot)))
        partial = spec.stored(slot).type in ("float", "double")
        yield np.full(shape, np.nan, computed_in(spec.dtype) if partial else spec.dtype)


def inputs(spec, edges, arrays):
    """The arrays that a kernel takes before and after those that it writes."""
    before = [arrays[name] for name in spec.inputs()]
    return before, [edges.begins, edges.order, *(edges.rows[slot] for slot in spec.rows())]


def launches(rule, graph, slots, arrays, along=()):
    """The kernels as `cuda_host.executable` takes them, with so few blocks that each has several segments."""
    for source, spec, edges in calls(rule, graph, slots, arrays, along):
        before, after = inputs(spec, edges, arrays)
        buffers = [(a.nbytes, a.tobytes()) for a in before]
        buffers += [(a.nbytes, b"") for a in targets(rule, graph, spec, edges)]
        buffers += [(a.nbytes, a.tobytes()) for a in (*after, *source.tables)]
        segments = len(edges.begins) - 1
        yield source, (3, source.launch(segments).grid[1]), buffers, (segments, graph.num_edges)


def run(rule, graph, slots, arrays, along=()):
    """Computes outputs, by their slots."""
    found = {}
    for source, spec, edges in calls(rule, graph, slots, arrays, along):
        outputs = list(targets(rule, graph, spec, edges))
        before, after = inputs(spec, edges, arrays)
        segments = len(edges.begins) - 1
        grid = source.launch(segments).grid
        cuda_host.launch(source, grid, [*before, *outputs, *after], [segments, graph.num_edges])
        for slot, output in zip(spec.outputs, outputs):
            total = output if spec.has_channels(slot) else output.sum(axis=0)
            if slot == spec.column and edges.pieces is not None:
                total = np.add.reduceat(total, edges.pieces[:-1], axis=0)
            found[slot] = total.astype(spec.dtype)
    return found
