"""Rules of whole tensor products, as models have them: every coupling a path with rows of its own."""

import numpy as np

import sparseacc


def uvu(first, second, most):
    """Of degrees of both operands, with parity (-1)**l: all couplings to degrees up to `most`."""
    begins = [np.append(0, np.cumsum([2 * l + 1 for l in degrees])) for degrees in (first, second)]  # noqa: E741
    columns, rows, paths = [], 0, 0
    for i, l1 in enumerate(first):
        for j, l2 in enumerate(second):
            for l3 in range(abs(l1 - l2), min(l1 + l2, most) + 1, 2):
                rule = sparseacc.clebsch_gordan(l1, l2, l3)
                path = np.full(rule.nnz, paths)
                columns.append((rule.m1 + begins[0][i], rule.m2 + begins[1][j], rule.mu + rows, rule.C, path))
                rows, paths = rows + 2 * l3 + 1, paths + 1
    *terms, path = map(np.concatenate, zip(*columns))
    return sparseacc.Rule(*terms, (begins[0][-1], begins[1][-1], rows), path=path, num_paths=paths)
