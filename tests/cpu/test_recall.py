"""Calls that C repeats by itself: what it finds is what it was given, or nothing, and its sums are NumPy's."""

import threading
from itertools import permutations

import ml_dtypes
import numpy as np
import pytest

import sparseacc
from sparseacc.algebra import FORWARD, VJP
from sparseacc.cpu import recall
from sparseacc.cpu._kernel import ffi, lib
from sparseacc.cpu.execution import planned
from sparseacc.terms import as_text

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


def test_what_is_remembered_again_takes_no_other_place():
    numbers = [(11, rows, 4) for rows in range(1, 300)]
    for each in numbers:
        recall.remember(b"again", each, plan_for(4))
    there = [each for each in numbers if recalled(b"again", each)]
    for each in there:
        for _ in range(5):
            recall.remember(b"again", each, plan_for(4))
    assert all(recalled(b"again", each) for each in there)


def test_transposes_do_not_take_each_others_places():
    """A rule with axes of one length: the order of columns alone tells its six transposes from each other."""
    texts = [
        f"{axis};{as_text(RULE.transpose(order))}".encode() for axis in (-1, -2) for order in permutations(range(3))
    ]
    for text in texts:
        recall.remember(text, (11, 5, 3), plan_for(4))
    assert all(recalled(text, (11, 5, 3)) for text in texts)


def test_no_more_rules_are_kept_than_there_are_places(monkeypatch):
    monkeypatch.setattr(recall, "_kept", {})
    monkeypatch.setattr(recall, "_MOST", 3)
    for i in range(5):
        recall.remember(b"rule %d" % i, (7, i), plan_for(4))
    assert [recalled(b"rule %d" % i, (7, i)) is not None for i in range(5)] == [True] * 3 + [False] * 2
    recall.remember(b"rule 0", (8, 0), plan_for(5))
    assert recalled(b"rule 0", (8, 0))


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "f2", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("n1", [1, 3])
def test_sums_are_those_of_numpy_bit_for_bit(dtype, n1, rng):
    """Of any number of copies, one number or more, subnormal and too large."""
    dtype = np.dtype(dtype)
    rule = sparseacc.Rule(np.arange(n1), [0] * n1, [0] * n1, np.ones(n1), (n1, 1, 1))
    close_to_half = [[1], [2**-11], [2**-24]]  # of the last bit of float16, and in float32 a half
    for rows in (3, 5_000, 9_000, 30_000, 70_000, 300_000):
        for scale in (1, 1e-7, 1e-42) if dtype.itemsize == 2 else (1,):
            dy = close_to_half if rows == 3 else rng.normal(size=(rows, 1)) * scale
            dy = np.array(dy).astype(dtype)
            if dtype.kind == "c":
                dy = dy * dtype.type(1 - 2j)
            x2 = np.ones((rows, 1), dtype)
            values = dy, np.ones((1, n1), dtype), x2
            plan, _ = planned(rule, VJP, values, -1, (True, True))
            assert plan.outputs[0].copies == min(max(rows // 4096, 1), 64)
            expected = plan.run(values, None)
            results = [np.full_like(e, 7) for e in expected]
            arrays = [*(values[i] for i in plan.program.inputs), *results]
            assert lib.sa_run_stored(plan.call, [ffi.cast("char *", a.ctypes.data) for a in arrays]) == 0
            for result, e in zip(results, expected):
                assert result.tobytes() == e.tobytes()


def test_a_table_that_is_busy_is_waited_for():
    """Each of many threads finds what is there, as it could not go to Python in a process that ends."""
    text = b"long, which takes a while to compare" * 50_000
    recall.remember(text, (1, 1), plan_for(4))
    missed = []

    def find():
        missed.extend(i for i in range(300) if not recalled(text, (1, 1)))

    threads = [threading.Thread(target=find) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed
