"""Measure two libraries side by side: separate processes, in turn, medians of ratios.

Absolute times on a shared machine say little: a neighbour's load doubles them.
So every case is measured A B A B ..., each side in a process of its own that
lives through the whole run (imports, warm-up and thread pools are not
measured), and only one of them works at a time. A round's ratio compares two
measurements that lie a fraction of a second apart; the table shows the median
over the rounds.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2


class Side:
    """A process that runs the cases of one library when it is told to."""

    def __init__(self, module: str, name: str) -> None:
        threads = str(THREADS)
        env = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        env["MKL_NUM_THREADS"] = threads
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.duel", module, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
        )

    def measure(self, case: str, seconds: float) -> float:
        """Seconds that one call of the case takes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([case, seconds]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self.name} ended in case {case!r}")
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def duel(
    module: str,
    cases: list[str],
    sides: tuple[str, str] = ("nano", "torch"),
    rounds: int = 15,
    seconds: float = 0.15,
) -> dict[str, tuple[float, float, float]]:
    """Median time of both sides (seconds) and the median of their ratios, by case."""
    processes = [Side(module, name) for name in sides]
    results = {}
    try:
        for case in cases:
            pairs = in_turn(processes, case, rounds, seconds)
            results[case] = (
                statistics.median(p[0] for p in pairs),
                statistics.median(p[1] for p in pairs),
                statistics.median(p[0] / p[1] for p in pairs),
            )
    finally:
        for process in processes:
            process.close()
    return results


def in_turn(
    sides: Sequence[Side],
    case: str,
    rounds: int,
    seconds: float,
    budget: float = float("inf"),
    warm_up: int = 2,
) -> list[tuple[float, ...]]:
    """Measure a case on all sides, one after the other, again and again.

    Args:
        rounds: how often; fewer, but at least three, where that takes longer than ``budget``.
        seconds: of one measurement.
        budget: in seconds, for all of it.
        warm_up: rounds that come first and do not count.

    Returns:
        For each round, the seconds that one call takes on each side.
    """
    start = time.perf_counter()
    taken: list[tuple[float, ...]] = []
    for i in range(warm_up + rounds):
        now = time.perf_counter()
        if i >= warm_up + 3 and now - start > budget * (i - 1) / i:
            break
        taken.append(tuple([side.measure(case, seconds) for side in sides]))
    return taken[warm_up:]


def _calibrated(run: Callable[[], object], seconds: float) -> float:
    """Time of one call: the best half of the batches that fit into ``seconds``."""
    until = time.perf_counter() + seconds
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            run()
        taken = time.perf_counter() - start
        if taken > seconds / 20 or count > 1_000_000:
            break
        count *= 2
    batches = [taken / count]
    while time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(count):
            run()
        batches.append((time.perf_counter() - start) / count)
    batches.sort()
    return statistics.median(batches[: len(batches) // 2 + 1])


def _serve(module: str, name: str) -> None:
    cases = importlib.import_module(module).cases(name)
    for line in sys.stdin:
        case, seconds = json.loads(line)
        print(json.dumps(_calibrated(cases[case], seconds)), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
