"""The symmetric contraction: all couplings of an array with itself, up to a degree, as a polynomial."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex

import numpy as np

from .angular import CONVENTIONS
from .calls.plans import Cache
from .checks import check_choice, checked_degree
from .irreps import Irreps, Segment, as_segments, as_text
from .polynomials import Polynomial
from .symmetric_powers import Chain, Powers
from .values import keep_what_fits


class SymmetricContraction(Polynomial):
    """A polynomial that knows its irreps: what `symmetric_contraction` and `from_mace` return.

    It is equal to any polynomial of the same terms.

    Attributes
    ----------
    irreps_in, irreps_out : str
        What x and the result hold, segment after segment, in e3nn's notation.
    channels : int
        The multiplicity of each segment: the number of channels of x, of the weights and of the result.
    paths : recarray, shape (num_paths,)
        What each path couples, in the order of the weights.
    """

    irreps_in: str
    irreps_out: str
    channels: int
    _paths: bytes

    def __init__(
        self,
        irreps_in: Sequence[Segment],
        irreps_out: Sequence[Segment],
        degrees: Sequence[int],
        convention: Literal["librascal", "e3nn"],
    ) -> None:
        powers, most = Powers(irreps_in, convention), max(degrees)
        ends = list(itertools.accumulate(segment.dim for segment in irreps_out))
        table: list[tuple[Any, ...]] = []
        columns: list[list[tuple[Any, ...]]] = [
            [(np.zeros((0, nu), int), *(np.zeros(0, int) for _ in range(2)), np.zeros(0))] for nu in range(1, most + 1)
        ]
        for out, (segment, degree, end) in enumerate(zip(irreps_out, degrees, ends, strict=True)):
            begin = end - segment.dim
            for nu in range(1, degree + 1):
                for chain in powers.chains(nu, segment.degree, segment.parity):
                    mu, of_kind = np.nonzero(chain.polynomial)
                    m = powers.monomials(chain.kind)[of_kind]
                    C = chain.polynomial[mu, of_kind]
                    columns[nu - 1].append((m, begin + mu, np.full(len(mu), len(table)), C))
                    table.append((nu, out, *segment[1:], segment.mul, (begin, end, 1), *_padded(chain, most)))
        terms = [tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True)) for blocks in columns]
        super().__init__(terms, (powers.length, ends[-1]), num_paths=len(table))  # type: ignore[arg-type]
        self.__dict__.update(
            irreps_in=as_text(irreps_in),
            irreps_out=as_text(irreps_out),
            channels=irreps_in[0].mul,
            _paths=np.array(table, _path(most)).tobytes(),
        )

    @property
    def paths(self) -> np.recarray[Any, Any]:
        """The paths in the order of the weights, shape (num_paths,): a new read-only record array in every access.

        Its fields are degree, the number of factors; out, which segment of irreps_out the path adds to; l3, parity (1
        or -1) and multiplicity of that segment; rows_out, the (start, stop, step) of its rows in the result, so that
        ``out[..., slice(*path.rows_out), :]`` are 2 l3 + 1 rows; factors, the segments of irreps_in in the order in
        which they are coupled; couplings, the degree l after each of them, of which the last is l3. factors and
        couplings are padded by -1.
        """
        return np.frombuffer(self._paths, _path(self.degree)).view(np.recarray)

    def __setstate__(self, state: Any) -> None:
        keep_what_fits(self, state, SymmetricContraction, _check_irreps)

    def _heading(self) -> str:
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"SymmetricContraction of {self.irreps_in} to {self.irreps_out}, {channels}"

    def __repr__(self) -> str:
        return (
            f"SymmetricContraction('{self.irreps_in}', '{self.irreps_out}', degree={self.degree}, "
            f"num_paths={self.num_paths}, shape={self.shape}, nnz={self.nnz}, {self._mark()})"
        )


def _check_irreps(polynomial: Polynomial, irreps_in: str, irreps_out: str, channels: int, _paths: bytes) -> None:
    """Raises an error unless irreps have the polynomial's rows, and each path and its terms are of a segment."""
    if type(channels) is not int or type(_paths) is not bytes:
        raise ValueError(f"channels is {channels!r}, and paths are {type(_paths).__name__}")
    first, out = as_segments(irreps_in, "irreps_in"), as_segments(irreps_out, "irreps_out")
    check_channels(first, "irreps_in", channels)
    check_channels(out, "irreps_out", channels)
    if (as_text(first), as_text(out)) != (irreps_in, irreps_out):
        raise ValueError(f"{irreps_in!r} and {irreps_out!r} are not as they are written here")
    ends = list(itertools.accumulate(segment.dim for segment in out))
    if (sum(segment.dim for segment in first), ends[-1]) != polynomial.shape:
        raise ValueError(f"{irreps_in!r} and {irreps_out!r} do not have the rows {polynomial.shape}")
    paths = np.frombuffer(_paths, _path(polynomial.degree))
    if len(paths) != polynomial.num_paths:
        raise ValueError(f"paths has {len(paths)} rows and num_paths is {polynomial.num_paths}")
    for nu, of, degree, parity, mul, rows_out, factors, couplings in paths.tolist():
        if not (0 < nu <= polynomial.degree and 0 <= of < len(out)):
            raise ValueError(f"a path of {nu} factors to segment {of}")
        if (mul, degree, parity) != out[of] or list(rows_out) != [ends[of] - out[of].dim, ends[of], 1]:
            raise ValueError(f"a path to segment {of} has other rows or another irrep")
        used = len(first) > max(factors[:nu]) >= min(factors[:nu]) >= 0 <= min(couplings[:nu])
        if not used or couplings[nu - 1] != degree or {*factors[nu:], *couplings[nu:]} - {-1}:
            raise ValueError(f"a path of factors {factors} and couplings {couplings}")
    for of_degree in polynomial.terms:
        start, stop, _ = paths["rows_out"][of_degree.path].T
        if not ((start <= of_degree.mu) & (of_degree.mu < stop)).all():
            raise ValueError("a term is not of the rows of its path")


