"""Times the product beside what a user would pick instead: ``python -m sparseacc bench``."""

from .measuring import Result, run

__all__ = ["Result", "run"]
