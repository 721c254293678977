"""The CPU half: runs operations on NumPy arrays, and writes them as C for programs without Python."""

from ._kernel import ffi, lib
from .embedding import Source, source
from .execution import execute, product, vjp

__all__ = [
    "Source",
    "execute",
    "instruction_set",
    "instruction_sets",
    "product",
    "set_instruction_set",
    "source",
    "vjp",
]

_NAMES: list[str] = [
    ffi.string(lib.sa_instruction_set_name(isa)).decode() for isa in range(lib.sa_best_instruction_set() + 1)
]


def instruction_set() -> str:
    """The instruction set that kernels use: "baseline" (SSE2, NEON), "avx2" or "avx512".

    Examples
    --------
    >>> sparseacc.cpu.instruction_set() in sparseacc.cpu.instruction_sets()
    True
    """
    return _NAMES[int(lib.sa_get_instruction_set())]


def instruction_sets() -> tuple[str, ...]:
    """Those that this machine has, the best last."""
    return tuple(_NAMES)


def set_instruction_set(name: str) -> None:
    """Chooses another of `instruction_sets()`, for measurements and tests. Results differ in the last bits.

    Raises
    ------
    ValueError
        If this machine does not have it.
    """
    if name not in instruction_sets():
        raise ValueError(f"instruction set {name!r} is not one of this machine's: {', '.join(instruction_sets())}")
    lib.sa_set_instruction_set(_NAMES.index(name))
