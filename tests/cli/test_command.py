"""The command: what it prints, what `info` says of the machine, and what is said where something is missing."""

import os
import platform
import subprocess
import sys
from importlib import metadata

import pytest

import sparseacc
from sparseacc import demo
from sparseacc.cpu._kernel import lib

pytest.importorskip("scipy", reason="the main job needs scipy (extra: examples)")


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_the_command_prints_a_row_for_each_layer_and_succeeds():
    result = command("-m", "sparseacc")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows if len(row) == 8 and row[7].endswith("x")] == [["1", "3", "9"], ["2", "28", "144"]]
    assert demo.SOURCE in result.stdout
    assert "22 complexes, 414 atoms, 6486 edges up to 5.0 Angstrom\n32 channels of float64: " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_info_names_versions_threads_and_the_instruction_set():
    result = command("-m", "sparseacc", "info", SPARSEACC_NUM_THREADS="3")
    assert result.returncode == 0
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    for name in ("numpy", "cffi", "scipy"):
        assert shown[name].split()[0] == metadata.version(name)
    assert shown["sparseacc"] == sparseacc.__version__
    assert shown["python"].split()[0] == platform.python_version()
    assert shown["machine"].split(",")[0] == platform.machine()
    assert shown["devices"] == "CPU"
    assert shown["instruction"].split()[1] == sparseacc.cpu.instruction_set()
    assert shown["straight-line"].split()[0] in (str(lib.sa_straights()), "left")
    assert shown["threads"] == "3 (SPARSEACC_NUM_THREADS is 3)"


def test_info_imports_no_optional_package_and_says_which_are_missing():
    code = """
import importlib.metadata, sys
def version(name, right=importlib.metadata.version):
    if name == "scipy":
        raise importlib.metadata.PackageNotFoundError(name)
    return right(name)
importlib.metadata.version = version
from sparseacc.__main__ import main
assert main(["info"]) == 0
print([name for name in ("scipy", "ml_dtypes") if name in sys.modules])
"""
    lines = command("-c", code).stdout.splitlines()
    assert "scipy            not installed (optional)" in lines
    assert lines[-1] == "[]"


def stand_in_cupy(tmp_path, text):
    """A module of that name that comes first."""
    (tmp_path / "cupy.py").write_text(text)
    return os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])


RUNTIME = """
class cuda:
    class runtime:
        class CUDARuntimeError(RuntimeError):
            pass
        @staticmethod
        def getDeviceCount():
            {}
        @staticmethod
        def getDeviceProperties(n):
            return {{"name": b"GPU %d" % n}}
"""


@pytest.mark.parametrize(
    ("cupy", "devices", "why"),
    [
        ("raise ModuleNotFoundError(__name__)", "CPU", "CuPy is not installed: python -m pip install -e '.[cuda12]'"),
        ("raise ImportError('libcuda.so\\nis missing')", "CPU", "CuPy cannot be imported: libcuda.so is missing"),
        (RUNTIME.format("raise cuda.runtime.CUDARuntimeError('no driver')"), "CPU", "CuPy says no driver"),
        (RUNTIME.format("return 0"), "CPU", "CuPy finds none"),
        (RUNTIME.format("return 2"), "CPU, GPU 0, GPU 1", None),
    ],
)
def test_info_says_why_there_is_no_device(tmp_path, cupy, devices, why):
    result = command("-m", "sparseacc", "info", PYTHONPATH=stand_in_cupy(tmp_path, cupy))
    assert result.returncode == 0, result.stderr
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert shown["devices"] == devices
    if why is None:
        assert "cuda" not in shown
    else:
        assert shown["cuda"].startswith(f"no device: {why}")


@pytest.mark.parametrize("arguments", [["info"], ["bench", "--quick"], []], ids=str)
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    """As in `python -m sparseacc info | head -1`. Here nobody reads at all."""
    reading, writing = os.pipe()
    os.close(reading)
    small = """
import sys
from sparseacc import __main__, demo
__main__.run = lambda *arguments: print("a line", flush=True)
demo.run = lambda: print("a line")
sys.exit(__main__.main(sys.argv[1:]))
"""
    result = subprocess.run(
        [sys.executable, "-c", small, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert result.stderr == ""
    assert result.returncode == 1


def test_output_that_is_closed_is_no_error():
    result = subprocess.run(
        ["sh", "-c", '"$0" -m sparseacc info >&-', sys.executable], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_version():
    result = command("-m", "sparseacc", "--version")
    assert (result.returncode, result.stdout) == (0, f"sparseacc {sparseacc.__version__}\n")


def test_dir_shows_the_public_names_and_nothing_else():
    names = [
        "Graph",
        "Polynomial",
        "Rule",
        "accumulate",
        "cache_clear",
        "cache_info",
        "clebsch_gordan",
        "cpu",
        "cuda",
        "dask",
        "from_channels",
        "from_e3nn",
        "from_mace",
        "gaunt",
        "get_include",
        "get_num_threads",
        "jax",
        "message_passing",
        "message_passing_vjp",
        "message_passing_vjp_vjp",
        "set_num_threads",
        "symmetric_contraction",
        "tensor_product",
        "to_channels",
        "torch",
        "wigner_rotation",
    ]
    code = (
        f"import sparseacc; assert dir(sparseacc) == {names}; import sparseacc.cuda; assert dir(sparseacc) == {names}"
    )
    assert command("-c", code).returncode == 0
    assert set(sparseacc.__all__) <= set(dir(sparseacc))


def test_help_names_the_commands():
    result = command("-m", "sparseacc", "--help")
    assert result.returncode == 0
    assert "info" in result.stdout
    assert "22 molecular complexes" in " ".join(result.stdout.split())


def test_an_unknown_command_is_refused():
    result = command("-m", "sparseacc", "frobnicate")
    assert result.returncode == 2
    assert "frobnicate" in result.stderr


@pytest.mark.parametrize("scipy", ["raise ModuleNotFoundError(__name__)", "class special: 'before 1.15'"])
def test_without_a_new_enough_scipy_the_job_says_what_to_install(tmp_path, scipy):
    """By a module of that name that comes first."""
    (tmp_path / "scipy.py").write_text(f"{scipy}\nimport sys\nsys.modules['scipy.special'] = special")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = command("-m", "sparseacc", PYTHONPATH=path)
    assert result.returncode == 1
    message = "error: the main job needs scipy 1.15 or newer: python -m pip install -e '.[examples]' in a clone of"
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
