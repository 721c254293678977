"""Times the product beside what a user would pick instead: ``python -m sparseacc bench``."""

from .cases import Case, all_couplings
from .measuring import Result, run

__all__ = ["Case", "Result", "all_couplings", "run"]
