"""Messages say how to install what is missing, and the command works."""

import re
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
