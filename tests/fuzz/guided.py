"""Fuzzes the public API guided by coverage of the package's Python: `python tests/fuzz/guided.py --seconds 60`.

Needs atheris (pip install atheris). Choices are bytes (choices.py), which libFuzzer makes up; those that reach what
none did before are kept in corpus.txt, a line of hexadecimal digits each, which the test suite runs. Other arguments
are libFuzzer's own.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
CORPUS = Path(__file__).with_name("corpus.txt")


def keep(seconds):
    """Runs from what is kept, and keeps what is found."""
    with tempfile.TemporaryDirectory() as work:
        found = Path(work, "found")
        found.mkdir()
        for n, line in enumerate(CORPUS.read_text().split()):
            (found / str(n)).write_bytes(bytes.fromhex(line))
        options = [f"-max_total_time={seconds}", "-max_len=120", "-reduce_inputs=1", f"-artifact_prefix={work}/"]
        failed = subprocess.run([sys.executable, __file__, str(found), *options], check=False).returncode
        for path in Path(work).glob("crash-*"):
            print("a call that fails:", path.read_bytes().hex())
        lines = sorted({path.read_bytes().hex() for path in found.iterdir()} - {""}, key=lambda line: (len(line), line))
        CORPUS.write_text("\n".join(lines) + "\n")
    sys.exit(failed)


def run(arguments):
    """Runs libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["sparseacc"], enable_loader_override=False):
        import sparseacc  # noqa: F401
    from choices import BytesOfChoices
    from fuzzing import fuzz

    def one(data):
        fuzz(BytesOfChoices(data))

    warnings.simplefilter("error")
    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seconds"]:
        keep(int(sys.argv[2]))
    else:
        run(sys.argv[1:])
