"""A rule, and arrays for all operands of its derivatives."""

from strategies import numbers

import sparseacc

RULE = sparseacc.clebsch_gordan(2, 1, 2)


def arrays(rng, dtype="f4", rows=50):
    """z1, z2, dy, x1, x2."""
    return [numbers(rng, (rows, n), dtype) for n in (5, 3, 5, 5, 3)]