def _path(most: int) -> np.dtype[Any]:
    return np.dtype(
        [(name, np.int64) for name in ("degree", "out", "l3", "parity", "multiplicity")]
        + [("rows_out", np.int64, (3,))]
        + [(name, np.int64, (most,)) for name in ("factors", "couplings")]
    )


def _padded(chain: Chain, most: int) -> tuple[tuple[int, ...], ...]:
    rest = (-1,) * (most - len(chain.factors))
    return chain.factors + rest, chain.degrees + rest


def symmetric_contraction(
    irreps_in: Irreps,
    irreps_out: Irreps,
    degree: SupportsIndex,
    *,
    convention: Literal["librascal", "e3nn"] = "librascal",
) -> SymmetricContraction:
    """The polynomial of all couplings of an array with itself, up to a degree, as MACE [1]_ has them.

    A path is a chain: a segment of x, times another segment, coupled to a degree by `clebsch_gordan`, times another
    segment of x, coupled again, and so on, up to an irrep of the result. All channels are treated alike, and do not
    mix: each has its own x and its own weights. Orders of the factors that give the same are one path, so that the
    tensors of the paths are symmetric, and there are as many paths as are linearly independent and no more.

    Parameters
    ----------
    irreps_in : str or iterable of (mul, ir)
        What x holds: text in e3nn's notation, such as "64x0e + 64x1o", or pairs (mul, ir) whose ir has .l and .p. All
        segments have one multiplicity, the number of channels. x is (..., rows, channels), where a segment is 2 l + 1
        rows: what `to_channels` makes of flat arrays.
    irreps_out : str or iterable of (mul, ir)
        What the result holds, in the same way, of the same multiplicity. Each segment has paths of its own.
    degree : int
        The largest number of factors, from 1: MACE's correlation.
    convention : {"librascal", "e3nn"}
        The signs of couplings, as in `clebsch_gordan`.

    Returns
    -------
    SymmetricContraction
        A `Polynomial` that has besides: `irreps_in` and `irreps_out` (text), `channels`, and `paths`, a record array
        with one row for each path. Paths are sorted by the segment of the result, then by their number of factors,
        then by the numbers of the segments in the order of the chain, then by the degrees along it. A segment of the
        result that nothing couples to has no paths, and is zero. Polynomials are cached: equal arguments usually give
        the same object.

    Raises
    ------
    TypeError
        If irreps are neither text nor pairs (mul, ir), or degree is not an integer.
    ValueError
        If irreps are malformed, empty or of several multiplicities, degree is below 1, nothing couples to irreps_out,
        or the convention is unknown.

    Notes
    -----
    Each path is normalised: as a symmetric tensor ``U[mu, m_1, .., m_nu]``, the sum over all m of its squares is 1 for
    each mu. A coefficient C of the polynomial is the sum of U over the orders of the factors.

    How many paths there are is counted exactly: of an irrep of degree l there are as many as there are more monomials
    of order l than of order l + 1 in the complex basis. Which chains are taken is decided in floating point: from those
    of the fewest terms on, each that is independent of those before it, of which at least a tenth of its norm must be
    left (and 1e-15 is, if it depends on them). Coefficients are good to some 1e-15. The number of monomials, and with
    it the time, grows as the number of rows to the power of degree: four factors of degrees up to 3 take a second.

    References
    ----------
    .. [1] I. Batatia and others, MACE: Higher Order Equivariant Message Passing Neural Networks for Fast and Accurate
       Force Fields, NeurIPS 2022.

    Examples
    --------
    >>> polynomial = sparseacc.symmetric_contraction("64x0e + 64x1o", "64x0e", 2)
    >>> polynomial.num_paths, polynomial.shape, polynomial.nnz
    (3, (4, 1), 5)

    The scalar itself, its square, and the square of the vector:

    >>> polynomial.paths.factors.tolist(), polynomial.paths.couplings.tolist()
    ([[0, -1], [0, 0], [1, 1]], [[0, -1], [0, 0], [1, 0]])
    >>> polynomial.terms[1].m.tolist(), polynomial.terms[1].path.tolist()
    ([[0, 0], [1, 1], [2, 2], [3, 3]], [1, 2, 2, 2])
    """
    first, out = as_segments(irreps_in, "irreps_in"), as_segments(irreps_out, "irreps_out")
    check_channels(first, "irreps_in", None)
    check_channels(out, "irreps_out", first[0].mul)
    most = checked_degree(degree, "degree")
    if most < 1:
        raise ValueError("degree is 0, but must be at least 1: it is the largest number of factors")
    check_choice(convention, "convention", CONVENTIONS)
    polynomial = contraction_of(first, out, (most,) * len(out), convention)
    if not polynomial.num_paths:
        raise ValueError(
            f"nothing couples: irreps_in is {as_text(first)!r}, irreps_out is {as_text(out)!r} and degree is {most}"
        )
    return polynomial


