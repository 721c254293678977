"""Memory of large results: kept for the next one, never while an array is on it, and offered to the system."""

import mmap
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sparseacc
from sparseacc.cpu import memory

RULE = sparseacc.clebsch_gordan(1, 1, 1, convention="e3nn")
ROWS = memory.KEPT // (3 * 8) + 1  # whose product in float64 is just large enough

pytestmark = pytest.mark.skipif(not memory._SUPPORTED, reason="the system cannot keep memory on offer")


@pytest.fixture(autouse=True)
def nothing_kept():
    memory._kept.clear()
    yield
    memory._kept.clear()


def large(scale=1.0, rows=ROWS):
    x = np.full((rows, 3), scale)
    x[:, 1] = 0
    return RULE(x, np.array([[0.0, 1.0, 0.0]]))


def test_a_large_result_takes_the_memory_of_the_last_one():
    address = large().ctypes.data
    assert len(memory._kept) == 1
    result = large(2.0)
    assert result.ctypes.data == address
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
    address = large(rows=ROWS * 6 // 5).ctypes.data
    assert large().ctypes.data == address
    assert large(rows=ROWS * 2).ctypes.data != address
    memory._kept.popleft()
    assert [len(kept) > 2 * memory.KEPT for kept in memory._kept] == [True]
    large()
    assert [len(kept) > 2 * memory.KEPT for kept in memory._kept] == [True, False]


def test_no_more_than_a_few_are_kept():
    results = [large() for _ in range(memory._MOST + 2)]
    assert len({result.ctypes.data for result in results}) == len(results)
    results.clear()
    assert len(memory._kept) == memory._MOST


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


def test_without_memory_there_is_one_error_and_nothing_stays_kept():
    large()
    with pytest.raises(MemoryError):
        memory.empty((2**60,), np.dtype(np.float32))
    assert not memory._kept


def test_a_system_that_refuses_the_offer_keeps_nothing(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, option):
            raise OSError

    monkeypatch.setattr(mmap, "mmap", Refusing)
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
