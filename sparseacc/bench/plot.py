"""A picture of results: over l, or as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..extras import pyplot
from .measuring import OURS, Result, results_of
from .table import LIMIT, OPERATIONS, dtype_of, in_unit, number, threads, unit_of

GREY = "#555555"
COLORS = {
    OURS: "#c2185b",
    LIMIT: GREY,
    "C for the rule": "#00695c",
    "numba": "#2e9e8f",
    "NumPy loop": "#1a4480",
    "NumPy einsum": "#6c9bd9",
    "torch matmul": "#f0a860",
    "torch.compile": "#a85a10",
}
FAMILIES = {"NumPy": "#3b6fb6", "scipy": "#6a7fa0", "torch": "#e07b1f", "jax": "#7e57c2", "JAX": "#7e57c2"}
OTHER = "#8d6e63"
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
SHOWN = "median, and the middle half of the repeats"
LINE = 13
"""Points between labels."""


def load_pyplot(file: str) -> Any:
    """matplotlib's, for a file of that name.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is missing.
    ValueError
        If it writes no files whose names end like that.
    """
    found = pyplot()
    found.switch_backend("Agg")
    ending, known = file.rpartition(".")[2].lower(), sorted(found.figure().canvas.get_supported_filetypes())
    found.close()
    if ending not in known:
        raise ValueError(f"matplotlib cannot write {file!r}: its name must end in one of {', '.join(known)}")
    return found


def draw(data: dict[str, Any], file: str) -> None:
    """Draws results.

    Products are drawn over l, for the largest batch, if there are two l or more; all else as bars.

    Parameters
    ----------
    data : dict
        What ``python -m sparseacc bench --json`` writes, as `json.load` reads it.
    file : str
        In any format that matplotlib writes.

    Raises
    ------
    ModuleNotFoundError, ValueError
        As `load_pyplot` does.
    """
    plt = load_pyplot(file)
    results = results_of(data)
    what = [results[0].case.title, dtype_of(data)]
    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        if chosen := _over_degrees(results):
            figure = _lines(plt, chosen)
            what = [what[0], "l1 = l2 = l3 = l", what[1], f"{chosen[0].case.rows:,} rows"]
        else:
            figure = _bars(plt, results)
        about = [data["machine"]["processor"], threads(data), data["machine"]["instruction_set"]]
        about += [f"sparseacc {data['versions']['sparseacc']}", data["date"], "less is better"]
        height = figure.get_figheight()
        figure.text(0.01, 1 - 0.12 / height, ", ".join(what), va="top", size=13, weight="bold")
        figure.text(0.01, 1 - 0.42 / height, ", ".join(about), va="top", size=9, color=GREY)
        if "warning" in data:
            figure.text(0.99, 1 - 0.12 / height, "measured on a busy machine", va="top", ha="right", color="#c62828")
        figure.savefig(file, dpi=150)
        plt.close(figure)


def _over_degrees(results: Sequence[Result]) -> list[Result]:
    """Products of one coupling each, of the largest batch, by l; none if there are not two l."""
    if results[0].case.unit != "row":
        return []
    plain = [result for result in results if not (result.case.middle or result.case.every)]
    most = max((result.case.rows for result in plain), default=0)
    chosen = sorted((result for result in plain if result.case.rows == most), key=lambda result: result.case.degree)
    return chosen if len({result.case.degree for result in chosen}) > 1 else []


def _lines(plt: Any, results: Sequence[Result]) -> Any:
    """A panel for each operation."""
    operations = list(dict.fromkeys(result.operation for result in results))
    figure, panels = plt.subplots(1, len(operations), figsize=(13, 5.6), sharey=True, squeeze=False)
    figure.subplots_adjust(left=0.07, right=0.86, top=0.84, bottom=0.1, wspace=0.48)
    ends = [
        _lines_of_one(panel, [result for result in results if result.operation == operation])
        for panel, operation in zip(panels[0], operations, strict=True)
    ]
    panels[0][0].set_ylabel(f"{unit_of(results[0])}: {SHOWN}")
    for panel, own in zip(panels[0], ends, strict=True):
        panel.tick_params(labelleft=True)
        _label(panel, own)
    return figure


def _lines_of_one(panel: Any, results: Sequence[Result]) -> dict[str, tuple[int, float]]:
    """Draws them, and returns where each line ends."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for result in results:
        for name, spread in result.spreads.items():
            low, high = (in_unit(result, each) for each in spread)
            panel.vlines(
                result.case.degree, low, high, color=_color(name), linewidth=4 if name == OURS else 2, alpha=0.5
            )
        for name, time in [*result.times.items(), (LIMIT, result.limit)]:
            if time:
                lines.setdefault(name, []).append((result.case.degree, in_unit(result, time)))
    for name, points in lines.items():
        if name == LIMIT:
            style = {"linestyle": "--", "linewidth": 1.5, "zorder": 1}
        else:
            style = {"marker": "o", "markersize": 3.5, "linewidth": 1.2}
        if name == OURS:
            style |= {"markersize": 7, "linewidth": 3.5, "zorder": 3}
        panel.plot(*zip(*points, strict=True), color=_color(name), **style)
    degrees = sorted({result.case.degree for result in results})
    panel.set(xlim=(degrees[0] - 0.2, degrees[-1] + 0.2), xticks=degrees, xlabel="l", yscale="log")
    _plain_numbers(panel.yaxis)
    panel.set_title(OPERATIONS.get(results[0].operation, results[0].operation), loc="left", size=11)
    return {name: points[-1] for name, points in lines.items()}


