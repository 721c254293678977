"""Writes the tables of the pages in docs/ from benchmarks/results/*.json: python benchmarks/report.py [--check].

A page says where a table is, which one, and of which file, and this script fills it in:

    <!-- table: limits machine-product.json 1 -->
    <!-- end -->

The files are what `--json` of the other programs here and of `python -m sparseacc bench` writes. A file that says
"source" was not written by them, but carried over from an older page.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.S)
OURS = "sparseacc"
NEAREST = 3


def number(value):
    """Two digits, or as many as there are before the point."""
    if value < 1:
        return f"{value:.2g}"
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def lines(header, rows):
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *rows))


def machine(data):
    """One paragraph: what was measured, where and when."""
    about = data["machine"]
    caches = [f"{size} of {level} cache" for level, size in about["caches"].items()]
    parts = [about["processor"], f"{about['cores']} cores", *caches, about["instruction_set"], about["system"]]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    text = f"{', '.join(parts)}. {versions}; {data['date']}."
    for peak in data.get("peaks", ()):
        text += f" {threaded(peak['threads'])}, {peak['dtype']}: {number(peak['giga_multiply_adds_a_second'])} G "
        text += f"multiply-adds/s, {number(peak['gigabytes_a_second'])} GB/s from memory."
    if "threads" in data:
        text += f" {threaded(data['threads'])}{', ' + data['dtype'] if 'dtype' in data else ''}."
    return textwrap.fill(f"{text} {data.get('source', '')}", 120) + "\n"


def threaded(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"


def by_rule(data, threads, figure):
    """A row for each rule, a column for each dtype and layout, with a figure for each operation in a cell."""
    cases = {(c["rule"], c["dtype"], c["layout"], c["operation"]): c for c in data["cases"] if c["threads"] == threads}
    rules, columns, operations = (
        dict.fromkeys(key[first:last] for key in cases) for first, last in ((0, 1), (1, 3), (3, 4))
    )

    def cell(rule, column):
        figures = [number(cases[key][figure]) for o in operations if (key := (*rule, *column, *o)) in cases]
        return " / ".join(figures)

    header = ["", *(", ".join(column) for column in columns)]
    return lines(header, [[*rule, *(cell(rule, column) for column in columns)] for rule in rules])


def limits(data, threads):
    """How many times the limit each operation takes."""
    return by_rule(data, int(threads), "over_limit")


def times(data, threads):
    """Nanoseconds a row of each operation."""
    return by_rule(data, int(threads), "ns_a_row")


def summary(data, threads):
    """How near to the limit all cases are, in a sentence."""
    cases = sorted((c for c in data["cases"] if c["threads"] == int(threads)), key=lambda case: case["over_limit"])
    middle, last = cases[len(cases) // 2], cases[-1]
    text = f"With {threaded(int(threads))}, half of the {len(cases)} cases take at most "
    text += f"{number(middle['over_limit'])} times the limit; the farthest from it is {last['rule']}, "
    text += f"{last['operation']}, {last['dtype']}, {last['layout']}, with {number(last['over_limit'])} times."
    return textwrap.fill(text, 120) + "\n"


def row(data):
    one = data["one_row"]
    text = f"A product of one row, l = 5, takes {number(one['microseconds'])} us, "
    return textwrap.fill(text + f"{number(one['over_np_add'])} times `np.add` of the same arrays.", 120) + "\n"


def beside(data):
    """Each case's time, and how many times as long the nearest other ways take."""
    cases = {}
    for result in data["beside"]:
        case = result["case"]
        rule = f"{'all to' if case['every'] else 'l ='} {case['degree']}{', middle' if case['middle'] else ''}"
        ours = result["times"][OURS]
        others = sorted((time / ours, name) for name, time in result["times"].items() if name != OURS)[:NEAREST]
        nearest = ", ".join(f"{name} {number(ratio)}" for ratio, name in others)
        cells = [number(ours), number(result["limit"]), nearest]
        cases.setdefault((rule, f"{case['rows']:,}"), {})[result["operation"]] = cells
    header = [
        "rule",
        "rows",
        "product, ns",
        "limit",
        "others / sparseacc",
        "gradient, ns",
        "limit",
        "others / sparseacc",
    ]
    return lines(header, [[*case, *cells["product"], *cells["gradient"]] for case, cells in cases.items()])


def calls(data):
    """Microseconds a call through each library, and how many times NumPy's call that is."""
    rows = []
    for call in data["calls"]:
        time = f"{call['microseconds']:.1f}"
        rows.append([call["operation"], call["way"], f"{call['rows']:,}", time, number(call["over_numpy"])])
    return lines(["", "way", "rows", "microseconds", "/ NumPy"], rows)


