"""The examples of docs/distributed.md run, each in processes of its own, as its first line says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "distributed.md"
LIBRARIES = ("dask", "distributed", "zarr", "jax", "mpi4py", "torch")
OPEN_MPI = {  # else it refuses root, and more ranks than cores
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not in a clone")

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S) if PAGE.exists() else []


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs_as_its_first_line_says(code, tmp_path):
    for library in LIBRARIES:
        if re.search(rf"^ *(import|from) {library}\b", code, re.M):
            pytest.importorskip(library, reason=f"{library} is not installed", exc_type=ImportError)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    command = code.splitlines()[0].removeprefix("# ").split()
    command = [sys.executable if word == "python" else word for word in command]
    if command[0] == "mpiexec":
        beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        command[0] = shutil.which("mpiexec", path=beside) or pytest.skip("there is no mpiexec")
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | OPEN_MPI | {"PYTHONPATH": path}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def test_there_is_an_example_of_each_library():
    text = "".join(EXAMPLES)
    assert [name for name in LIBRARIES if not re.search(rf"(import|from) {name}\b", text)] == []
