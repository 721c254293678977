"""Calls that C repeats by itself: what it finds is what it was given, or nothing."""

import numpy as np

import sparseacc
from sparseacc.cpu import recall
from sparseacc.cpu._kernel import ffi, lib
from sparseacc.cpu.execution import planned
from sparseacc.operations import FORWARD, VJP

RULE = sparseacc.clebsch_gordan(1, 1, 1)


def plan_for(rows, rule=RULE, operation=FORWARD, x2_rows=None):
    x1, x2 = np.ones((rows, 3), "f4"), np.ones((x2_rows or rows, 3), "f4")
    values = (x1, x2) if operation is FORWARD else (x1, x1, x2)
    return planned(rule, operation, values, -1, (True,) * len(operation.outputs))[0]


def recalled(text, numbers):
    found = ffi.new("sa_recalled *")
    return found if lib.sa_recall(text, len(text), numbers, len(numbers), found) else None


def test_what_is_found_is_what_was_remembered():
    """Of more kinds than there are places, the newest is found, and no other is taken for one that is not there."""
    kinds = {}
    for rows in range(1, 6000):
        numbers = (11, rows, 3)
        kinds[numbers] = plan = plan_for(rows)
        recall.remember(b"a rule", numbers, plan)
        found = recalled(b"a rule", numbers)
        assert found is not None
        assert found.call.program == plan.program.pointer
        assert list(found.layout)[: len(plan.layout)] == list(plan.layout)
        assert found.call.layout == found.layout
    there = [numbers for numbers in kinds if recalled(b"a rule", numbers)]
    assert 500 < len(there) <= 1024
    for numbers in there:
        assert recalled(b"a rule", numbers).layout[3] == numbers[1]
        assert not recalled(b"b rule", numbers)
        assert not recalled(b"a rul", numbers)
        assert not recalled(b"a rule", numbers[:2])
        assert not recalled(b"a rule", (*numbers[:2], 4))


def test_what_cannot_be_repeated_is_not_remembered():
    numbers = (1,) * 65
    recall.remember(b"too many numbers", numbers, plan_for(4))
    assert not recalled(b"too many numbers", numbers)
    recall.remember(b"a gradient", (1, 1), plan_for(4, operation=VJP))
    recall.remember(b"a gradient", (1, 2), plan_for(4, operation=VJP, x2_rows=1))
    assert recalled(b"a gradient", (1, 1))
    assert not recalled(b"a gradient", (1, 2)), "a sum"


def test_no_more_rules_are_kept_than_there_are_places(monkeypatch):
    monkeypatch.setattr(recall, "_kept", {})
    monkeypatch.setattr(recall, "_MOST", 3)
    for i in range(5):
        recall.remember(b"rule %d" % i, (7, i), plan_for(4))
    assert [recalled(b"rule %d" % i, (7, i)) is not None for i in range(5)] == [True] * 3 + [False] * 2
    recall.remember(b"rule 0", (8, 0), plan_for(5))
    assert recalled(b"rule 0", (8, 0))
