"""Memory of large results: kept for the next one up to a bound, never while an array is on it, and offered to the
system."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sparseacc
from sparseacc.cpu import memory

RULE = sparseacc.clebsch_gordan(1, 1, 1, convention="e3nn")
ROWS = 8 * memory.KEPT // (3 * 8) + 1  # whose product in float64 is a little more than eight huge pages

pytestmark = pytest.mark.skipif(not memory._SUPPORTED, reason="the system cannot keep memory on offer")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(memory, "_asked", 2**30)
    memory.clear()
    yield
    memory.clear()


def large(scale=1.0, rows=ROWS):
    x = np.full((rows, 3), scale)
    x[:, 1] = 0
    return RULE(x, np.array([[0.0, 1.0, 0.0]]))


def page(array):
    return array.ctypes.data // 4096


def test_a_large_result_takes_the_memory_of_the_last_one():
    first = page(large())
    assert len(memory._kept) == 1
    result = large(2.0)
    assert page(result) == first
    assert not memory._kept
    assert np.array_equal(result[[0, -1]], large(2.0, rows=2))


def test_memory_is_not_taken_while_any_view_is_alive():
    first = large()
    view, right = first[-5:, ::2], first[-5:, ::2].copy()
    del first
    second = large(3.0)
    assert not np.shares_memory(view, second)
    assert np.array_equal(view, right)
    del view
    assert len(memory._kept) == 1


def test_memory_goes_to_results_up_to_a_quarter_smaller_and_to_no_others():
    first = page(large(rows=ROWS * 6 // 5))
    assert page(large()) == first
    assert page(large(rows=ROWS * 2)) != first
    memory._kept.popleft()
    assert [len(kept) > 10 * memory.KEPT for kept in memory._kept] == [True]
    large()
    assert [len(kept) > 10 * memory.KEPT for kept in memory._kept] == [True, False]


def test_no_more_than_a_few_are_kept():
    results = [large() for _ in range(memory._MOST + 2)]
    assert len({result.ctypes.data for result in results}) == len(results)
    results.clear()
    assert len(memory._kept) == memory._MOST


def test_results_that_are_held_use_up_no_more_than_a_number_of_mappings(monkeypatch):
    """The system gives a process so many; all that allocates memory fails without one."""

    def mapped(result):
        owner = result
        while isinstance(owner, np.ndarray):
            owner = owner.base
        return owner is not None

    monkeypatch.setattr(memory, "_MOST_LENT", 3)
    for _ in range(2):  # those that were freed count no more
        results = [memory.empty((memory.KEPT,), np.dtype(np.uint8)) for _ in range(5)]
        assert [mapped(result) for result in results] == [True] * 3 + [False] * 2
        del results


def test_no_more_bytes_are_kept_than_the_bound_and_the_newest_stay(monkeypatch):
    monkeypatch.setattr(memory, "_asked", 5 * memory.KEPT)
    results = [memory.empty((int(n * memory.KEPT) - 2048,), np.dtype(np.uint8)) for n in (1.5, 2, 3, 1.5, 6)]
    while results:
        del results[0]
    assert [len(kept) for kept in memory._kept] == [3 * memory.KEPT, 2 * memory.KEPT]
    assert memory.kept() == 5 * memory.KEPT
    memory.clear()
    assert memory.kept() == 0


def after(code, **environment):
    """What it prints, in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-c", "import numpy as np, sparseacc, resource\nfrom sparseacc.cpu import memory\n" + code],
        env={name: value for name, value in os.environ.items() if name != memory.VARIABLE} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return finished.stdout.strip() or finished.stderr


SIX = """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def six():
    results = [np.ones(1) for _ in range(6)]
    for n in range(6):
        results[n] = memory.empty((n + 4, 10**7), np.dtype(np.uint8))
        results[n][...] = 1

before = resident()
six()
print((resident() - before) // 10**6)
"""


@pytest.mark.parametrize(("most", "resident"), [("0", 0), ("100000000", 100)])
def test_the_user_says_how_much_stays_resident(most, resident):
    """Of six results of 40 to 90 MB."""
    assert resident - 50 < int(after(SIX, SPARSEACC_KEEP_BYTES=most)) < resident + 10


def test_a_small_part_of_the_memory_is_kept_where_the_user_says_nothing():
    """Of six results of 160 to 640 MB, in which nothing is written."""
    shown = after("""
six = [memory.empty((n * 10**7,), np.dtype(np.uint8)) for n in (16, 24, 32, 40, 48, 64)]
del six
print(memory.kept(), memory.limits.memory())
""")
    kept, usable = map(int, shown.split())
    assert kept <= min(2**29, usable / 32)


def test_other_libraries_get_what_is_left_of_limited_addresses():
    shown = after("""
resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))
six = [memory.empty((n * 10**7,), np.dtype(np.uint8)) for n in (16, 20, 24, 28, 32, 40)]
del six
print(np.empty(18 * 10**8, np.uint8).size)
""")
    assert shown == "1800000000"


@pytest.mark.parametrize("wrong", ["much", "-1", "1e9", "1.5"])
def test_a_bound_that_is_no_number_is_one_error(wrong):
    message = f"ValueError: SPARSEACC_KEEP_BYTES is '{wrong}', but must be a whole number from 0"
    assert after("", SPARSEACC_KEEP_BYTES=wrong).splitlines()[-1] == message


def test_the_system_may_take_kept_memory():
    large()
    kept = memory._kept[0]
    address = np.frombuffer(kept, np.uint8).ctypes.data
    with open("/proc/self/smaps") as smaps:
        areas = smaps.read().split(f"{address:x}-")[1]
    offered = next(line for line in areas.splitlines() if line.startswith("LazyFree:"))
    assert int(offered.split()[1]) * 1024 >= memory.KEPT // 2


def test_small_results_are_not_kept():
    large(rows=memory.KEPT // (3 * 8) - 1)
    assert not memory._kept


@pytest.mark.parametrize("megabytes", [2.2, 4.3, 9, 17])
def test_calls_that_are_repeated_get_no_new_pages(megabytes):
    """Where the C library keeps none of the three results of a double backward, as no larger block was ever freed."""
    faults = after(f"""
x = np.ones((int({megabytes} * 1e6) // 24, 3))
rule = sparseacc.clebsch_gordan(1, 1, 1)
for count in range(30):
    rule.vjp_vjp(x, x, x, x, x)
    if count == 9:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
""")
    assert int(faults) < 100


def test_the_end_of_a_result_takes_no_huge_page():
    held = after("""
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
held = [memory.empty((2**21 + 4096,), np.dtype(np.uint8)) for _ in range(50)]
for array in held:
    array[...] = 1
print((resident() - before) / 50)
""")
    assert float(held) < 1.25 * 2**21


def test_without_memory_there_is_one_error_and_nothing_stays_kept():
    large()
    with pytest.raises(MemoryError):
        memory.empty((2**60,), np.dtype(np.float32))
    assert not memory._kept


def test_a_system_that_refuses_the_offer_keeps_nothing(monkeypatch):
    class Refusing(memory._Mapped):
        def madvise(self, *advice):
            raise OSError

    monkeypatch.setattr(memory, "_Mapped", Refusing)
    result = large()
    monkeypatch.undo()
    assert np.array_equal(result[[0, -1]], large(rows=2))
    del result
    assert not memory._kept


def test_threads_never_share_a_result():
    def many(scale):
        for _ in range(5):
            result = large(scale)
            right = large(scale, rows=1)[0]
            if not (result[:: ROWS // 100] == right).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(many, (1.0, 2.0, 3.0, 4.0)))


def test_results_may_outlive_the_interpreter():
    script = (
        "import numpy as np, sparseacc\n"
        "x = np.zeros((3_000_000, 3))\n"
        "np.result = sparseacc.clebsch_gordan(1, 1, 1)(x, x)\n"
    )
    finished = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=True)
    assert finished.stderr == ""


def test_results_of_one_call_begin_at_different_lines():
    """Else they take the same places in the caches."""
    x = np.ones((ROWS, 3))
    beginnings = [result.ctypes.data % 4096 for result in RULE.vjp_vjp(x, x, x, x, x)]
    assert len(set(beginnings)) == 3
    assert not any(beginning % 64 for beginning in beginnings)
