"""Times a product on Dask's workers beside NumPy, kills a worker, and goes from Zarr to Zarr in little memory.

python benchmarks/product_in_dask.py [--help]. The arrays are of float32, with rows along the first axis. Each worker is
a process of one thread, and NumPy's product has one thread, too. Workers make the inputs and keep the results, so that
what is timed is the product and Dask, not the way to the workers. NumPy's products go into new arrays.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import psutil
from distributed import Client, LocalCluster, futures_of, wait

import sparseacc
from sparseacc.bench import record

DEGREES = (3, 2, 4)


def made(rows, chunk, n, seed):
    """An array of so many rows, whose chunks are as they are wherever they are made."""

    def block(block_info):
        (begin, end), _ = block_info[None]["array-location"]
        return np.random.default_rng((seed, begin)).random((end - begin, n), np.float32)

    blocks = ((chunk,) * (rows // chunk) + ((rows % chunk,) if rows % chunk else ()), (n,))
    return da.map_blocks(block, chunks=blocks, dtype=np.float32, meta=np.empty((0, 0), np.float32))


def operands(rule, rows, chunk):
    return [made(rows, chunk, n, seed) for seed, n in enumerate((*rule.shape[:2], rule.shape[2]))]


def everything(rule, x1, x2, dy):
    return rule(x1, x2), *rule.vjp(dy, x1, x2)


def seconds(call, repeats, forget=lambda: None):
    """The median, after a call that is not timed; `forget` is called when the results are dropped."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        results = call()
        times.append(time.perf_counter() - begin)
        del results
        forget()
    return statistics.median(times[1:])


def cluster(workers, memory="auto"):
    return LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=memory, dashboard_address=":0")


def computed(client, collections):
    """Computes on the workers, which keep the results as long as what is returned."""
    results = client.persist(collections)
    wait(results)
    return results


def tasks(client):
    """How many the scheduler knows: a result that it has is not computed again."""
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def timed(rule, rows, chunk, workers, repeats):
    """Seconds of the product and of product and gradients, on so many workers."""
    with cluster(workers) as at, Client(at) as client:
        arrays = client.persist(operands(rule, rows, chunk))
        wait(arrays)
        inputs = tasks(client)

        def forget():
            while tasks(client) > inputs:
                time.sleep(0.01)

        forward = seconds(lambda: computed(client, [rule(*arrays[:2])]), repeats, forget)
        both = seconds(lambda: computed(client, list(everything(rule, *arrays))), repeats, forget)
    return {"workers": workers, "forward": forward, "forward_and_vjp": both}


def alone(rule, rows, chunk, repeats):
    """The same without Dask: on whole arrays, one thread."""
    arrays = dask.compute(*operands(rule, rows, chunk), scheduler="synchronous")
    sparseacc.set_num_threads(1)
    forward = seconds(lambda: rule(*arrays[:2]), repeats)
    return {"workers": 0, "forward": forward, "forward_and_vjp": seconds(lambda: everything(rule, *arrays), repeats)}


def killed(rule, rows, chunk):
    """Kills one of two workers when a fourth of the chunks is done; whether the results are bitwise those of NumPy."""
    lazy = operands(rule, rows, chunk)
    begin = time.perf_counter()
    with cluster(2) as at, Client(at) as client:
        results = client.persist(list(everything(rule, *lazy)))
        chunks = futures_of(results)
        while sum(future.done() for future in chunks) < len(chunks) / 4:
            time.sleep(0.001)
        os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
        done = sum(future.done() for future in chunks)
        results = client.gather(client.compute(results))
    taken = time.perf_counter() - begin
    expected = everything(rule, *dask.compute(*lazy, scheduler="synchronous"))
    same = all(a.tobytes() == b.tobytes() for a, b in zip(results, expected, strict=True))
    return {"rows": rows, "chunks": len(chunks), "done_when_killed": done, "seconds": taken, "bitwise_numpy": same}


class Peak(threading.Thread):
    """Looks at the memory of some processes, every 20 milliseconds."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self.processes, self.over, self.bytes = [psutil.Process(pid) for pid in processes], threading.Event(), 0
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            self.bytes = max(self.bytes, sum(process.memory_info().rss for process in self.processes))


def out_of_core(rule, rows, chunk, limit):
    """From Zarr to Zarr, by two workers that may have so much memory each."""
    with tempfile.TemporaryDirectory() as folder, cluster(2, limit) as at, Client(at) as client:
        for name, array in zip(("x1", "x2", "dy"), operands(rule, rows, chunk), strict=True):
            array.to_zarr(f"{folder}/{name}.zarr")
        before = sum(psutil.Process(pid).memory_info().rss for pid in client.run(os.getpid).values())
        arrays = [da.from_zarr(f"{folder}/{name}.zarr") for name in ("x1", "x2", "dy")]
        results = dict(zip(("y", "dx1", "dx2"), everything(rule, *arrays), strict=True))
        size = sum(array.nbytes for array in (*arrays, *results.values()))
        peak = Peak(client.run(os.getpid).values())
        begin = time.perf_counter()
        dask.compute([array.to_zarr(f"{folder}/{name}.zarr", compute=False) for name, array in results.items()])
        taken = time.perf_counter() - begin
        peak.over.set()
        peak.join()
        stored = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    megabytes = {"arrays": size, "stored": stored, "before": before, "peak": peak.bytes}
    figures = {f"megabytes_{name}": number / 1e6 for name, number in megabytes.items()}
    return {"rows": rows, "limit": limit, "seconds": taken} | figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--chunk", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", default="700MB", help="memory of each worker of the run from Zarr to Zarr")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    rule = sparseacc.clebsch_gordan(*DEGREES)
    size = (given.rows, given.chunk)
    cases = [alone(rule, *size, given.repeats), *(timed(rule, *size, workers, given.repeats) for workers in (1, 2))]
    for case in cases:
        who = f"Dask, {case['workers']} workers" if case["workers"] else "NumPy"
        ratios = [f"{case[what]:.3f} s ({case[what] / cases[0][what]:.2f})" for what in ("forward", "forward_and_vjp")]
        print(f"{who:16} forward {ratios[0]}  with gradients {ratios[1]}", flush=True)
    kill = killed(rule, given.rows // 4, given.chunk // 20)
    print("worker killed:", kill, flush=True)
    zarr = out_of_core(rule, given.rows, given.chunk // 5, given.limit)
    print("Zarr to Zarr:", zarr)
    if given.json:
        record.write(given.json, rows=given.rows, chunk=given.chunk, cases=cases, killed=kill, out_of_core=zarr)


if __name__ == "__main__":
    main()