def check_channels(segments: Sequence[Segment], name: str, channels: int | None) -> None:
    """Refuses all but segments of one multiplicity, that of irreps_in if it is given."""
    multiplicities = sorted({segment.mul for segment in segments})
    if not segments:
        raise ValueError(f"{name} is empty: name at least one irrep, such as '64x0e'")
    if len(multiplicities) > 1 or 0 in multiplicities or channels not in (None, multiplicities[0]):
        must = "one multiplicity" if channels is None else f"the multiplicity of irreps_in, {channels},"
        raise ValueError(
            f"{name} must have {must} in all segments, the number of channels, but has {multiplicities}: "
            f"{name} is {as_text(segments)!r}"
        )


def contraction_of(
    irreps_in: Sequence[Segment],
    irreps_out: Sequence[Segment],
    degrees: Sequence[int],
    convention: Literal["librascal", "e3nn"],
) -> SymmetricContraction:
    """The polynomial whose segments of the result have a largest number of factors each, made once."""
    key = tuple(irreps_in), tuple(irreps_out), tuple(degrees), convention
    polynomial = _polynomials.get(key)
    if polynomial is None:
        polynomial = _polynomials.add(key, SymmetricContraction(*key))
    return polynomial


_polynomials: Cache[SymmetricContraction] = Cache(
    "symmetric contractions", 256, 2**26, lambda polynomial: 32 * polynomial.nnz
)
