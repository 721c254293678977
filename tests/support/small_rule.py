"""A small rule, by its arguments, and arrays for it."""

import numpy as np

from sparseacc import Rule

GOOD = {"m1": [0, 1], "m2": [0, 0], "mu": [1, 0], "C": [1.0, 2.0], "shape": (2, 3, 2)}
RULE = Rule(**GOOD)
X1, X2, DY = np.ones((4, 2)), np.ones((4, 3)), np.ones((4, 2))
