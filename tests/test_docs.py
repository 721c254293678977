"""What the pages say can be done, can be done: their examples run, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

import sparseacc

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]) if path.name != "CHANGELOG.md"]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not in a clone")


EXAMPLES = [
    pytest.param(block, id=f"{name}-{number}")
    for path, name in zip(PAGES, NAMES, strict=True)
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs_by_itself(code):
    if "import cupy" in code and not has_device():
        pytest.skip("there is no CUDA device")
    if "torch" in code:
        pytest.importorskip("torch", reason="torch is not installed")
    exec(compile(code, "example", "exec"), {})


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


def test_a_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall("^version: (.*)$", text, re.M) == [sparseacc.__version__]
