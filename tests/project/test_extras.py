"""Messages say how to install what is missing, and the command works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparseacc

ROOT = Path(sparseacc.__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a clone")
def test_commands_name_extras_that_there_are_and_take_them_from_a_clone():
    """No index has the package: 'sparseacc[torch]' would not be found there."""
    project = (ROOT / "pyproject.toml").read_text()
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) =", section, re.M))
    files = [*ROOT.glob("sparseacc/**/*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r"""how_to_install\(["'](\w+)""", text)) | set(
        re.findall(r"""pip install -e ["']\.\[(\w+)""", text)
    )
    assert {"bench", "cuda12", "examples"} <= named <= extras
    assert re.findall("pip install ['\"]?sparseacc", text) == []


@pytest.mark.parametrize("missing", ["torch", "jax", "dask"])
def test_help_and_hasattr_work_without_a_framework(missing):
    """What is missing is said where it is used, by either way of asking for it."""
    code = f"""
import inspect, pydoc, sys
sys.modules["{missing}"] = None
import pytest

import sparseacc
assert not hasattr(sparseacc, "{missing}")
inspect.getmembers(sparseacc)
assert "accumulate" in pydoc.render_doc(sparseacc)
for statement in ("sparseacc.{missing}", "from sparseacc import {missing}"):
    try:
        exec(statement)
    except (AttributeError, ImportError) as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"sparseacc.{missing} needs ") for line in lines)
