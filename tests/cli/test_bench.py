"""The comparison with what a user would pick instead; no test depends on how long anything takes."""

import json
import re
import shutil
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

import sparseacc
from sparseacc.__main__ import main
from sparseacc.bench import (
    Case,
    all_couplings,
    command,
    generated,
    load,
    measuring,
    messages,
    models,
    products,
    ways,
)
from sparseacc.bench.cases import Potential
from sparseacc.bench.measuring import OURS, Timed, UnsuitedError

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def jax_as_it_was():
    """Ways in float64 switch JAX to 64 bits."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", False)


ONE_RULE = {"e3nn", "e3nn-jax", "cuequivariance"}


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (Case(2, 10), "float32"),
        (Case(2, 10), "float64"),
        (Case(2, 2560, middle=True), "float32"),
        (Case(1, 70, every=True), "float32"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ways.WAYS)
def test_every_way_computes_the_product_and_the_gradient(name, case, dtype, jax_as_it_was):
    missing = [package for package in NEEDED.get(name, ()) if not installed(package)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    rule = case.rule()
    x1, x2, dy = case.arrays(rule, dtype)
    unsuited = ONE_RULE if case.middle or case.every else {"cuequivariance"} if dtype == "float64" else set()
    if name in unsuited | ({"scipy.sparse", "mops"} if case.middle else set()):
        with pytest.raises(UnsuitedError):
            ways.WAYS[name](rule, x1, x2, dy)
        return
    way = ways.WAYS[name](rule, x1, x2, dy)
    np.testing.assert_allclose(np.asarray(way.result()), rule(x1, x2, axis=1), atol=measuring.TOLERANCE[dtype])
    if way.gradient is not None:
        for result, expected in zip(way.gradient(), rule.vjp(dy, x1, x2, axis=1), strict=True):
            np.testing.assert_allclose(np.asarray(result), expected, atol=measuring.TOLERANCE[dtype])


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_compiled_c_leaves_the_subnormal_numbers_of_the_process_alone():
    generated.compiled(sparseacc.clebsch_gordan(1, 1, 1), False, np.float32)
    smallest = np.full(1, np.finfo(np.float32).smallest_subnormal)
    assert (smallest * np.ones(1, np.float32))[0] > 0


LAYER = messages.layer("64 channels, l to 2", 2)


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", messages.WAYS)
def test_every_way_passes_the_same_messages(name, dtype, jax_as_it_was):
    for package in {"JAX segment_sum": ["jax"], "e3nn index_add": ["torch", "e3nn"]}.get(name, ()):
        pytest.importorskip(package, reason=f"{package} is not installed")
    problem = messages.Problem(LAYER, dtype)
    double = problem.in_double()
    x, y, w = double.x[problem.senders], double.y, double.w
    each = double.rule(x, y[:, :, None], w, axis=1)
    expected = np.zeros(problem.dout.shape)
    np.add.at(expected, problem.receivers, each)
    dx, dy, dw = double.rule.vjp(double.dout[problem.receivers], x, y[:, :, None], w, axis=1)
    of_nodes = np.zeros(problem.x.shape)
    np.add.at(of_nodes, problem.senders, dx)
    way = messages.WAYS[name](problem)
    forms = way.forms or [np.asarray] * 4
    found = [way.result(), *way.gradient()]
    for form, result, right in zip(forms, found, (expected, of_nodes, dy[:, :, 0], dw), strict=True):
        np.testing.assert_allclose(form(result), right, atol=measuring.TOLERANCE[dtype] * abs(right).max())


def test_the_layers_are_of_a_crystal_in_which_every_atom_has_42_neighbours():
    senders, receivers, atoms = messages.crystal(3)
    assert atoms == 108
    assert np.bincount(receivers).tolist() == np.bincount(senders).tolist() == [models.NEIGHBORS] * 108
    assert np.all(np.diff(receivers) >= 0)
    assert not np.any(senders == receivers)


@pytest.fixture
def few(monkeypatch):
    """Two ways, one that is not installed, and two cases; none is timed for long, and nobody looks at the load."""

    def missing(rule, x1, x2, dy):
        raise ModuleNotFoundError("No module named 'missing'")

    chosen = {OURS: ways.sparseacc, "NumPy loop": ways.numpy_loop, "missing": missing}
    monkeypatch.setattr(products, "WAYS", chosen)
    monkeypatch.setattr(products, "QUICK", (Case(1, 10), Case(2, 10)))
    monkeypatch.setitem(command.KINDS, "product", command.KINDS["product"]._replace(ways=tuple(chosen)))
    monkeypatch.setattr(command, "SECONDS_EACH", 1e-4)
    monkeypatch.setattr(load, "before", lambda: "")
    monkeypatch.setattr(load, "after", lambda results: "")
    return chosen


def measured(case, names, seconds=1e-4, quick=False):
    return list(products.measure(case, names, "float32", seconds, quick, lambda what: None))


def test_results_are_complete_and_say_what_was_left_out(few, tmp_path, capsys):
    file = tmp_path / "raw.json"
    assert main(["bench", "--quick", "--dtype", "float64", "--json", str(file)]) == 0
    data = json.loads(file.read_text())
    assert data["versions"]["sparseacc"] == sparseacc.__version__
    assert data["machine"]["instruction_set"] == sparseacc.cpu.instruction_set()
    assert data["machine"]["processor"]
    assert (data["threads"], data["dtype"], data["kind"]) == (sparseacc.get_num_threads(), "float64", "product")
    raw = data["beside"]
    named = [(r["case"]["degree"], r["case"]["rows"], r["operation"]) for r in raw]
    assert named == [(n, 10, operation) for n in (1, 2) for operation in ("product", "gradient")]
    for result in raw:
        assert set(result["times"]) == set(result["spreads"]) == set(result["repeats"]) == {OURS, "NumPy loop"}
        for name, time in result["times"].items():
            low, high = result["spreads"][name]
            assert 0 < low <= time <= high
            assert result["repeats"][name] >= measuring.LEAST
        assert result["left_out"] == {"missing": "not installed"}
        assert result["limit"] > 0
    printed = capsys.readouterr().out
    assert printed.count("Left out, not installed: missing.") == 1
    assert printed.endswith(f"wrote {file}\n")
    assert "float64" in printed.partition("\n")[0]


def test_the_report_makes_a_table_of_what_was_written(few, tmp_path):
    file = tmp_path / "raw.json"
    assert main(["bench", "--json", str(file)]) == 0
    spec = spec_from_file_location("report", ROOT / "benchmarks" / "report.py")
    report = module_from_spec(spec)
    spec.loader.exec_module(report)
    data = json.loads(file.read_text())
    lines = report.beside(data).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| l = 1", "| l = 2"]
    assert all(line.count("NumPy loop") == 2 for line in lines[2:])
    machine = report.machine(data).replace("\n", " ").rstrip()  # lines end where the machine's name makes them end
    assert f"sparseacc {sparseacc.__version__}" in machine
    assert machine.endswith(f"{report.threaded(data['threads'])}, float32.")


def test_what_was_written_is_shown_again(few, tmp_path, capsys):
    file = tmp_path / "raw.json"
    assert main(["bench", "--json", str(file)]) == 0
    first = capsys.readouterr().out
    again = tmp_path / "again.json"
    assert main(["bench", "--from-json", str(file), "--json", str(again)]) == 0
    second = capsys.readouterr().out
    assert again.read_text() == file.read_text()
    ways_of = re.compile(r"^(\S.*?) {2,}", re.M)
    assert ways_of.findall(second)[1:] == ways_of.findall(first)[1:]


def test_a_wrong_way_is_not_timed(few):
    few["wrong"] = lambda *arguments: Timed(lambda: 2 * ways.sparseacc(*arguments).result(), None)
    with pytest.raises(ArithmeticError, match="wrong is wrong by"):
        measured(Case(1, 5), ["wrong"])


def test_what_compiles_too_long_is_left_out_by_the_number_of_terms(few):
    few["jax.jit"] = ways.numpy_loop
    names = [OURS, "jax.jit"]
    assert "jax.jit" in measured(Case(1, 5), names)[0].times
    assert "only with --full or --against" in measured(Case(1, 5), names, quick=True)[0].left_out["jax.jit"]
    assert "more than 150 terms" in measured(Case(8, 5), names)[0].left_out["jax.jit"]


def test_only_the_ways_that_are_asked_for_are_timed(few, tmp_path):
    file = tmp_path / "raw.json"
    assert main(["bench", "--against", "NumPy-loop", "--json", str(file)]) == 0
    for result in json.loads(file.read_text())["beside"]:
        assert list(result["times"]) == [OURS, "NumPy loop"]
        assert result["left_out"] == {}


def test_the_help_names_the_ways(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(";", " ").split()
    for kind in (ways.WAYS, messages.WAYS):
        assert {command.spelled(name) for name in kind if name != OURS} <= set(words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--against", "numpy-loop,nump"],
            "--against: 'nump' is not known for --case product, but numpy_loop, missing are",
        ),
        (["--json", "no/such/file.json"], "--json: there is no folder 'no/such' to write 'no/such/file.json' to"),
        (["--from-json", __file__], f"{__file__!r} does not hold what `python -m sparseacc bench --json FILE` writes"),
        (["--from-json", "no-such.json"], "[Errno 2] No such file or directory: 'no-such.json'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_before_anything_is_timed(few, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(command, "_measure", None)
    assert main(["bench", *arguments]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"error: {message}\n")


def test_models_without_their_packages_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert main(["bench", "--case", "models"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        "error: --case models needs ASE and .*: python -m pip install ase mace-torch .*\n", captured.err
    )


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", models.MODELS)
def test_a_model_is_timed_before_and_after_accelerate(name):
    for package in ("torch", "ase", models.MODELS[name][0]):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import e3nn
    import torch

    steps, state = [], (torch.get_default_dtype(), e3nn.get_optimization_defaults())
    case = Potential(name, 4, 168)
    (result,) = models.measure(case, models.WAYS, "float32", 1e-4, True, steps.append)
    assert list(result.times) == steps[:2] == [OURS, models.BEFORE]
    assert (torch.get_default_dtype(), e3nn.get_optimization_defaults()) == state


def test_a_warning_goes_to_stderr_at_the_beginning_and_at_the_end_and_stays_with_the_results(
    few, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(load, "before", lambda: "busy")
    file = tmp_path / "raw.json"
    assert main(["bench", "--json", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: busy\n" * 2
    assert "busy" not in captured.out
    assert json.loads(file.read_text())["warning"] == "busy"
    assert main(["bench", "--from-json", str(file)]) == 0
    assert capsys.readouterr().err == "warning: busy\n"


def test_a_plot_that_cannot_be_written_is_one_error_before_anything_is_timed(few, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr(command, "_measure", None)
    assert main(["bench", "--plot", "plot.txt"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        r"error: matplotlib cannot write 'plot.txt': its name must end in one of .*png.*\n", captured.err
    )


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
