"""The examples run, each in a process of its own, where the package that it is about is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SMALL = ("--channels", "4", "--repeats", "2", "--steps", "2")
NEEDED = {
    "mace_md.py": ("mace", "ase"),
    "mace_training.py": ("mace", "ase"),
    "nequip_md.py": ("nequip", "ase"),
    "sevenn_md.py": ("sevenn", "ase"),
}


@pytest.mark.parametrize("name", NEEDED)
def test_an_example_runs_to_its_end(name):
    missing = [package for package in ("torch", *NEEDED[name]) if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = [sys.executable, "-W", "ignore", str(FOLDER / name), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "times as fast" in done.stdout


def test_every_example_is_run():
    assert {path.name for path in FOLDER.glob("*.py")} == {*NEEDED, "dynamics.py"}