def _label(panel: Any, ends: dict[str, tuple[int, float]]) -> None:
    """Writes the names of lines beside the panel, each at the height of its end if there is room.

    Those of lines that end before are written there.
    """
    last = max(degree for degree, _ in ends.values())
    for name in [name for name, (degree, _) in ends.items() if degree < last]:
        end, offset = ends.pop(name), (5, 5)
        panel.annotate(name, end, offset, textcoords="offset points", color=_color(name), size=9, bbox=BOX)
    to_panel = panel.transData + panel.transAxes.inverted()
    heights = {name: to_panel.transform(end)[1] for name, end in ends.items()}
    names = sorted(heights, key=heights.__getitem__)
    height = panel.get_window_extent().height / panel.figure.dpi * 72
    for name, at in zip(names, apart([heights[name] for name in names], LINE / height), strict=True):
        panel.annotate(
            name,
            ends[name],
            (1.07, at),
            textcoords="axes fraction",
            va="center",
            color=_color(name),
            size=12 if name == OURS else 9,
            weight="bold" if name == OURS else "normal",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": _color(name), "shrinkB": 4, "relpos": (0, 0.5)},
        )


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """The nearest heights that are at least so far apart, of heights in ascending order.

    Examples
    --------
    >>> from sparseacc.bench.plot import apart
    >>> apart([0.0, 1.0, 1.0, 5.0], 0.5)
    [0.0, 0.75, 1.25, 5.0]
    """
    blocks: list[tuple[float, int]] = []  # of heights that touch, less their gaps: the mean, and how many
    for place, height in enumerate(heights):
        mean, count = height - place * gap, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    return [mean + place * gap for place, mean in enumerate(means)]


def _bars(plt: Any, results: Sequence[Result]) -> Any:
    """A panel for each operation, a group of bars for each case, and a bar for each way."""
    operations = list(dict.fromkeys(result.operation for result in results))
    cases = list(dict.fromkeys(result.case for result in results))
    rows: list[tuple[Any, str]] = []
    for case in cases:
        ways = dict.fromkeys(name for result in results if result.case == case for name in result.times)
        rows += [(case, ""), *((case, name) for name in ways)]
    size = (13 if len(operations) > 1 else 8), 1.7 + 0.27 * len(rows)
    figure, panels = plt.subplots(1, len(operations), figsize=size, sharey=True, squeeze=False)
    figure.subplots_adjust(left=1.6 / size[0], right=1 - 0.9 / size[0], wspace=0.2)
    figure.subplots_adjust(top=1 - 1.0 / size[1], bottom=0.6 / size[1])
    for panel, operation in zip(panels[0], operations, strict=True):
        for result in results:
            if result.operation == operation:
                _bars_of_one(panel, result, rows)
        panel.set(xlabel=f"{unit_of(results[0])}: {SHOWN}", ylim=(len(rows), -0.5))
        own = [result for result in results if result.operation == operation]
        least, most = (
            choose(in_unit(r, time) for r in own for time in (*r.times.values(), r.limit) if time)
            for choose in (min, max)
        )
        if most > 30 * least:
            panel.set(xscale="log", xlim=(least / 2, most * (most / least) ** 0.3))  # with room for numbers
        else:
            panel.set_xlim(0, 1.35 * most)
        _plain_numbers(panel.xaxis, (1,))
        panel.set_title(OPERATIONS.get(operation, operation), loc="left", size=11)
        panel.set_yticks([place for place, row in enumerate(rows) if row[1]], [name for _, name in rows if name])
        panel.tick_params(axis="y", length=0)
        for place, (case, name) in enumerate(rows):
            if not name:
                panel.text(0, place + 0.1, str(case), transform=panel.get_yaxis_transform(), weight="bold", va="center")
    return figure


def _bars_of_one(panel: Any, result: Result, rows: Sequence[tuple[Any, str]]) -> None:
    own = [(place, name) for place, (case, name) in enumerate(rows) if case == result.case and name in result.times]
    for place, name in own:
        time = in_unit(result, result.times[name])
        panel.barh(place, time, 0.75, color=_color(name))
        spread = [in_unit(result, each) for each in result.spreads.get(name, ())]
        if spread:
            panel.hlines(place, *spread, color="black", linewidth=1)
        factor = result.times[name] / result.times[OURS]
        text = number(time) if name == OURS else f"{number(time)} ({number(factor)} times)"
        weight = "bold" if name == OURS else "normal"
        panel.annotate(
            text, (max([time, *spread]), place), (4, 0), textcoords="offset points", va="center", size=9, weight=weight
        )
    if result.limit:
        ends = own[0][0] - 0.5, own[-1][0] + 0.5
        panel.plot([in_unit(result, result.limit)] * 2, ends, "--", color="black", linewidth=1.5, label=LIMIT)
        if not panel.get_legend():
            panel.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.2, fontsize=9)


def _plain_numbers(axis: Any, digits: Sequence[int] = (1, 2, 5)) -> None:
    """Numbers without powers; on a log axis, at those that begin with these digits, and none between."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=digits))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.grid(visible=True, color="#e0e0e0", linewidth=0.6)
    axis.axes.set_axisbelow(True)


def _color(name: str) -> str:
    return COLORS.get(name) or next((color for start, color in FAMILIES.items() if name.startswith(start)), OTHER)
