"""What to install where something optional is missing: one place, as the way to the package may change."""

from typing import Any


def how_to_install(extra: str) -> str:
    """The command that brings an extra of pyproject.toml, for the end of a message.

    Examples
    --------
    >>> from sparseacc.extras import how_to_install
    >>> how_to_install("cuda12")
    "python -m pip install -e '.[cuda12]' in a clone of sparseacc"
    """
    return f"python -m pip install -e '.[{extra}]' in a clone of sparseacc"


def pyplot() -> Any:
    """The module pyplot of matplotlib.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed: the message says how to install it.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"a plot needs matplotlib: {how_to_install('bench')}", name="matplotlib") from error
    return pyplot
