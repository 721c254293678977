"""Rules of whole tensor products: all couplings of features of many irreps with others, each path with its weight."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np

from .angular import CONVENTIONS, clebsch_gordan
from .calls.arrays import Array
from .checks import check_choice, checked_shape
from .description import Meaning, meaning_of_irreps
from .irreps import Irreps, Segment, as_segments, as_text, common_channels, rows
from .rule import Rule
from .values import keep_what_fits

_ROWS = ("rows1", "rows2", "rows_out")
_PATH = np.dtype(
    [(name, np.int64) for name in ("l1", "l2", "l3", "parity", "multiplicity")]
    + [(name, np.int64, 3) for name in _ROWS]
    + [("coefficient", np.float64)]
)
_ORDERS: dict[str, Callable[[Segment], tuple[int, ...]]] = {
    "e3nn": lambda block: (block.degree, block.parity),
    "natural": lambda block: (block.degree, -block.parity * (-1) ** block.degree),
    "paths": lambda block: (),
}


class Coupling(NamedTuple):
    """A segment of irreps1 with one of irreps2, to one of irreps_out: which, and what their coefficients are times."""

    first: int
    second: int
    out: int
    coefficient: float


class TensorProduct(Rule):
    """A rule that knows its irreps: what `tensor_product` and `from_e3nn` return.

    It is equal to any rule of the same terms.

    Attributes
    ----------
    irreps1, irreps2, irreps_out : str
        What x1, x2 and the result hold, segment after segment, in e3nn's notation.
    channels : int
        The number of channels of x1, of the weights and of the result.
    channels2 : int
        The number of channels of x2: 1 where the others share it, and else as many.
    paths : recarray, shape (num_paths,)
        What each path couples, in the order of the weights.
    """

    irreps1: str
    irreps2: str
    irreps_out: str
    channels: int
    channels2: int
    _paths: bytes

    def __init__(
        self,
        irreps1: Sequence[Segment],
        irreps2: Sequence[Segment],
        irreps_out: Sequence[Segment],
        couplings: Sequence[Coupling],
        convention: Literal["librascal", "e3nn"],
    ) -> None:
        shared = all(irreps2[c.second].mul <= 1 for c in couplings)  # x2, by the channels
        channels = common_channels(irreps1, irreps_out, *(() if shared else (irreps2,)))
        channels2 = 1 if shared else channels
        holds = ((irreps1, channels), (irreps2, channels2), (irreps_out, channels))
        begins = [list(itertools.accumulate((rows(s, n) for s in segments), initial=0)) for segments, n in holds]
        shape = checked_shape([begin[-1] for begin in begins])  # before there are arrays of that size
        tables = [np.zeros(0, _PATH)]
        columns: list[Sequence[Array]] = [(*(np.zeros(0, int) for _ in range(4)), np.zeros(0))]
        number = 0
        for *of, coefficient in couplings:
            segments = [held[i] for (held, _), i in zip(holds, of, strict=True)]
            rule = clebsch_gordan(*(segment.degree for segment in segments), convention=convention)
            copies = segments[0].mul // channels
            copy = np.arange(copies)
            table = np.zeros(copies, _PATH)
            table["l1"], table["l2"], table["l3"] = (segment.degree for segment in segments)
            table["parity"], table["multiplicity"] = segments[2].parity, segments[0].mul
            table["coefficient"] = coefficient
            terms = []
            for k, index in enumerate((rule.m1, rule.m2, rule.mu)):
                step = segments[k].mul // holds[k][1]  # from component to component: other copies are between
                begin = begins[k][of[k]]
                first = begin + copy % step  # all of x2's one copy, where it is shared
                table[_ROWS[k]] = np.stack(np.broadcast_arrays(first, begin + step * segments[k].dim, step), axis=-1)
                terms.append(np.add.outer(first, step * index).ravel())
            terms += [np.repeat(number + copy, rule.nnz), np.tile(coefficient * rule.C, copies)]
            tables.append(table)
            number += copies
            if coefficient:
                columns.append(terms)
        m1, m2, mu, path, C = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        super().__init__(m1, m2, mu, C, shape, path=path, num_paths=number)
        self.__dict__.update(
            irreps1=as_text(irreps1),
            irreps2=as_text(irreps2),
            irreps_out=as_text(irreps_out),
            channels=channels,
            channels2=channels2,
            _paths=np.concatenate(tables).tobytes(),
        )

    @property
    def paths(self) -> np.recarray[Any, Any]:
        """The paths in the order of the weights, shape (num_paths,): a new read-only record array in every access.

        Its fields are l1, l2, l3; parity, 1 or -1, of the result; multiplicity, of the segment of irreps1 that the path
        is of; rows1, rows2 and rows_out, each (start, stop, step) of the rows that it reads and adds to, so that
        ``x1[..., slice(*path.rows1), :]`` are 2 l1 + 1 rows; and coefficient, by which those of `clebsch_gordan` are
        multiplied.
        """
        return np.frombuffer(self._paths, _PATH).view(np.recarray)

    from_dense = Rule.from_dense  # type: ignore[assignment]  # which has no irreps

    def transpose(self, order: Sequence[SupportsIndex]) -> Rule:  # type: ignore[override]
        """The rule with its three indices exchanged, without what is known of irreps: see `Rule.transpose`."""
        rule = Rule(self.m1, self.m2, self.mu, self.C, self.shape, path=self.path, num_paths=self.num_paths)
        return rule.transpose(order)

    def _meaning(self) -> Meaning:
        paths, channels = self.paths, (self.channels, self.channels2, self.channels)
        degrees = np.stack([paths.l1, paths.l2, paths.l3], axis=1)
        return meaning_of_irreps(
            (self.irreps1, self.irreps2, self.irreps_out), channels, degrees, paths.parity, self.shape
        )

    def __setstate__(self, state: Any) -> None:
        keep_what_fits(self, state, TensorProduct, _check_irreps)

    def __repr__(self) -> str:
        return (
            f"TensorProduct('{self.irreps1}', '{self.irreps2}', '{self.irreps_out}', channels={self.channels}, "
            f"num_paths={self.num_paths}, shape={self.shape}, nnz={self.nnz}, {self._mark()})"
        )


def tensor_product(
    irreps1: Irreps,
    irreps2: Irreps,
    irreps_out: Irreps | None = None,
    *,
    sum_paths: bool = False,
    convention: Literal["librascal", "e3nn"] = "librascal",
    path_normalization: Literal["none", "path"] = "none",
    order: Literal["e3nn", "natural", "paths"] = "e3nn",
) -> TensorProduct:
    """The rule that couples all irreps of one array with all those of another.

    Irreps are text in e3nn's notation, such as "128x0e + 64x1o": 128 scalars and 64 vectors, where e (even) stays as
    it is under inversion of space and o (odd) changes its sign. Or they are pairs (mul, ir) whose ir has .l and .p,
    such as the irreps of e3nn and of libraries like it.

    A segment of irreps1 and one of irreps2, of degrees l1 and l2, couple to each degree ``l3 = |l1 - l2|..l1 + l2``, by
    `clebsch_gordan`. The number of channels is the greatest common divisor of the multiplicities of irreps1. x1, the
    weights and the result are (..., rows, channels), for ``axis=-2``: a segment of mul copies is 2 l + 1 components,
    one after the other, of ``mul // channels`` rows each. `to_channels` and `from_channels` bring flat arrays into that
    form and back. A coupling is ``mul // channels`` paths, each with a row of weights.

    Parameters
    ----------
    irreps1 : str or iterable of (mul, ir)
        What x1 holds.
    irreps2 : str or iterable of (mul, ir)
        What x2 holds. Either all multiplicities are 1: x2 is (..., rows, 1) and shared by the channels ("uvu" of e3nn).
        Or they are those of irreps1: x2 is (..., rows, channels), and each copy of x1 couples with the same copy of x2
        ("uuu" of e3nn); segments of different multiplicities then do not couple.
    irreps_out : str or iterable of (mul, ir), optional
        To which irreps couplings are kept, by default all. Multiplicities do not matter.
    sum_paths : bool
        False: each coupling has a block of its own in the result. True: all those into one irrep, of one multiplicity,
        add up in one block.
    convention : {"librascal", "e3nn"}
        The signs, as in `clebsch_gordan`.
    path_normalization : {"none", "path"}
        "path": coefficients are divided by the square root of the number of couplings that add up in the block.
    order : {"e3nn", "natural", "paths"}
        Of the result's blocks. "e3nn": by l, then o before e. "natural", that of e3nn-jax and cuequivariance: by l,
        then the parity (-1)^l first. Blocks of one irrep stay in the order of their couplings. "paths": all do.

    Returns
    -------
    TensorProduct
        A `Rule` that has besides: `irreps1`, `irreps2` and `irreps_out` (text; of the result, one segment for each
        block), `channels` and `channels2` (that of x2), and `paths`, a record array with one row for each path. Paths
        are in the order of e3nn's weights, whatever the order of the blocks: by the segment of irreps1, by that of
        irreps2, by l3, by the copies. So the weights are e3nn's, reshaped to (..., num_paths, channels). For each mu of
        a path, ``sum_{m1, m2} C**2 == 1``, or one by the number of couplings with ``path_normalization="path"``: by
        e3nn's defaults, they are the first where each coupling has its block and the second where they add up.

    Raises
    ------
    TypeError
        If irreps are neither text nor pairs (mul, ir).
    ValueError
        If irreps are malformed or multiplicities negative, the multiplicities of irreps2 are neither 1 nor those of
        irreps1, nothing couples (to irreps_out), or the convention, the normalisation or the order is unknown.

    Examples
    --------
    Scalars and vectors in four channels, times spherical harmonics of degrees 0 and 1:

    >>> rule = sparseacc.tensor_product("4x0e + 4x1o", "0e + 1o", "0e + 1o")
    >>> rule.irreps_out, rule.channels, rule.num_paths
    ('4x0e+4x0e+4x1o+4x1o', 4, 4)
    >>> x, y = np.ones((10, 4, 4)), np.ones((10, 4, 1))
    >>> rule(x, y, axis=-2).shape
    (10, 8, 4)

    Multiplicities that differ make several rows, and a path for each:

    >>> rule = sparseacc.tensor_product("4x0e + 2x1o", "1o", "0e + 1o")
    >>> rule.channels, rule.num_paths, rule.paths.l1.tolist(), rule.irreps_out
    (2, 3, [0, 0, 1], '2x0e+4x1o')
    """
    segments1, segments2 = as_segments(irreps1, "irreps1"), as_segments(irreps2, "irreps2")
    wanted = None if irreps_out is None else as_segments(irreps_out, "irreps_out")
    kept = None if wanted is None else {(segment.degree, segment.parity) for segment in wanted}
    check_choice(convention, "convention", CONVENTIONS)
    check_choice(path_normalization, "path_normalization", ("none", "path"))
    check_choice(order, "order", _ORDERS)
    shared = _is_shared(segments1, segments2)
    blocks: list[Segment] = []
    found: list[tuple[int, int, int]] = []
    reached: dict[Segment, None] = {}
    for (first, s1), (second, s2) in itertools.product(enumerate(segments1), enumerate(segments2)):
        if not s1.mul or not s2.mul or not (shared or s1.mul == s2.mul):
            continue
        for degree in range(abs(s1.degree - s2.degree), s1.degree + s2.degree + 1):
            block = Segment(s1.mul, degree, s1.parity * s2.parity)
            reached[block] = None
            if kept is not None and (block.degree, block.parity) not in kept:
                continue
            if not (sum_paths and block in blocks):
                blocks.append(block)
            found.append((first, second, blocks.index(block) if sum_paths else len(blocks) - 1))
    if not found:
        raise ValueError(
            f"nothing couples: irreps1 is {as_text(segments1)!r} and irreps2 is {as_text(segments2)!r}"
            + ("" if wanted is None else f", and irreps_out is {as_text(wanted)!r}")
            + (f"; without irreps_out they couple to {as_text(reached)!r}" if reached else "")
        )
    at = sorted(range(len(blocks)), key=lambda i: _ORDERS[order](blocks[i]))
    place = {block: i for i, block in enumerate(at)}
    into = Counter(block for _, _, block in found)
    couplings = [
        Coupling(first, second, place[block], 1 / math.sqrt(into[block]) if path_normalization == "path" else 1.0)
        for first, second, block in found
    ]
    return TensorProduct(segments1, segments2, [blocks[i] for i in at], couplings, convention)


def _check_irreps(
    rule: Rule, irreps1: str, irreps2: str, irreps_out: str, channels: int, channels2: int, _paths: bytes
) -> None:
    """Raises an error unless irreps have the rule's rows, and each path's terms are within the rows of the path."""
    paths = np.frombuffer(_paths, _PATH)
    given, texts = (channels, channels2, channels), (irreps1, irreps2, irreps_out)
    if type(channels) is not int or type(channels2) is not int or min(given) < 1 or channels2 not in (1, channels):
        raise ValueError(f"channels is {channels!r} and channels2 {channels2!r}")
    if type(_paths) is not bytes:
        raise ValueError(f"paths are {type(_paths).__name__}")
    if len(paths) != rule.num_paths:
        raise ValueError(f"paths has {len(paths)} rows and num_paths is {rule.num_paths}")
    if not np.isfinite(paths["coefficient"]).all():
        raise ValueError("a path's coefficient is not finite")
    of_terms = paths[rule.path]
    for k, (text, n, index) in enumerate(zip(texts, given, (rule.m1, rule.m2, rule.mu), strict=True)):
        segments = as_segments(text, "irreps")
        if as_text(segments) != text or any(segment.mul % n for segment in segments):
            raise ValueError(f"{text!r} in {n} channels")
        if sum(rows(segment, n) for segment in segments) != rule.shape[k]:
            raise ValueError(f"{text!r} in {n} channels is not {rule.shape[k]} rows")
        (start, stop, step), degree, most = paths[_ROWS[k]].T, paths[f"l{k + 1}"], rule.shape[k]
        bounded = (start >= 0) & (step > 0) & (step <= most) & (stop <= most) & (degree >= 0) & (degree < most)
        last = start + 2 * degree * step  # no overflow where bounded, as most is below 2**31
        if not (bounded & (last < stop) & (stop - last <= step)).all():
            raise ValueError(f"{_ROWS[k]} of a path is not 2 l + 1 of {most} rows")
        start, stop, step = of_terms[_ROWS[k]].T
        if not ((start <= index) & (index < stop) & ((index - start) % step == 0)).all():
            raise ValueError(f"a term is not of {_ROWS[k]} of its path")


def _is_shared(segments1: Sequence[Segment], segments2: Sequence[Segment]) -> bool:
    """Whether x2 is shared by the channels, not given for each of them."""
    of1, of2 = ({segment.mul for segment in segments} - {0} for segments in (segments1, segments2))
    if of2 - {1} and of2 != of1:
        raise ValueError(
            f"irreps2 must have multiplicity 1 everywhere, or those of irreps1, {sorted(of1)}, but has {sorted(of2)}: "
            f"irreps1 is {as_text(segments1)!r} and irreps2 is {as_text(segments2)!r}"
        )
    return not of2 - {1}


def from_e3nn(tp: Any) -> TensorProduct:
    """The rule of an ``e3nn.o3.TensorProduct``, with its normalisation and its signs.

    Parameters
    ----------
    tp : object
        Has `irreps_in1`, `irreps_in2`, `irreps_out` and `instructions` as e3nn's have them; e3nn is not imported. Modes
        may be "uvu", where irreps_in2 has multiplicity 1, and "uuu".

    Returns
    -------
    TensorProduct
        As `tensor_product` describes it, but that its blocks are the segments of irreps_out, its paths are in the order
        of the instructions, and C is ``path_weight * e3nn.o3.wigner_3j(l1, l2, l3)``. The weights are ``tp.weight``,
        reshaped to (..., num_paths, channels). Instructions without weights are paths all the same, and the product
        without weights is e3nn's.

    Raises
    ------
    TypeError
        If tp lacks one of those attributes.
    ValueError
        If an instruction has another mode, does not couple, has weights where another has none, or takes x2 channel by
        channel where another shares it: the message names the instruction.

    Examples
    --------
    >>> from types import SimpleNamespace as Like
    >>> instruction = Like(i_in1=0, i_in2=0, i_out=0, connection_mode="uvu", has_weight=True, path_weight=3**0.5)
    >>> tp = Like(irreps_in1="8x1o", irreps_in2="1x1o", irreps_out="8x1e", instructions=[instruction])
    >>> rule = sparseacc.from_e3nn(tp)
    >>> rule == sparseacc.tensor_product("8x1o", "1o", "1e", convention="e3nn")
    True
    """
    try:
        held = tp.irreps_in1, tp.irreps_in2, tp.irreps_out
        instructions = [
            ((i.i_in1, i.i_in2, i.i_out), i.connection_mode, bool(i.has_weight), float(i.path_weight))
            for i in tp.instructions
        ]
    except Exception as error:
        raise TypeError(
            "tp must have irreps_in1, irreps_in2, irreps_out and instructions, as an e3nn.o3.TensorProduct has, but is "
            f"{tp!r} ({type(tp).__name__})"
        ) from error
    irreps = [as_segments(h, f"tp.{n}") for h, n in zip(held, ("irreps_in1", "irreps_in2", "irreps_out"), strict=True)]
    couplings = []
    by_channel = any(mode == "uuu" and irreps[1][second].mul > 1 for (_, second, _), mode, *_ in instructions)
    for number, (of, mode, has_weight, path_weight) in enumerate(instructions):
        s1, s2, s3 = (segments[i] for segments, i in zip(irreps, of, strict=True))
        faults = {
            "modes may be 'uvu' and 'uuu'": mode not in ("uvu", "uuu"),
            "multiplicities must be n, 1, n in mode 'uvu'": mode == "uvu" and (s2.mul, s3.mul) != (1, s1.mul),
            "multiplicities must be the same in mode 'uuu'": mode == "uuu" and not s1.mul == s2.mul == s3.mul,
            "these irreps do not couple": not (
                abs(s1.degree - s2.degree) <= s3.degree <= s1.degree + s2.degree and s1.parity * s2.parity == s3.parity
            ),
            "others take x2 channel by channel: make two products": by_channel and s1.mul != s2.mul,
            "give weights to all instructions or to none, or make two products": has_weight != instructions[0][2],
        }
        for fault, is_there in faults.items():
            if is_there:
                raise ValueError(
                    f"instruction {number} of tp, {of} in mode {mode!r} {'with' if has_weight else 'without'} weights, "
                    f"{s1} times {s2} to {s3}: {fault}"
                )
        couplings.append(Coupling(*of, path_weight / math.sqrt(s3.dim)))
    return TensorProduct(irreps[0], irreps[1], irreps[2], couplings, "e3nn")
