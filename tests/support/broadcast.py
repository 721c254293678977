"""A rule, and batches of x1 and x2 that broadcast."""

import sparseacc

RULE = sparseacc.clebsch_gordan(1, 2, 2)
BATCHES = [((4,), (4,)), ((4,), (1,)), ((), (4,)), ((3, 1), (4,)), ((3, 1), (1, 4))]
