"""Everything is declared in pyproject.toml but how the C is compiled and packed."""

import gzip
import hashlib
import logging
import os
import re
import shutil
import sys
import sysconfig
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError, LinkError

COMPILER = 1.4e9
"""Bytes that one compiler takes, at most: gcc for all the straight-line code of one instruction set."""
JOBS = "SPARSEACC_BUILD_JOBS"


def memory(root: Path = Path("/")) -> float:
    """Bytes that may be used: what the system can spare, and what each control group of this process leaves."""
    least = float("inf")
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return least
    if found:
        least = int(found[1]) * 1024
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, used = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for place in (group, *group.parents):
            try:
                statistics = dict(row.split() for row in (place / "memory.stat").read_text().splitlines())
                files = sum(int(statistics.get(kind, 0)) for kind in ("active_file", "inactive_file"))
                left = int((place / limit).read_text()) - int((place / used).read_text()) + files
            except (OSError, ValueError):  # no such group here, or "max"
                continue
            least = min(least, left)
    return least


def jobs(available: float) -> int:
    """How many compilers run at once, with so much memory."""
    asked = os.environ.get(JOBS)
    if asked:
        if not asked.isdecimal() or int(asked) == 0:
            raise SystemExit(f"error: {JOBS} is {asked!r}, but it says how many compilers run at once: 1 or more")
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(cores, available // COMPILER)))


def check_tools(compiler: str, header: Path) -> None:
    """Ends the build with one message if it cannot begin."""
    missing = []
    if not shutil.which(compiler):
        missing.append(f"a C compiler ({compiler!r} is not there)")
    if not header.exists():
        missing.append(f"Python's headers ({header} is not there)")
    if missing:
        raise SystemExit(
            f"error: sparseacc is compiled when it is installed, and that needs {' and '.join(missing)}.\n"
            "    Debian, Ubuntu:  apt install gcc python3-dev\n"
            "    Fedora:          dnf install gcc python3-devel\n"
            "    macOS:           xcode-select --install\n"
            "The variable CC names another compiler (gcc or clang)."
        )


class Build(build_ext):
    """Compiles many files at once, and only those that have changed, whichever command asks for it."""

    def finalize_options(self) -> None:
        """Keeps what is compiled for the next command."""
        super().finalize_options()
        if self.editable_mode:  # pip deletes the directory that it gives
            self.build_temp = os.path.join("build", f"temp.{self.plat_name}-{sys.implementation.cache_tag}")

    def build_extensions(self) -> None:
        """Ends in one message where that cannot be."""
        check_tools(self.compiler.compiler_so[0], Path(sysconfig.get_path("include"), "Python.h"))
        self._compile_one = self.compiler.compile
        self.compiler.compile = self._compile
        self.force = True  # there is no telling how what is there was built, but objects are kept with their command
        try:
            super().build_extensions()
        except (CompileError, LinkError) as error:
            raise SystemExit(
                f"error: {error}\nThe compiler's message is above. If it was killed, it found too little memory: "
                f"{JOBS}=1 runs one at a time."
            ) from None

    def _compile(self, sources, output_dir, depends, **how):
        # Each virtual environment has a folder for headers, without a file in it: they share what is compiled.
        headers = [path for path in self.compiler.include_dirs if any(files for _, _, files in os.walk(path))]
        command = repr((self.compiler.compiler_so, self.compiler.macros, headers, how))
        place = os.path.join(output_dir, hashlib.sha256(command.encode()).hexdigest()[:16])
        objects = self.compiler.object_filenames(sources, output_dir=place)
        newest = max((os.stat(path).st_mtime for path in depends), default=0)

        def old(source: str, path: str) -> bool:
            return not os.path.exists(path) or os.stat(path).st_mtime <= max(newest, os.stat(source).st_mtime)

        def compile_one(source: str, path: str) -> float:
            begin = time.monotonic()
            (partial,) = self._compile_one([source], output_dir=os.path.join(place, "partial"), depends=depends, **how)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(partial, path)
            return time.monotonic() - begin

        todo = {source: path for source, path in zip(sources, objects, strict=True) if old(source, path)}
        most = jobs(memory())
        if todo:
            self.announce(f"compiling {len(todo)} of {len(sources)} files, {most} at a time ({JOBS})", logging.INFO)
        with ThreadPoolExecutor(most) as pool:
            running = {pool.submit(compile_one, *each): each[0] for each in todo.items()}
            try:
                for i, future in enumerate(as_completed(running), 1):
                    self.announce(f"{i} of {len(todo)}: {running[future]} in {future.result():.1f} s", logging.INFO)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return objects


class SourceDistribution(sdist):
    """The same bytes whenever SOURCE_DATE_EPOCH is the same, as for a wheel."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):  # noqa: A002
        """Packs a folder, its files in the order of their names."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, **owner)

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(epoch)
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            return member

        name = f"{base_name}.tar.gz"
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            archive.add(base_dir, filter=plain)
        return name


class Wheel(bdist_wheel):
    """The one for every CPython that setup.cfg asks for, but where Python is free-threaded: that needs its own."""

    def finalize_options(self) -> None:
        """Decides it before anything else does."""
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            self.py_limited_api = False
        super().finalize_options()


if __name__ == "__main__":
    setup(
        cffi_modules=["sparseacc/cpu/build.py:ffibuilder"],
        cmdclass={"build_ext": Build, "sdist": SourceDistribution, "bdist_wheel": Wheel},
    )
