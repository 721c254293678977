"""Fuzzes the public API: `python tests/fuzz --calls 1000000 --seed 1 --jobs 2`.

Call n of a seed is always the same; `--first n --calls 1` runs it alone. Ends with 1 if a call was wrong.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from fuzzing import chunk  # noqa: E402 - found there

CHUNK = 1000


def main():
    """Reports progress, each failure when it is found, and what was called."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("calls", 10_000), ("seed", 0), ("first", 0), ("jobs", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    begin, done, kinds, failures = time.monotonic(), 0, Counter(), 0
    last = asked.first + asked.calls
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        running = {}
        for first in range(asked.first, last, CHUNK):
            running[pool.submit(chunk, asked.seed, first, min(first + CHUNK, last))] = first
        for future in as_completed(running):
            try:
                found, wrong = future.result()
            except Exception as error:
                sys.exit(f"calls from {running[future]} of seed {asked.seed} ended the process: {error!r}")
            kinds += found
            failures += len(wrong)
            print(*wrong, sep="\n", end="\n" if wrong else "", flush=True)
            done += CHUNK
            if done % (20 * CHUNK) == 0:
                print(f"{done} calls in {time.monotonic() - begin:.0f} s, {failures} wrong", flush=True)
    print(*(f"{number:9} {kind}" for kind, number in kinds.most_common()), sep="\n")
    print(f"{asked.calls} calls of seed {asked.seed}: {failures} wrong")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
