"""Workers that are processes of their own compute what one process does, also when one of them is killed."""

import os
import signal
import time

import numpy as np
import pytest

import sparseacc

dask = pytest.importorskip("dask", reason="Dask is not installed")
da = pytest.importorskip("dask.array", reason="Dask is not installed")
distributed = pytest.importorskip("distributed", reason="distributed is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler")  # to compare with

ROWS, CHUNK = 4000, 100


@pytest.fixture(scope="module")
def client():
    """Of two workers, each a process. A worker waits ten seconds for one that has died."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "10s"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def slowly(array):
    """The same array, whose chunks take their time."""

    def wait(block):
        time.sleep(0.05)
        return block

    return array.map_blocks(wait, meta=np.empty((0, 0), array.dtype))


def operands(rng, rule):
    return [rng.normal(size=(ROWS, n)).astype(np.float32) for n in (*rule.shape[:2], rule.shape[2])]


def everything(rule, x1, x2, dy):
    return rule(x1, x2), *rule.vjp(dy, x1, x2), rule.vjp(dy, x1, x2[0])[1], rule.coefficient_vjp(dy, x1, x2)


def test_results_of_two_processes_are_bitwise_the_local_ones(client, rng):
    """Sums over chunks are those of the same chunks in this process."""
    rule = sparseacc.tensor_product("1o + 2e", "1o")
    rule = sparseacc.Rule(rule.m1, rule.m2, rule.mu, rule.C, rule.shape)
    arrays = operands(rng, rule)
    lazy = everything(rule, *(da.from_array(x, chunks=(CHUNK, -1)) for x in arrays))
    results = client.gather(client.compute(lazy))
    for result, value in zip(results[:3], everything(rule, *arrays)):
        assert result.tobytes() == value.tobytes()
    for result, chunks in zip(results, lazy, strict=True):
        assert result.tobytes() == chunks.compute(scheduler="synchronous").tobytes()


def test_nothing_is_lost_with_a_worker_that_is_killed(client, rng):
    rule = sparseacc.clebsch_gordan(2, 2, 2)
    x1, x2, dy = operands(rng, rule)
    before = set(client.run(os.getpid).values())
    slow = slowly(da.from_array(x1, chunks=(CHUNK, -1)))
    lazy = [rule(slow, x2), *rule.vjp(dy, slow, x2), rule.vjp(dy, slow, x2[0])[1]]
    persisted = client.persist(lazy)
    chunks = distributed.futures_of(persisted)
    while sum(chunk.done() for chunk in chunks) < ROWS // CHUNK // 4:
        time.sleep(0.01)
    assert not all(chunk.done() for chunk in chunks)
    os.kill(min(before), signal.SIGKILL)
    results = client.gather(client.compute(persisted))
    for result, value in zip(results, (rule(x1, x2), *rule.vjp(dy, x1, x2))):
        assert result.tobytes() == value.tobytes()
    assert results[3].tobytes() == lazy[3].compute(scheduler="threads").tobytes()
    client.wait_for_workers(2)
    after = set(client.run(os.getpid).values())
    assert len(after) == 2
    assert min(before) not in after
