"""The terms of a rule as a picture: C as a matrix, a row for each output, a column for each pair of inputs."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .calls.arrays import Array
from .description import Meaning, rule_in_words
from .extras import pyplot
from .terms import Terms

_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip
_MOST_COLUMNS, _MOST_ROWS = 400, 300
_MOST_CELLS = 20_000
_MOST_CELLS_HTML = 2_000
_MOST_TICKS = 40
_MOST_NAMES = len(_COLORS)


class Part(NamedTuple):
    """A part of an axis: its name, where it begins and how long it is."""

    name: str
    begin: int
    length: int


class Cells(NamedTuple):
    """What is drawn: cells of a grid, each of which stands for one entry of C, or for several of a large rule.

    Attributes
    ----------
    column, row, path, C : array, shape (cells,)
        Where each is, its path and its coefficient: of cells that stand for several, those of one of them.
    width, height : int
        Of the grid.
    scale : (int, int)
        How many columns and rows of the matrix a cell is.
    pairs : list of Part
        The columns by the parts of x1 and x2.
    outputs : list of Part
        The rows by the parts of the result.
    """

    column: Array
    row: Array
    path: Array
    C: Array
    width: int
    height: int
    scale: tuple[int, int]
    pairs: list[Part]
    outputs: list[Part]


def cells(rule: Terms, meaning: Meaning, most: int) -> Cells:
    """The cells of a rule's picture, of which there are not more than `most`."""
    first, second, outputs = ([*_parts(blocks)] for blocks in meaning.blocks)
    at1, at2 = (
        np.searchsorted([part.begin for part in parts], index, side="right") - 1
        for parts, index in ((first, rule.m1), (second, rule.m2))
    )
    found, of_term = np.unique(at1 * len(second) + at2, return_inverse=True)
    both = [(first[i // len(second)], second[i % len(second)]) for i in found.tolist()]
    lengths = [one.length * other.length for one, other in both]
    begins = np.array([0, *itertools.accumulate(lengths)])
    names = [f"{one.name} x {other.name}" if one.name else "" for one, other in both]
    pairs = [*map(Part, names, begins.tolist(), lengths)]
    begin1, begin2, length2 = (
        np.array(numbers)[at]
        for numbers, at in (
            ([part.begin for part in first], at1),
            ([part.begin for part in second], at2),
            ([part.length for part in second], at2),
        )
    )
    column = begins[:-1][of_term] + (rule.m1 - begin1) * length2 + rule.m2 - begin2
    width, height = max(int(begins[-1]), 1), max(rule.shape[2], 1)
    across, down = max(1, -(-width // _MOST_COLUMNS)), max(1, -(-height // _MOST_ROWS))
    of_cells = np.arange(rule.nnz)
    while True:
        keys = (column[of_cells] // across) * height + rule.mu[of_cells] // down
        of_cells = of_cells[np.unique(keys, return_index=True)[1]]
        if len(of_cells) <= most:
            break
        across, down = 2 * across, 2 * down
    return Cells(
        column[of_cells] // across,
        rule.mu[of_cells] // down,
        rule.path[of_cells],
        rule.C[of_cells],
        -(-width // across),
        -(-height // down),
        (across, down),
        pairs,
        outputs,
    )


def drawn(rule: Terms, meaning: Meaning, ax: Any) -> Any:
    """What `Rule.plot` returns."""
    plt = pyplot()
    picture = cells(rule, meaning, _MOST_CELLS)
    width, height, scale = picture.width, picture.height, picture.scale
    equal = scale == (1, 1) and max(width, height) <= 10 * min(width, height)
    if ax is None:
        inches = min(0.5, 9 / width, 7 / height) if equal else 0.0
        size = (max(5.0, 2 + inches * width), max(2.5, 1.5 + inches * height)) if equal else (11.0, 5.0)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    from matplotlib.collections import PolyCollection

    largest = np.abs(picture.C).max(initial=0) or 1
    half = 0.46 * np.sqrt(np.abs(picture.C) / largest) if scale == (1, 1) else np.full(len(picture.C), 0.5)
    half = np.maximum(half, 0.12)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    squares = np.stack([picture.column, picture.row], axis=1)[:, None] + half[:, None, None] * corners
    colors = np.array(_COLORS)[picture.path % len(_COLORS)]
    faces = np.where((picture.C > 0) | (scale != (1, 1)), colors, "white")
    ax.add_collection(PolyCollection(squares, facecolors=faces, edgecolors=colors, linewidths=0.9, zorder=2))
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if equal:
        ax.set_aspect("equal")
    _axes(rule, picture, ax)
    _legend(rule, meaning, ax, plt)
    return ax


def _axes(rule: Terms, picture: Cells, ax: Any) -> None:
    """Lines between the parts, and what is there."""
    across, down = picture.scale
    pairs, n2 = picture.pairs, rule.shape[1]
    if len(pairs) == 1 and picture.scale == (1, 1) and rule.shape[0] <= _MOST_TICKS:
        m1, columns = np.arange(rule.shape[0]), range(rule.shape[0] * n2)
        each = len(columns) <= _MOST_TICKS
        ax.set_xticks(n2 * m1 + (n2 - 1) / 2, [f"\nm1 = {i}" if each else str(i) for i in m1])
        ax.tick_params(axis="x", which="major", length=0)
        if each:
            ax.set_xticks(columns, [str(i % n2) for i in columns], minor=True)
            ax.xaxis.remove_overlapping_locs = False
        _lines(ax.axvline, n2 * m1[1:] - 0.5, 1.0)
        ax.set_xlabel(f"x1[m1] * x2[m2], by {'m1, and m2 above it' if each else f'm1, and by m2 = 0..{n2 - 1} within'}")
    else:
        _named_ticks(ax.set_xticks, pairs, across, rotation=90 if len(pairs) > 8 else 0)
        names = "the parts of x1 and x2" if len(pairs) > 1 else f"{rule.shape[0]:,} m1 and {n2:,} m2"
        ax.set_xlabel(f"x1[m1] * x2[m2], by {names}")
    _lines(ax.axvline, [part.begin / across - 0.5 for part in pairs[1:]], 0.55)
    outputs = picture.outputs
    if len(outputs) > 1:
        _named_ticks(ax.set_yticks, _runs(outputs), down)
    elif rule.shape[2] <= _MOST_TICKS:
        ax.set_yticks(range(rule.shape[2]))
    else:
        ticks = np.unique(np.linspace(0, rule.shape[2] - 1, 6).astype(int))
        ax.set_yticks(ticks / down, [f"{tick:,}" for tick in ticks])
    _lines(ax.axhline, [part.begin / down - 0.5 for part in outputs[1:]], 0.55)
    ax.set_ylabel("out[mu]")
    said = "area: |C|; empty: C < 0" if picture.scale == (1, 1) else f"a square is {across} x {down} entries"
    ax.set_title(f"C[m1, m2, mu]: {rule.nnz:,} terms in {rule.shape[0]:,} x {n2:,} x {rule.shape[2]:,}\n{said}")


def _runs(parts: Sequence[Part]) -> list[Part]:
    """Neighbours of one name as one part."""
    runs = []
    for name, group in itertools.groupby(parts, key=lambda part: part.name):
        alike = list(group)
        name = f"{len(alike)}x{name}" if len(alike) > 1 else name
        runs.append(Part(name, alike[0].begin, sum(part.length for part in alike)))
    return runs


def _named_ticks(set_ticks: Any, parts: Sequence[Part], scale: int, **text: Any) -> None:
    named = [part for part in parts if part.name]
    shown = named[:: -(-len(named) // _MOST_TICKS)] if named else []
    set_ticks([(part.begin + (part.length - 1) / 2) / scale for part in shown], [part.name for part in shown], **text)


def _lines(line: Any, places: Any, gray: float) -> None:
    for place in places if len(places) <= 200 else ():
        line(place, color=str(1 - gray * 0.4), linewidth=0.8, zorder=1)


def _legend(rule: Terms, meaning: Meaning, ax: Any, plt: Any) -> None:
    """The colours of paths, if they are few."""
    if rule.num_paths == 1 or rule.num_paths > _MOST_NAMES:
        return
    marks = [plt.Line2D([], [], marker="s", linestyle="", color=_COLORS[i]) for i in range(rule.num_paths)]
    ax.legend(marks, [_name(meaning, i) for i in range(rule.num_paths)], loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _name(meaning: Meaning, path: int) -> str:
    if meaning.degrees is None:
        return f"path {path}"
    l1, l2, l3 = meaning.degrees[path]
    return f"path {path}: {l1} x {l2} -> {l3}"


def as_html(rule: Terms, meaning: Meaning) -> str:
    """The picture as SVG, and what the rule is in words: of some 40 KB at most."""
    picture = cells(rule, meaning, _MOST_CELLS_HTML)
    width, height = picture.width, picture.height
    shapes = []
    signs = picture.C > 0
    color = picture.path % len(_COLORS)
    for number, sign in itertools.product(range(len(_COLORS)), (True, False)):
        chosen = np.flatnonzero((color == number) & (signs == sign))
        if len(chosen):
            places = zip(picture.column[chosen].tolist(), picture.row[chosen].tolist(), strict=True)
            line = "".join(f"M{x} {y}h1" for x, y in places)
            shapes.append(f'<path d="{line}" stroke="{_COLORS[number]}" stroke-opacity="{1 if sign else 0.45}"/>')
    across, down = picture.scale
    lines = [f"M{part.begin / across:g} 0V{height}" for part in picture.pairs[1:100]]
    lines += [f"M0 {part.begin / down:g}H{width}" for part in picture.outputs[1:100]]
    title = "C: a row for each output, a column for each pair m1, m2; a color for each path, pale if negative"
    shown = min(700, max(160, 14 * width))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{shown}" '
        f'height="{min(400, max(14, round(shown * height / width)))}" preserveAspectRatio="none" '
        f'style="border:1px solid gray"><title>{title}</title>'
        f'<g transform="translate(0 0.5)">{"".join(shapes)}</g>'
        f'<path d="{"".join(lines)}" stroke="gray" stroke-opacity="0.5" vector-effect="non-scaling-stroke"/></svg>'
        f"<div>{html.escape(title)}</div><pre>{html.escape(rule_in_words(rule, meaning))}</pre>"
    )


def _parts(blocks: Sequence[tuple[str, int]]) -> list[Part]:
    ends = itertools.accumulate((length for _, length in blocks), initial=0)
    return [Part(name, begin, length) for (name, length), begin in zip(blocks, ends, strict=False)]
