"""A rule of two paths, and shapes of x1, x2 and weights that broadcast."""

import numpy as np

import sparseacc

_one = sparseacc.clebsch_gordan(1, 1, 1)
RULE = sparseacc.Rule(
    np.append(_one.m1, [0, 1]),
    np.append(_one.m2, [0, 1]),
    np.append(_one.mu, [3, 3]),
    np.append(_one.C, [0.5, 2]),
    (3, 3, 4),
    path=[*[0] * _one.nnz, 1, 1],
)
SHAPES = [
    ((5, 3), (5, 3), (5, 2)),
    ((5, 3), (3,), (2,)),
    ((4, 1, 3), (5, 3), (5, 2)),
    ((3,), (1, 3), (4, 5, 2)),
]
