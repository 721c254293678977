"""The rule that rotates: packed Wigner matrices times features."""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np

from .checks import checked_degree
from .rule import Rule


def wigner_rotation(lmax: SupportsIndex, mmax: SupportsIndex | None = None) -> Rule:
    """The rule that applies packed Wigner matrices to features of degrees 0..lmax, as eSCN [1]_ does edge by edge.

    ``rule(x, D)`` is the product of the block-diagonal matrix D with x, without the zeros between the blocks. The
    transposed rule multiplies by the transpose of D, which rotates back.

    Parameters
    ----------
    lmax : int
        The largest degree, not negative.
    mmax : int, optional
        The largest order ``|m|`` of a component that is kept in the result, 0..lmax; by default all are.

    Returns
    -------
    Rule
        ``n1 = (lmax + 1)**2``: x1 are the features, degree after degree, in each m = -l..l.
        ``n2 = (lmax + 1) * (2 * lmax + 1) * (2 * lmax + 3) / 3``: x2 are the matrices, degree after degree, each
        (2 l + 1, 2 l + 1), row-major, where rows are components of the result; the same for any mmax.
        ``n_out``: the rotated features in the order of x1, without those of ``|m|`` > mmax, as
        fairchem masks its matrices. All coefficients are 1 and all terms are of one path.

    Raises
    ------
    TypeError
        If lmax or mmax is not an integer.
    ValueError
        If one is negative, or mmax is larger than lmax.

    References
    ----------
    .. [1] S. Passaro, C. L. Zitnick, Reducing SO(3) Convolutions to SO(2) for Efficient Equivariant GNNs, ICML 2023.

    Examples
    --------
    A scalar, and a vector that is rotated by 90 degrees about z, so that (y, z, x) becomes (x, z, -y):

    >>> rotation = sparseacc.wigner_rotation(1)
    >>> D = np.concatenate([[1.0], np.ravel([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])])
    >>> x = np.array([5.0, 1.0, 2.0, 3.0])
    >>> rotation(x, D)
    array([ 5.,  3.,  2., -1.])
    >>> rotation.transpose((2, 1, 0))(rotation(x, D), D)
    array([5., 1., 2., 3.])

    Only the components of order 0 of the result:

    >>> sparseacc.wigner_rotation(1, mmax=0)(x, D)
    array([5., 2.])
    """
    last = checked_degree(lmax, "lmax")
    most = last if mmax is None else checked_degree(mmax, "mmax")
    if most > last:
        raise ValueError(f"mmax is {most}, but there are no orders above lmax = {last}")
    columns = []
    matrix = kept = 0
    for degree in range(last + 1):
        n, order = 2 * degree + 1, min(degree, most)
        row, column = (i.ravel() for i in np.indices((2 * order + 1, n)))
        columns.append((degree**2 + column, matrix + (degree - order + row) * n + column, kept + row))
        matrix += n * n
        kept += 2 * order + 1
    m1, m2, mu = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return Rule(m1, m2, mu, np.ones(len(mu)), ((last + 1) ** 2, matrix, kept))
