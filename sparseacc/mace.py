"""The polynomial of MACE's symmetric contraction, and how its weights become those of our paths. Nothing of MACE is
imported.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .calls.arrays import Array
from .contractions import SymmetricContraction, check_channels, contraction_of
from .irreps import Segment, as_segments
from .symmetric_powers import Chain, Powers

_EXACT = 1e-10
_SINGLE = 1e-5
"""How far MACE's tensors may be from sums of couplings: where they are float64, and where they have been float32, whose
roundings the orders of four factors add up."""

_STRAY = 1e-13
"""Entries of the matrix below this are zeros: others are above 1e-3, but for tensors that have been float32."""


def from_mace(contraction: Any) -> tuple[SymmetricContraction, Array]:
    """The polynomial of a ``mace.modules.symmetric_contraction.SymmetricContraction``, and the matrix for its weights.

    MACE has a weight for each chain of couplings, of which many give the same polynomial or depend on others: 23, 51
    and 65 chains of degree 3 to 0e, 1o and 2e from 0e + 1o + 2e + 3o, where 8, 12 and 14 are independent. Or, with
    ``use_reduced_cg`` and cuequivariance, for each of as many independent polynomials as here, which are others.

    Parameters
    ----------
    contraction : object
        Has `irreps_in`, `irreps_out` and `contractions` as MACE's have them, and each of these `correlation` and
        buffers `U_matrix_1`, `U_matrix_2` and so on: mace-torch 0.3.16. mace is not imported.

    Returns
    -------
    polynomial : SymmetricContraction
        As `symmetric_contraction` describes it, with e3nn's signs: x is what MACE's module takes, with the last two
        axes exchanged, and the result is what it returns, after `from_channels`. Correlations may differ by output.
    matrix : ndarray of float64, shape (num_paths, num_weights)
        ``matrix @ weights`` are the weights of the polynomial, shape (elements, num_paths, channels), where weights are
        MACE's, (elements, num_weights, channels): those of each of `contractions` in their order, and of each
        `weights_max`, `weights[0]`, `weights[1]` and so on, from the largest number of factors to one, concatenated
        along axis 1.

    Raises
    ------
    TypeError
        If contraction lacks one of those attributes.
    ValueError
        If irreps_in are of several multiplicities, or a tensor has another size or is no sum of couplings.

    Notes
    -----
    The polynomial does not depend on the tensors that MACE keeps. Where these agree, to the precision of float32, with
    the chains in MACE's order, the matrix is computed from the chains themselves, and so is exact in float64 whatever
    the module's dtype. Else they are written as sums of our paths by least squares, and what is left of them may be
    1e-10, or 1e-5 where all of their numbers are float32's: then the matrix is as exact as they are.

    Examples
    --------
    >>> from types import SimpleNamespace as Like
    >>> of_0e = Like(correlation=1, U_matrix_1=np.array([[1.0], [0.0], [0.0], [0.0]]))
    >>> module = Like(irreps_in="8x0e + 8x1o", irreps_out="8x0e", contractions=[of_0e])
    >>> polynomial, matrix = sparseacc.from_mace(module)
    >>> polynomial == sparseacc.symmetric_contraction("8x0e + 8x1o", "8x0e", 1), matrix.tolist()
    (True, [[1.0]])
    """
    try:
        held = contraction.irreps_in, contraction.irreps_out
        tensors = [
            [_on_host(getattr(part, f"U_matrix_{nu}")) for nu in range(1, int(part.correlation) + 1)]
            for part in contraction.contractions
        ]
    except Exception as error:
        raise TypeError(
            "contraction must have irreps_in, irreps_out and contractions, each with correlation, U_matrix_1 and so "
            "on, as mace.modules.symmetric_contraction.SymmetricContraction has, but is "
            f"{contraction!r} ({type(contraction).__name__}): {error}"
        ) from error
    irreps_in = as_segments(held[0], "contraction.irreps_in")
    check_channels(irreps_in, "contraction.irreps_in", None)
    irreps_out = [s._replace(mul=irreps_in[0].mul) for s in as_segments(held[1], "contraction.irreps_out")]
    degrees = list(map(len, tensors))
    if len(irreps_out) != len(tensors) or not degrees or 0 in degrees:
        raise ValueError(
            f"contraction has {len(irreps_out)} segments in irreps_out and {len(tensors)} contractions of correlation "
            f"{degrees}: there must be one for each segment, of correlation 1 or more"
        )
    polynomial = contraction_of(irreps_in, irreps_out, degrees, "e3nn")
    powers = Powers(irreps_in, "e3nn")
    blocks = [
        _matrix(polynomial, powers, out, nu, tensor, f"contraction.contractions[{out}].U_matrix_{nu}")
        for out, of_degrees in enumerate(tensors)
        for nu, tensor in reversed(list(enumerate(of_degrees, start=1)))
    ]
    return polynomial, np.concatenate(blocks, axis=1)


def _on_host(tensor: Any) -> Array:
    """A tensor of PyTorch, wherever it is, or an array."""
    array = np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)
    if array.dtype.kind != "f":
        raise TypeError(f"a tensor has the dtype {array.dtype}")
    return array


def _matrix(
    polynomial: SymmetricContraction, powers: Powers, out: int, nu: int, tensor: Array, name: str
) -> npt.NDArray[np.float64]:
    """The matrix of one of MACE's tensors, whose columns are sums of our paths, shape (num_paths, columns)."""
    segment = as_segments(polynomial.irreps_out, "irreps_out")[out]
    n, columns = powers.length, tensor.shape[-1] if tensor.ndim else 0
    if not columns or tensor.size != segment.dim * n**nu * columns:
        raise ValueError(
            f"{name} has the shape {tensor.shape}, but must have {segment.dim} * {n}**{nu} entries for each weight: "
            f"for components of {segment} and {nu} times those of {polynomial.irreps_in}"
        )
    wanted, allowed = _of_tensor(tensor.reshape(segment.dim, n**nu, columns), n, nu), _EXACT
    for natural in (False, True):
        exact = _of_chains(_chains(powers, segment, nu, natural), powers, segment.dim, nu)
        if exact.shape == wanted.shape and np.allclose(exact, wanted, rtol=0, atol=_SINGLE):
            wanted = exact
            break
    else:
        if np.array_equal(tensor, tensor.astype(np.float32)):
            allowed = _SINGLE
    paths = np.flatnonzero((polynomial.paths.out == out) & (polynomial.paths.degree == nu))
    ours = _of_paths(polynomial, paths, segment.dim, nu)
    solution = np.linalg.lstsq(ours, wanted, rcond=None)[0]
    left = np.max(abs(ours @ solution - wanted))
    if not left <= allowed:
        raise ValueError(
            f"{name} is no sum of symmetric couplings of {polynomial.irreps_in} to {segment}: its polynomials are "
            f"{left:.1e} away from one, of which rounding explains {allowed}"
        )
    matrix = np.zeros((polynomial.num_paths, columns))
    matrix[paths] = np.where(abs(solution) < _STRAY, 0, solution)
    return matrix


