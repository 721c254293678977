"""What the pages say is so: their examples run, their links lead somewhere, their tables are those of the results."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparseacc

ROOT = Path(__file__).parents[2]
PAGES = [path for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]) if path.name != "CHANGELOG.md"]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not in a clone")


def examples(path):
    """The programs of a page, and what they print if the page shows it after them; those of the tutorial are one, which
    is read from top to bottom.
    """
    block = r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?"
    blocks = re.findall(block, path.read_text(encoding="utf-8"), re.M | re.S)
    return [("\n".join(code for code, _ in blocks), "")] if path.name == "tutorial.md" else blocks


EXAMPLES = [
    pytest.param(*program, id=f"{name}-{number}")
    for path, name in zip(PAGES, NAMES, strict=True)
    if path.name != "distributed.md"  # whose examples run in processes of their own: test_distributed.py
    for number, program in enumerate(examples(path))
]


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_an_example_runs_by_itself_and_prints_what_the_page_shows(code, printed, capsys):
    if "import cupy" in code and not has_device():
        pytest.skip("there is no CUDA device")
    for library in ("torch", "e3nn", "jax", "e3nn_jax", "sphericart"):
        if re.search(rf"(import|from) .*\b{library}\b", code):
            pytest.importorskip(library, reason=f"{library} is not installed")
    exec(compile(code, "example", "exec"), {})
    assert capsys.readouterr().out == printed or not printed


def has_device():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def anchors(text):
    """The names that a host of Markdown gives to headings."""
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert ROOT in target.parents, link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


NOT_DESCRIBED = {("", "cpu"), ("cpu", "execute"), ("cpu", "product"), ("cpu", "vjp")}
"""A module, and what it has for the rest of the package."""


def public_names():
    """Those of the package and of its parts that users import by name."""
    for module in ("", "torch", "jax", "dask", "cpu", "cuda"):
        path = ROOT / "sparseacc" / f"{module}.py" if module == "dask" else ROOT / "sparseacc" / module / "__init__.py"
        (listed,) = re.findall(r"^__all__ = (\[.*?\])$", path.read_text(encoding="utf-8"), re.M | re.S)
        for name in ast.literal_eval(listed):
            if (module, name) not in NOT_DESCRIBED:
                yield ".".join(["sparseacc", *([module] if module else []), name])


def test_the_reference_has_every_public_name():
    described = set()
    for path in (ROOT / "docs" / "reference").glob("*.md"):
        module = ""
        for directive, name in re.findall(r"^\.\. (currentmodule|auto\w+):: (\S+)$", path.read_text("utf-8"), re.M):
            if directive == "currentmodule":
                module = name
            else:
                described.add(name if name.startswith("sparseacc.") else f"{module}.{name}")
    assert set(public_names()) - described == set()


FILES = re.compile(r"`([\w*/]+\.(?:c|cu|cuh|h|py|sh|md))`")
PAGES_OF_FILES = [path for path in PAGES if path.name in ("CONTRIBUTING.md", "architecture.md", "kernel.md")]


@pytest.mark.parametrize("path", PAGES_OF_FILES, ids=lambda path: path.name)
def test_files_that_a_page_names_are_there(path):
    named = set(FILES.findall(path.read_text(encoding="utf-8")))
    folders = [ROOT / name for name in ("sparseacc", "tests", "docs", "benchmarks")]
    missing = [name for name in sorted(named) if not any(ROOT.glob(name))]
    assert [name for name in missing if not any(any(folder.rglob(name)) for folder in folders)] == []


def test_a_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall("^version: (.*)$", text, re.M) == [sparseacc.__version__]


def script(name, *arguments, folder=ROOT):
    command = [sys.executable, str(folder / "benchmarks" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_tables_are_what_the_report_makes_of_the_results():
    run = script("report.py", "--check")
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_table_can_be_made_of_what_the_benchmark_measures(tmp_path):
    """The page has the figures that it was made of, and does not change when it is made again."""
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks" / "report.py", results.parent)
    few = ["--rows", 256, "--repeats", 1, "--degrees", 1, "--all-couplings", "--dtypes", "float32", "--threads", 1]
    run = script("product.py", *few, "--json", results / "few.json")
    assert run.returncode == 0, run.stderr
    tables = ("machine few.json", "summary few.json 1", "limits few.json 1", "times few.json 1", "row few.json")
    page.write_text("".join(f"<!-- table: {table} -->\n<!-- end -->\n" for table in tables))
    assert script("report.py", "--check", folder=tmp_path).returncode == 1
    assert script("report.py", folder=tmp_path).stdout == "wrote docs/page.md\n"
    assert script("report.py", "--check", folder=tmp_path).returncode == 0
    text = page.read_text()
    assert len(re.findall(r"^\| l = 1 (\| [\d.,]+ / [\d.,]+ / [\d.,]+ ){3}\|$", text, re.M)) == 2
    assert f"sparseacc {sparseacc.__version__}" in text
    assert sparseacc.cpu.instruction_set() in text