def of_each_operation(cases, figures):
    """Of cases by (name, column, operation): a row for each name, and for each column and figure the operations'."""
    names, columns, operations = (dict.fromkeys(key[i] for key in cases) for i in range(3))

    def cell(name, column, figure):
        return " / ".join(number(cases[name, column, operation][figure]) for operation in operations)

    shown = [(column, figure) for column in columns for figure in figures]
    header = ["", *(f"{column}, {figures[figure]}" for column, figure in shown)]
    return lines(header, [[name, *(cell(name, *each) for each in shown)] for name in names])


def messages(data, dtype):
    """Of each case of message passing: nanoseconds an edge and times the limit, of each operation, by threads."""
    cases = {(c["case"], threaded(c["threads"]), c["operation"]): c for c in data["cases"] if c["dtype"] == dtype}
    return of_each_operation(cases, {"ns_an_edge": "ns", "over_limit": "/ limit"})


def contraction(data, threads):
    """Of each contraction: microseconds an atom and times the limit, of each operation, by dtype."""
    cases = {(c["case"], c["dtype"], c["operation"]): c for c in data["polynomials"] if c["threads"] == int(threads)}
    return of_each_operation(cases, {"us_an_atom": "us", "over_limit": "/ limit"})


def quotients(case, prefix, parts):
    """Another's time of each part, ours, and how many times as long it takes."""
    pairs = [(case[f"{prefix}_{part}"], case[part]) for part in parts]
    return [f"{number(theirs)} / {number(ours)} = {number(theirs / ours)}" for theirs, ours in pairs]


def e3nn(data):
    """How many times as long e3nn takes for message passing, forward and backward."""
    rows = []
    for case in data["e3nn"]:
        how = "compiled" if case["compiled"] else "eager"
        parts = quotients(case, "e3nn", ("forward", "backward"))
        rows.append([case["case"], threaded(case["threads"]), how, *parts])
    return lines(["", "", "e3nn", "forward, ns an edge", "backward, ns an edge"], rows)


def others(data, who):
    """How many times as long another's symmetric contraction takes as the module that stands in for MACE's."""
    rows = []
    for case in data["others"]:
        if f"{who}_forward" in case:
            parts = quotients(case, who, ("forward", "with_gradient"))
            rows.append([case["case"], case["dtype"], f"{case['atoms']:,} atoms", threaded(case["threads"]), *parts])
    return lines(["", "", "", "", "forward, us an atom", "with the gradient of x, us an atom"], rows)


def by_model(cases, heading, cell):
    """Of cases by (name, *column): a row for each name, a column for each of the others."""
    names, columns = sorted({key[0] for key in cases}), sorted({key[1:] for key in cases})
    keys = [[(name, *column) for column in columns] for name in names]
    rows = [[of[0][0], *(cell(cases[key]) if key in cases else "" for key in of)] for of in keys]
    return lines(["", *(heading(*column) for column in columns)], rows)


def models(data, dtype, way="before"):
    """Seconds that energies and forces of each model take before, or another way, and after; how many times that is."""
    cases = {(c["case"], c["atoms"], c["threads"]): c for c in data["models"] if c["dtype"] == dtype}

    def cell(case):
        before, after = case[way], case["after"]
        return f"{1e3 * before:,.0f} / {1e3 * after:,.0f} = {number(before / after)}"

    return by_model(cases, lambda atoms, threads: f"{atoms:,} atoms, {threaded(threads)}", cell)


def memory(data):
    """Megabytes that energies and forces of each model take before and after."""
    cases = {(c["case"], c["atoms"]): c for c in data["models"] if c["dtype"] == "float32" and c["threads"] == 2}

    def cell(case):
        before, after = case["megabytes_before"], case["megabytes_after"]
        return f"{before:,.0f} MB / {after:,.0f} MB = {number(before / after)}"

    return by_model(cases, lambda atoms: f"{atoms:,} atoms", cell)


TABLES = {
    table.__name__: table
    for table in (
        machine,
        summary,
        limits,
        times,
        row,
        beside,
        calls,
        messages,
        contraction,
        e3nn,
        others,
        models,
        memory,
    )
}


def filled(text):
    """The page with its tables written anew."""

    def table(match):
        name, file, *arguments = match[2].split()
        data = json.loads((ROOT / "benchmarks" / "results" / file).read_text(encoding="utf-8"))
        return f"{match[1]}\n{TABLES[name](data, *arguments)}\n{match[3]}"

    return MARKED.sub(table, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is not what it should be")
    check = parser.parse_args().check
    for path in sorted(ROOT.glob("docs/**/*.md")):
        old = path.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            if check:
                sys.exit(f"error: {path.relative_to(ROOT)}: its tables are others than benchmarks/report.py writes")
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
