"""What the comparison shows: tables, pictures, warnings; no test depends on how long anything takes."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import sparseacc
from sparseacc.__main__ import main
from sparseacc.bench import Case, Result, command, draw, limits, load, record, table, ways
from sparseacc.bench.cases import Layer, Potential
from sparseacc.bench.measuring import OURS
from sparseacc.bench.plot import apart

ROOT = Path(__file__).parents[2]


def example(case, **more):
    times = {OURS: 12.3, "NumPy loop": 123456.7, "numba": 2.5e7}
    spreads = {OURS: [12.0, 13.0], "NumPy loop": [111111.1, 222222.2], "numba": [2.4e7, 2.6e7]}
    given = {"times": times, "spreads": spreads, "repeats": {OURS: 5, "NumPy loop": 3, "numba": 1}, "limit": 2.0} | more
    return [Result(case, "product", 6, **given), Result(case, "gradient", 6, **given)]


def test_a_table_has_a_line_for_each_way_by_its_time_and_marks_the_fastest():
    text = table.of_case(example(Case(3, 20_000)))
    title, _, columns, *lines = text.rstrip("\n").split("\n")
    assert title == "l = 3, 20,000 rows"
    assert columns.split() == ["way", *["ns", "a", "row", "middle", "half", "factor"] * 2]
    assert lines[0].split() == [OURS, *["12.3", "12.0", "..", "13.0", "1.00*"] * 2]
    assert lines[1].split() == ["NumPy", "loop", *["123,457", "111,111", "..", "222,222", "10,037"] * 2]
    assert lines[2].split() == ["numba", *["2.5e+07", "once", "2.0e+06"] * 2]
    assert lines[3].split() == ["machine's", "limit", *["2.00", "0.16"] * 2]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_no_line_is_longer_than_100_characters(scale):
    reasons = dict.fromkeys(ways.WAYS, "long to compile, only with --full or --against")
    results = example(Case(8, 200_064, middle=True), left_out=reasons)
    for result in results:
        result.times = {name: scale * time for name, time in result.times.items()}
        result.spreads = {name: [scale * each for each in spread] for name, spread in result.spreads.items()}
    lines = [*table.of_case(results).split("\n"), *table.notes(results).split("\n")]
    lines += table.about(record.made(threads=2)).split("\n")
    assert max(map(len, lines)) <= 100


def test_a_busy_machine_brings_a_warning_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(load.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(load, "_share", lambda count: 1.0)
    assert load.before() == ""
    monkeypatch.setattr(load, "_share", lambda count: 0.5)
    assert re.match("this process gets 50% of .* processors?: others take the rest.*End other programs", load.before())
    monkeypatch.setattr(load, "_share", lambda count: 1.0)
    monkeypatch.setattr(load.os, "getloadavg", lambda: (1e4, 0.0, 0.0))
    assert re.match("the load average is 10000.0 on .*End other programs", load.before())


def test_uneven_times_of_our_own_bring_a_warning():
    even, uneven = (Result(Case(1, 1), "product", 6, {OURS: 10.0}, {OURS: [9.5, high]}) for high in (10.5, 15.5))
    assert load.after([even, even, uneven]) == ""
    assert re.match("the middle half of sparseacc's own times spreads over 60% .*", load.after([even, uneven, uneven]))


@pytest.mark.parametrize("held", [10**6, 10**8])
def test_the_limit_is_the_larger_of_its_two_times(held, monkeypatch):
    """If every copy, and every product of two matrices, took a second."""
    monkeypatch.setattr(limits, "_fastest", lambda call: 1.0)
    limits._multiply_adds_a_second.cache_clear()
    assert limits.least_seconds(2 * held, held, 1024**3, "float32") == 2
    assert limits.least_seconds(2 * held, held, 3 * 1024**3, "float32") == 3
    limits._multiply_adds_a_second.cache_clear()


def test_the_counter_counts_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with command._progress(2) as (step, say):
            step("l = 1", "numba")
            say("text")
        captured = capsys.readouterr()
        assert captured.out == "text\n"
        assert ("1 of 2, l = 1: numba" in captured.err) is terminal


CASES_TO_DRAW = {
    "product": [Case(1, 10), Case(2, 10)],
    "one": [Case(1, 10)],
    "messages": [Layer("64 channels, l to 2", 32, 1152), Layer("MACE medium", 32, 1152)],
    "models": [Potential("MACE", 4, 168)],
}


@pytest.mark.parametrize("name", CASES_TO_DRAW)
def test_the_plot_says_what_was_measured_and_where(name, tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    kind = "product" if name == "one" else name
    results = [result for case in CASES_TO_DRAW[name] for result in example(case)]
    beside = [asdict(result) for result in results]
    data = record.made(kind=kind, dtype="float64", threads=3, beside=beside, warning="busy")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(json.loads(json.dumps(data)), str(tmp_path / "plot.svg"))
    text = (tmp_path / "plot.svg").read_text()
    about = f"3 threads, {sparseacc.cpu.instruction_set()}, sparseacc {sparseacc.__version__}, {data['date']}, less is "
    for part in (results[0].case.title, "float64", about, "measured on a busy machine"):
        assert part in text
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {OURS, "NumPy loop", "numba", "machine's limit"} <= set(shown)
    if name == "product":
        assert shown.count("1") >= 2
        assert not any(re.fullmatch(r"[12][.]\d+", label) for label in shown)


def test_results_of_older_versions_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    files = sorted((ROOT / "benchmarks" / "results").glob("*beside*.json"))
    assert files or not (ROOT / "benchmarks").exists()
    for file in files:
        assert main(["bench", "--from-json", str(file), "--plot", str(tmp_path / f"{file.stem}.png")]) == 0
        assert (tmp_path / f"{file.stem}.png").stat().st_size > 10_000


def test_labels_keep_their_distance():
    heights = sorted(np.random.default_rng(0).random(12))
    found = np.array(apart(heights, 0.06))
    assert np.all(np.diff(found) > 0.06 - 1e-12)
    assert abs(np.mean(found) - np.mean(heights)) < 1e-12
