"""How the C is compiled: how much at once, what again, and what is said when it cannot be."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import sparseacc

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
ROOT = Path(__file__).parents[2]
if not (ROOT / "setup.py").exists():
    pytest.skip("needs a checkout", allow_module_level=True)
pytest.importorskip("setuptools", minversion="77")


def run(code, folder=ROOT, **environment):
    """In a process of its own, as setuptools replaces distutils for all that follows."""
    code = f"import warnings\nwarnings.simplefilter('ignore')\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def value(expression, **environment):
    """Of an expression of setup.py's names."""
    code = "import json, runpy\nfrom pathlib import Path\nsetup = runpy.run_path('setup.py')\n"
    done = run(f"{code}print(json.dumps(eval({expression!r}, setup)))", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def machine(folder, available, groups, limits):
    """A /proc and /sys that tell so many bytes available, these control groups, and their limits and use."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {available // 1024} kB\n")
    (folder / "proc/self/cgroup").write_text(groups)
    for path, (names, limit, used, files) in limits.items():
        group = folder / "sys/fs/cgroup" / path
        group.mkdir(parents=True, exist_ok=True)
        for name, text in zip(names, (limit, used), strict=True):
            (group / name).write_text(f"{text}\n")
        (group / "memory.stat").write_text(f"anon 5\nactive_file {files}\ninactive_file 0\n")


V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/\n", {}, 2**33),
        ("0::/\n", {"": (V2, "max", 2**30, 0)}, 2**33),
        ("0::/a/b\n", {"a/b": (V2, "max", 2**30, 0), "a": (V2, 2**32, 2**31, 2**30)}, 3 * 2**30),
        ("4:cpu,memory:/a\n1:name=systemd:/\n", {"memory/a": (V1, 2**31, 2**30, 0)}, 2**30),
        ("4:memory:/not/here\n", {"memory": (V1, 2**32, 2**30, 0)}, 3 * 2**30),
    ],
)
def test_the_memory_that_a_build_may_use_is_what_the_system_and_every_control_group_leave(
    tmp_path, groups, limits, expected
):
    machine(tmp_path, 2**33, groups, limits)
    assert value(f"memory(__import__('pathlib').Path({str(tmp_path)!r}))") == expected
    assert value("memory(__import__('pathlib').Path('/nowhere'))") == float("inf")


def test_as_many_compilers_run_at_once_as_memory_and_cores_are_for_unless_a_variable_says_how_many():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert value("jobs(3.0e9)", SPARSEACC_BUILD_JOBS="") == min(cores, 2)
    assert value("jobs(1.0e9)", SPARSEACC_BUILD_JOBS="") == 1
    assert value("jobs(float('inf'))", SPARSEACC_BUILD_JOBS="") == cores
    assert value("jobs(0)", SPARSEACC_BUILD_JOBS="7") == 7
    for wrong in ("0", "-1", "two"):
        done = run("import runpy\nrunpy.run_path('setup.py')['jobs'](0)", SPARSEACC_BUILD_JOBS=wrong)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: SPARSEACC_BUILD_JOBS is {wrong!r}")
        assert "Traceback" not in done.stderr


SMALL = """
import runpy, sys
from setuptools import Extension, setup
Build = runpy.run_path({setup!r})["Build"]
extension = Extension("small", ["one.c", "two.c"], depends=["small.h"], extra_compile_args=sys.argv.pop().split())
setup(name="small", ext_modules=[extension], cmdclass={{"build_ext": Build}})
"""
MODULE = """
#include <Python.h>
static struct PyModuleDef small = {PyModuleDef_HEAD_INIT, "small", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_small(void) { return PyModule_Create(&small); }
"""


def small(folder, *command, flags="", code="int two;", **environment):
    """Builds an extension of two files by setup.py's command; returns what it says, of the files that it compiles."""
    folder.mkdir(exist_ok=True)
    for name, text in (("one.c", MODULE), ("two.c", code), ("small.h", ""), ("build_it.py", SMALL)):
        path = folder / name
        text = text.format(setup=str(ROOT / "setup.py")) if name == "build_it.py" else text
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "build_it.py", *command, flags],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def compiled(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(re.findall(r"\d+ of \d+: (\w+)\.c in", done.stdout + done.stderr))


def later(path):
    os.utime(path, ns=(path.stat().st_mtime_ns + 10**10,) * 2)


def test_only_what_changed_is_compiled_again_and_each_file_is_said(tmp_path):
    build = ("build_ext", "--inplace")
    empty = tmp_path / "include"
    (empty / "python").mkdir(parents=True)
    assert compiled(small(tmp_path, *build)) == ["one", "two"]
    assert compiled(small(tmp_path, *build)) == []
    assert compiled(small(tmp_path, *build, flags="-DOTHER")) == ["one", "two"]
    assert compiled(small(tmp_path, *build)) == []
    assert compiled(small(tmp_path, *build, f"--include-dirs={empty}")) == []  # as every virtual environment has one
    later(tmp_path / "one.c")
    assert compiled(small(tmp_path, *build)) == ["one"]
    later(tmp_path / "small.h")
    assert "two" in compiled(small(tmp_path, *build))


def test_a_second_editable_installation_compiles_nothing(tmp_path):
    """pip gives each a directory of its own for what is compiled, and deletes it."""
    for number, expected in enumerate((["one", "two"], [])):
        done = small(tmp_path, "editable_wheel", "--dist-dir", str(tmp_path / f"wheel{number}"))
        assert compiled(done) == expected


def test_without_a_compiler_one_message_says_what_to_install(tmp_path):
    done = small(tmp_path, "build_ext", CC="no-such-compiler -m64")
    assert done.returncode == 1
    assert "that needs a C compiler ('no-such-compiler' is not there)" in done.stderr
    assert "apt install gcc python3-dev" in done.stderr
    assert "Traceback" not in done.stderr
    code = "import runpy, pathlib\nrunpy.run_path('setup.py')['check_tools']('sh', pathlib.Path('/nowhere/Python.h'))"
    done = run(code)
    assert done.returncode == 1
    assert "Python's headers (/nowhere/Python.h is not there)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_compiler_that_fails_is_one_message_with_its_own_above(tmp_path):
    done = small(tmp_path, "build_ext", code="#error a fault")
    assert done.returncode == 1
    assert "a fault" in done.stderr
    assert "SPARSEACC_BUILD_JOBS=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("build/temp*/*/two.o"))


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
@pytest.mark.parametrize(("isa", "bits"), [("baseline", 64), (sparseacc.cpu.instruction_sets()[-1], 32)])
def test_every_header_includes_what_it_needs(isa, bits, tmp_path):
    (tmp_path / "straight_bodies.h").write_text("#define EACH_STRAIGHT(EACH)\n")
    (tmp_path / "path_bodies.h").write_text("#define EACH_STRAIGHT_PATH(EACH)\n")
    names = [p.name for p in (ROOT / "sparseacc/cpu/native").glob("*.h") if not p.name.startswith(("isa_", "lanes"))]
    assert len(names) > 20
    for name in [f"isa_{isa}.h", *names]:  # an isa_*.h needs lanes.h, and says how long its vectors are before
        (tmp_path / f"{name}.c").write_text(f'#include "{name}"\n#ifdef SA_ISA_END\nSA_ISA_END\n#endif\n')
    done = subprocess.run(
        [COMPILER, "-std=gnu11", "-fsyntax-only", "-Werror", f"-DSA_ISA={isa}", f"-DSA_REAL_BITS={bits}", "-I.",
         f"-I{ROOT}/sparseacc/cpu/native", *sorted(p.name for p in tmp_path.glob("*.c"))],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("free_threaded", [False, True])
def test_a_free_threaded_python_gets_a_wheel_of_its_own(free_threaded):
    done = run(
        "import json, runpy, sysconfig\n"
        "from setuptools import Distribution\n"
        f"sysconfig.get_config_vars()['Py_GIL_DISABLED'] = {int(free_threaded)}\n"
        "distribution = Distribution({'cmdclass': {'bdist_wheel': runpy.run_path('setup.py')['Wheel']}})\n"
        "distribution.parse_config_files(['setup.cfg'])\n"
        "distribution.has_ext_modules = lambda: True\n"
        "command = distribution.get_command_obj('bdist_wheel')\n"
        "command.ensure_finalized()\n"
        "print(json.dumps(command.py_limited_api))"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == (False if free_threaded else "cp310")


def test_a_source_distribution_is_the_same_bytes_whenever_the_date_is(tmp_path):
    archives = []
    for number in range(2):
        folder = tmp_path / str(number)
        (folder / "small-1").mkdir(parents=True)
        for name in ("b", "a")[:: 1 - 2 * number]:
            path = folder / "small-1" / name
            path.write_text(name)
            os.utime(path, (10**9 + number,) * 2)
            path.chmod(0o600 | 0o044 * number)
        done = run(
            f"import runpy, setuptools\ncommand = runpy.run_path({str(ROOT / 'setup.py')!r})['SourceDistribution']\n"
            "command(setuptools.Distribution()).make_archive('small-1', 'gztar', base_dir='small-1')",
            folder,
            SOURCE_DATE_EPOCH="1000000000",
        )
        assert done.returncode == 0, done.stderr
        archives.append(folder / "small-1.tar.gz")
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:
        assert [member.name for member in archive] == ["small-1", "small-1/a", "small-1/b"]
