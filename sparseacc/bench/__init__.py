"""Times what is computed here beside what a user would pick instead: ``python -m sparseacc bench``."""

from .cases import Case, all_couplings
from .command import run
from .measuring import Result
from .plot import draw

__all__ = ["Case", "Result", "all_couplings", "draw", "run"]
