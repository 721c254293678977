"""Rules of long rows, most of them many couplings side by side: those that the kernel computes coupling by coupling,
and that every row is the same numbers in whichever way it is written."""

import numpy as np
import pytest
from oracle import Oracle
from rows import at, data, row_by_row, same

import sparseacc
from sparseacc.algebra import FORWARD, JVP, VJP
from sparseacc.bench import all_couplings
from sparseacc.cpu.programs import Program


def side_by_side(*degrees, gap=0, **how):
    """Couplings of one pair of inputs after another, with columns in between that no term reads or writes."""
    terms, begin = [], np.zeros(3, int)
    for coupling in degrees:
        rule = sparseacc.clebsch_gordan(*coupling, **how)
        terms.append((rule.m1 + begin[0], rule.m2 + begin[1], rule.mu + begin[2], rule.C))
        begin += np.array(rule.shape) + gap
    return sparseacc.Rule(*map(np.concatenate, zip(*terms, strict=True)), begin)


def couplings(rule, operation=FORWARD, dtype="f4"):
    program = Program(rule, operation, (True,) * len(operation.outputs), np.dtype(dtype))
    return program.pointer.couplings


def no_couplings(outputs):
    """Terms at random of a rule with so many outputs."""
    rng = np.random.default_rng(0)
    return sparseacc.Rule(*(rng.integers(0, n, 300) for n in (9, 20, outputs)), rng.normal(size=300), (9, 20, outputs))


WIDE = {
    "whole lines": all_couplings(3),  # in four rows, of 156 numbers
    "odd lines": side_by_side(*[(3, 3, 3), (2, 3, 1), (5, 5, 4)] * 8, gap=1),  # with columns of zeros
    "short lines": side_by_side(*[(3, 3, 0), (5, 5, 0)] * 4),  # of long inputs
    "no couplings": no_couplings(91),
}
ALL = WIDE | {"tiles": all_couplings(2)}


@pytest.mark.usefixtures("straight_line_code")
def test_the_rules_that_are_computed_coupling_by_coupling():
    assert couplings(all_couplings(3)) > 1
    assert couplings(all_couplings(3), dtype="f8") > 1
    assert couplings(all_couplings(5)) > 1
    assert couplings(side_by_side((3, 2, 1), (1, 2, 3), convention="e3nn", gap=2)) == 2
    rule = all_couplings(2)
    terms = np.random.default_rng(0).permutation(rule.nnz)
    shuffled = sparseacc.Rule(rule.m1[terms], rule.m2[terms], rule.mu[terms], rule.C[terms], rule.shape)
    assert couplings(shuffled) == couplings(rule)


@pytest.mark.usefixtures("straight_line_code")
def test_other_rules_are_not():
    rule = side_by_side((3, 2, 1), (1, 2, 3))
    assert couplings(rule) == 2
    others = [
        sparseacc.clebsch_gordan(3, 3, 3),
        side_by_side((3, 2, 1), (6, 6, 6)),
        side_by_side((3, 2, 1), (1, 2, 3), basis="complex"),
        sparseacc.Rule(rule.m1, rule.m2, rule.mu % 7, rule.C, (*rule.shape[:2], 7)),
        sparseacc.Rule(rule.m1, rule.m2, (3 * rule.mu) % 10, rule.C, rule.shape),
        sparseacc.Rule(range(40), range(40), range(40), np.ones(40), (40, 40, 40)),
        sparseacc.Rule(rule.m1, rule.m2, rule.mu, np.arange(1.0, rule.nnz + 1), rule.shape),
        sparseacc.Rule([], [], [], [], (3, 3, 3)),
        WIDE["no couplings"],
    ]
    assert not any(couplings(other) for other in others)
    assert not couplings(rule, JVP)
    assert not couplings(rule, VJP)
    assert not couplings(rule, dtype="c8")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
def test_the_product_is_right(instruction_set, rule, dtype, rng):
    x1, x2 = (rng.normal(size=(700, n)).astype(dtype) for n in rule.shape[:2])
    expected, bound = Oracle(rule, x1, x2).product()
    for out in (at(expected.astype(dtype), 0), at(expected.astype(dtype), 4)):
        out[...] = np.nan
        rule(x1, x2, out=out)
        assert np.all(abs(out - expected) <= bound)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rows", [1, 15, 16, 127, 128, 129, 511, 512, 1100, 40_000])
@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
def test_any_number_of_rows_at_any_address_equals_few(instruction_set, rule, rows, dtype, rng):
    """40,000 are written past the caches, as whole lines where they begin at one."""
    x1, x2 = (rng.normal(size=(rows, n)).astype(dtype) for n in rule.shape[:2])
    expected = np.concatenate([rule(x1[i : i + 50], x2[i : i + 50]) for i in range(0, rows, 50)])
    assert np.array_equal(rule(x1, x2), expected)
    for offset in (0, 1, 4):
        out = at(np.full_like(expected, np.nan), offset)
        rule(at(x1, offset), at(x2, 3 * offset), out=out)
        assert np.array_equal(out, expected), offset


def test_channels_and_threads_change_nothing(instruction_set, rng):
    for rule in ALL.values():
        arrays = data(rule, (5, 130), 1, "f4", rng)[:2]
        assert same([rule(*arrays, axis=1)], row_by_row(lambda *a, rule=rule: (rule(*a),), arrays, 1))
        x1, x2 = (rng.normal(size=(20_001, n)) for n in rule.shape[:2])
        sparseacc.set_num_threads(1)
        expected = rule(x1, x2)
        sparseacc.set_num_threads(3)
        assert np.array_equal(rule(x1, x2), expected)


@pytest.mark.parametrize("rule", WIDE.values(), ids=WIDE)
def test_memory_around_the_rows_is_neither_read_nor_written(instruction_set, rule, rng):
    """Numbers that are not part of the arrays are NaN before, and after; columns that no term reads may be infinite."""
    for rows in (600, 40_000, 40_100):
        around = [at(np.full((rows + 64, n), np.nan, "f4"), 0) for n in rule.shape]
        x1, x2, out = (a[32:-32] for a in around)
        x1[...], x2[...] = (rng.normal(size=a.shape) for a in (x1, x2))
        x1[:, np.setdiff1d(np.arange(rule.shape[0]), rule.m1)] = np.inf
        rule(x1, x2, out=out)
        assert np.isfinite(out).all()
        assert np.isnan(around[2]).sum() == around[2].size - out.size
