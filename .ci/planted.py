"""Plants bugs, one at a time, in a copy of the checkout, and says what finds each: `python .ci/planted.py [N ...]`.
With --check it only says whether all of them can be planted.

A bug is a file, what stands there, what takes its place, and the tests that have to fail. The copy is built without
straight-line code and with few optimisations; bugs of threads are looked for under ThreadSanitizer. CI only checks: the
rest is for whoever changes tests, and takes the better part of an hour.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from planted_bugs import BUGS

ROOT = Path(__file__).parents[1]
COPIED = ("conftest.py", "pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE", "sparseacc", "tests")


class Kind(NamedTuple):
    """How the kernel is compiled for a bug, and what its tests need to run."""

    build: dict[str, str]
    run: dict[str, str]


def kinds() -> dict[str, Kind]:
    """The plain build, and that for races."""
    library = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True).stdout
    races = {"LD_PRELOAD": library.strip(), "TSAN_OPTIONS": "halt_on_error=1", "SPARSEACC_NUM_THREADS": "3"}
    return {
        "plain": Kind({"SPARSEACC_STRAIGHT": "0"}, {}),
        "thread": Kind({"SPARSEACC_SANITIZE": "thread"}, races),
    }


def run(folder: Path, command: list[str], **environment: str) -> tuple[int, str]:
    """Runs Python there; returns its status and the end of what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout[-20_000:]


def build(folder: Path, kind: Kind) -> None:
    """Compiles what has changed."""
    status, said = run(folder, ["setup.py", "-q", "build_ext", "--inplace"], **kind.build)
    if status:
        sys.exit(said)


def found_by(folder: Path, kind: Kind, tests: str) -> str:
    """The first test that fails; nothing if none does."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
    status, said = run(folder, ["-m", "pytest", *options, *tests.split()], **kind.run)
    if status == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) \S+/([\w.]+)::(\w+)", said, re.MULTILINE)
    if failed:
        return f"{failed[1]}: {failed[2]}"
    return "ThreadSanitizer: data race" if "data race" in said else f"the process ended with {status}"


def main() -> None:
    """Prints a row for each bug, and ends with 1 if one was not found."""
    for n, bug in enumerate(BUGS, 1):
        if (count := (ROOT / "sparseacc" / bug.file).read_text().count(bug.old)) != 1:
            sys.exit(f"bug {n}: {bug.file} has {bug.old!r} {count} times")
    if sys.argv[1:] == ["--check"]:
        return
    chosen = [int(n) for n in sys.argv[1:]] or range(1, len(BUGS) + 1)
    work, missed = Path(tempfile.mkdtemp(prefix="planted")), []
    folders: dict[str, Path] = {}
    for name, kind in kinds().items():
        if not any(BUGS[n - 1].kind == name for n in chosen):
            continue
        folders[name] = work / name
        folders[name].mkdir()
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folders[name] / part)
        how = folders[name] / "sparseacc/cpu/build.py"
        how.write_text(how.read_text().replace('"-O3"', '"-O1"'))
        build(folders[name], kind)
    for n in chosen:
        bug, folder, kind = BUGS[n - 1], folders[BUGS[n - 1].kind], kinds()[BUGS[n - 1].kind]
        path = folder / "sparseacc" / bug.file
        text = path.read_text()
        path.write_text(text.replace(bug.old, bug.new))
        (extension,) = (folder / "sparseacc/cpu").glob("_kernel*.so")
        built = extension.read_bytes()
        if path.suffix != ".py":
            build(folder, kind)
        by = found_by(folder, kind, bug.tests)
        path.write_text(text)
        extension.unlink()  # it may still be mapped
        extension.write_bytes(built)
        print(f"| {n} | {bug.what} | `{bug.file}` | {by or '**not found**'} |", flush=True)
        if not by:
            missed.append(n)
    shutil.rmtree(work)
    print(f"{len(chosen)} planted, {len(chosen) - len(missed)} found, not found: {missed}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
