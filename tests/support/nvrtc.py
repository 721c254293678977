"""NVRTC and nvdisasm where their wheels are installed; neither needs a device."""

import ctypes
import importlib.metadata
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple


def _find(pattern):
    """A file that some NVIDIA wheel has brought."""
    for distribution in importlib.metadata.distributions():
        if (distribution.metadata["Name"] or "").startswith("nvidia-"):
            for file in distribution.files or ():
                if re.fullmatch(pattern, file.name):
                    return Path(distribution.locate_file(file))
    return None


LIBRARY = _find(r"libnvrtc\.so\.\d+|nvrtc64_\d+_0\.dll")
NVDISASM = _find(r"nvdisasm(\.exe)?")


@cache
def _nvrtc():
    return ctypes.CDLL(str(LIBRARY))


def version():
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _call(name, *arguments):
    assert not getattr(_nvrtc(), name)(*arguments), name


class Compiled(NamedTuple):
    """A kernel's machine code, and what ptxas says of it."""

    cubin: bytes
    registers: int
    spilled: int
    local: int
    shared: int
    warnings: list[str]

    def instructions(self, folder):
        """The mnemonics of the machine code, in order."""
        file = Path(folder, "kernel.cubin")
        file.write_bytes(self.cubin)
        listing = subprocess.run([NVDISASM, "-c", file], check=True, capture_output=True, text=True).stdout
        return re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", listing)


def compiled(source, architecture):
    """Compiles a `sparseacc.cuda.Source` for one architecture, such as 80."""
    return _compiled(source.code, (*source.options, f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"))


@cache
def _compiled(code, options):
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), code.encode(), b"kernel.cu", 0, None, None)
    texts = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = _nvrtc().nvrtcCompileProgram(program, len(options), texts)
    log = _content(program, "ProgramLog").decode()
    assert not failed, log
    cubin = _content(program, "CUBIN")
    _call("nvrtcDestroyProgram", ctypes.byref(program))

    def number(text):
        return sum(map(int, re.findall(text, log)))

    return Compiled(
        cubin,
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes smem"),
        re.findall(r"warning.*", log),
    )


def _content(program, what):
    size = ctypes.c_size_t()
    _call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    _call(f"nvrtcGet{what}", program, content)
    return content.raw
