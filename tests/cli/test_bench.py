"""The comparison with what a user would pick instead; no test depends on how long anything takes."""

import json
import shutil
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import sparseacc
from sparseacc.__main__ import main
from sparseacc.bench import Case, all_couplings, generated, measuring, ways
from sparseacc.bench.measuring import Result, draw, measure

NEEDED = {"scipy.sparse": ["scipy"], "numba": ["numba"], "jax.jit": ["jax"], "e3nn-jax": ["jax", "e3nn_jax"]}
NEEDED |= {
    "mops": ["torch", "mops.torch"],
    "e3nn": ["torch", "e3nn"],
    "cuequivariance": ["torch", "cuequivariance_torch"],
}
NEEDED |= {name: ["torch"] for name in ways.WAYS if name.startswith("torch")}


def installed(package):
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


ONE_RULE = {"e3nn", "e3nn-jax", "cuequivariance"}


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("case", [Case(2, 10), Case(2, 2560, middle=True), Case(1, 70, every=True)], ids=str)
@pytest.mark.parametrize("name", ways.WAYS)
def test_every_way_computes_the_product_and_the_gradient(name, case):
    missing = [package for package in NEEDED.get(name, ()) if not installed(package)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    rule = case.rule()
    x1, x2, dy = case.arrays(rule)
    if (case.middle or case.every) and name in ONE_RULE | ({"scipy.sparse", "mops"} if case.middle else set()):
        with pytest.raises(ways.UnsuitedError):
            ways.WAYS[name](rule, x1, x2, dy)
        return
    way = ways.WAYS[name](rule, x1, x2, dy)
    np.testing.assert_allclose(np.asarray(way.product()), rule(x1, x2, axis=1), atol=1e-5)
    if way.gradient is not None:
        for result, expected in zip(way.gradient(), rule.vjp(dy, x1, x2, axis=1), strict=True):
            np.testing.assert_allclose(np.asarray(result), expected, atol=1e-5)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_compiled_c_leaves_the_subnormal_numbers_of_the_process_alone():
    generated.compiled(sparseacc.clebsch_gordan(1, 1, 1), middle=False)
    smallest = np.full(1, np.finfo(np.float32).smallest_subnormal)
    assert (smallest * np.ones(1, np.float32))[0] > 0


@pytest.fixture
def few(monkeypatch):
    """Two ways, and one that is not installed."""

    def missing(rule, x1, x2, dy):
        raise ModuleNotFoundError("No module named 'missing'")

    chosen = {ways.OURS: ways.sparseacc, "NumPy loop": ways.numpy_loop, "missing": missing}
    monkeypatch.setattr(measuring, "WAYS", chosen)
    monkeypatch.setattr(measuring, "SECONDS_EACH", 1e-4)
    return chosen


def test_results_are_complete_and_say_what_was_left_out(few, tmp_path, capsys):
    assert main(["bench", "--quick", "--json", str(tmp_path / "raw.json")]) == 0
    data = json.loads((tmp_path / "raw.json").read_text())
    assert data["versions"]["sparseacc"] == sparseacc.__version__
    assert data["machine"]["instruction_set"] == sparseacc.cpu.instruction_set()
    assert data["threads"] == sparseacc.get_num_threads()
    raw = data["beside"]
    assert {(r["case"]["degree"], r["case"]["rows"], r["operation"]) for r in raw} >= {
        (3, 1, "product"),
        (3, 20_000, "gradient"),
    }
    for result in raw:
        assert set(result["times"]) == set(result["repeats"]) == {ways.OURS, "NumPy loop"}
        assert min(result["times"].values()) > 0
        assert result["left_out"] == {"missing": "No module named 'missing'"}
    printed = capsys.readouterr().out
    assert printed.count("missing: left out, No module named 'missing'") == 1
    assert "l = 3,  20000 rows, gradient: sparseacc" in printed


def test_a_wrong_way_is_not_timed(few):
    few["wrong"] = lambda *arguments: ways.Timed(lambda: 2 * ways.sparseacc(*arguments).product(), None)
    with pytest.raises(AssertionError, match="wrong is wrong by"):
        next(measure(Case(1, 5), 1e-4))


def test_what_compiles_too_long_is_left_out_by_the_number_of_terms(few):
    few["jax.jit"] = ways.numpy_loop
    assert "jax.jit" in next(measure(Case(1, 5), 1e-4)).times
    assert "not in a quick run" in next(measure(Case(1, 5), 1e-4, quick=True)).left_out["jax.jit"]
    assert "more than 150 terms" in next(measure(Case(8, 5), 1e-4)).left_out["jax.jit"]


def test_the_best_other_way_is_the_fastest_that_is_not_ours():
    assert Result(Case(1, 1), 6, "product", {ways.OURS: 1.0, "a": 3.0, "b": 2.0}).best_other == "b"
    assert Result(Case(1, 1), 6, "product", {ways.OURS: 1.0}).best_other is None


def test_the_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    results = [
        Result(Case(n, 10), 6, o, {ways.OURS: n, "numba": 2.0 * n}) for n in (1, 2) for o in ("product", "gradient")
    ]
    draw(results, str(tmp_path / "plot.svg"))
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_a_plot_without_matplotlib_is_one_error_before_anything_is_timed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--plot", "plot.svg"]) == 1
    captured = capsys.readouterr()
    assert (
        captured.err == "error: a plot needs matplotlib: python -m pip install -e '.[bench]' in a clone of sparseacc\n"
    )
    assert captured.out == ""


def test_all_couplings_side_by_side_are_the_couplings(rng):
    rule = all_couplings(2)
    x1, x2 = rng.normal(size=(2, 5, 9))
    blocks, at = rule(x1, x2), 0
    for l1, l2 in np.ndindex(3, 3):
        for l3 in range(abs(l1 - l2), min(l1 + l2, 2) + 1):
            one = sparseacc.clebsch_gordan(l1, l2, l3)
            expected = one(x1[:, l1**2 : (l1 + 1) ** 2], x2[:, l2**2 : (l2 + 1) ** 2])
            np.testing.assert_allclose(blocks[:, at : at + 2 * l3 + 1], expected, atol=1e-13)
            at += 2 * l3 + 1
    assert at == rule.shape[2]