def _chains(powers: Powers, segment: Segment, nu: int, natural: bool) -> list[Chain]:
    """All chains to an irrep in MACE's order: its products are sorted by irrep after each factor.

    Natural ones have the parity (-1)**l after each factor but the first, as MACE's of correlation 4.
    """
    to = segment.degree, segment.parity
    found = [(chain.degrees[-1], parity, chain) for chain, parity in zip(powers.starts(), powers.parities, strict=True)]
    for number in range(2, nu + 1):
        found = [
            (l3, parity * p, powers.longer(chain, factor, l3))
            for l1, parity, chain in found
            for factor, (l2, p) in enumerate(zip(powers.degrees, powers.parities, strict=True))
            for l3 in range(abs(l1 - l2), l1 + l2 + 1)
            if (number < nu or (l3, parity * p) == to) and (not natural or parity * p == (-1) ** l3)
        ]
        found.sort(key=lambda chain: chain[:2])
    return [chain for *irrep, chain in found if tuple(irrep) == to]


def _of_tensor(tensor: Array, n: int, nu: int) -> Array:
    mu, orders, column = np.nonzero(tensor)
    m = np.stack(np.unravel_index(orders, (n,) * nu), axis=1)
    return _dense(m, mu, column, tensor[mu, orders, column], n, (len(tensor), tensor.shape[-1]))


def _of_chains(chains: Sequence[Chain], powers: Powers, dim: int, nu: int) -> Array:
    parts: list[tuple[Array, ...]] = [(np.zeros((0, nu), int), *(np.zeros(0, int) for _ in range(3)))]
    for i, chain in enumerate(chains):
        mu, of_kind = np.nonzero(chain.polynomial)
        parts.append((powers.monomials(chain.kind)[of_kind], mu, np.full(len(mu), i), chain.polynomial[mu, of_kind]))
    m, mu, column, C = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _dense(m, mu, column, C, powers.length, (dim, len(chains)))


def _of_paths(polynomial: SymmetricContraction, paths: Array, dim: int, nu: int) -> Array:
    terms, starts = polynomial.terms[nu - 1], polynomial.paths.rows_out[:, 0]
    of_these = np.isin(terms.path, paths)
    m, mu, path, C = (column[of_these] for column in terms)
    return _dense(m, mu - starts[path], np.searchsorted(paths, path), C, polynomial.shape[0], (dim, len(paths)))


def _dense(m: Array, mu: Array, column: Array, C: Array, n: int, shape: tuple[int, int]) -> Array:
    """Columns of coefficients, those of terms that differ in the order of factors alone added up.

    The result has a row for each component and monomial of n variables, and shape is the numbers of components and
    columns.
    """
    base = n ** np.arange(m.shape[1])[::-1]
    monomials = np.array(list(itertools.combinations_with_replacement(range(n), m.shape[1]))) @ base
    dense = np.zeros((shape[0], len(monomials), shape[1]))
    np.add.at(dense, (mu, np.searchsorted(monomials, np.sort(m, axis=1) @ base), column), C)
    return dense.reshape(shape[0] * len(monomials), shape[1])
