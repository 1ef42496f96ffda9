"""What a fresh process costs: the time until its first training step is done, and its memory.

Run by ``python -m benchmarks.train --first`` and ``--memory``. Every figure comes from a
process of its own, which trains one model and ends.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.duel import ROOT, THREADS
from benchmarks.steps import CASES, build

WARM_STEPS = 5


def _run(mode: str, side: str, name: str, cache: str | None = None) -> dict[str, float]:
    """What a process of this file's ``__main__`` measured, and its ``total`` in seconds."""
    threads = str(THREADS)
    env = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    env["MKL_NUM_THREADS"] = threads
    if cache is not None:
        env["NANO_CACHE_DIR"] = cache
    # As pip and the first import leave them: with Python's own compiled modules.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "benchmarks.fresh", mode, side, name]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as child:
        assert child.stdout is not None
        answer = child.stdout.readline()
        total = time.perf_counter() - start
    if not answer:
        raise RuntimeError(f"the process of {side} ended in case {name!r}")
    return json.loads(answer) | {"total": total}


def first_steps(names: Sequence[str], peer: str, repeat: int = 3) -> list[dict[str, Any]]:
    """Time the first step of each model; print a table and return its rows."""
    print(
        f"The first training step of a fresh process, {THREADS} threads, seconds (median of"
        f" {repeat}).\n  total    from the start of the process to the end of the step\n"
        "  step     the first step alone\n"
        "  cold     nano has no compiled kernels on disk (NANO_CACHE_DIR is empty)\n"
        "  warm     it finds those of an earlier run"
    )
    label = {"torch": "PyTorch", "jax": "JAX"}[peer]
    heads = [label, "nano cold", "nano warm"]
    print(f"\n{'':26}" + "".join(f"{h:>22}" for h in heads))
    print(f"{'':26}" + f"{'total':>12}{'step':>10}" * len(heads))
    rows = []
    for name in names:
        runs: dict[str, list[dict[str, float]]] = {h: [] for h in heads}
        for _ in range(repeat):
            runs[label].append(_run("first", peer, name))
            with tempfile.TemporaryDirectory() as cache:
                runs["nano cold"].append(_run("first", "nano", name, cache))
                runs["nano warm"].append(_run("first", "nano", name, cache))
        row: dict[str, Any] = {"model": name, "title": CASES[name].title}
        for head in heads:
            row[head] = {
                key: statistics.median(r[key] for r in runs[head]) for key in ("total", "step")
            }
        rows.append(row)
        cells = "".join(f"{row[h]['total']:12.2f}{row[h]['step']:10.2f}" for h in heads)
        print(f"{row['title']:26}{cells}", flush=True)
    return rows


def memory(names: Sequence[str], peer: str) -> list[dict[str, Any]]:
    """Peak memory and page faults of training each model; print a table and return its rows."""
    sides = ["nano", peer] + (["torch+channels_last"] if peer == "torch" else [])
    print(
        f"Training in a fresh process, {THREADS} threads.\n"
        f"  peak     MiB: the most that was in RAM at once (VmHWM), after {WARM_STEPS} steps\n"
        f"  faults   page faults of one step, in the {WARM_STEPS} steps that follow"
    )
    print(f"\n{'':26}{'':22}{'peak':>10}{'faults':>10}")
    rows = []
    for name in names:
        case = CASES[name]
        row: dict[str, Any] = {"model": name, "title": case.title}
        for side in sides if case.images else sides[:2]:
            row[side] = _run("memory", side, name)
            print(
                f"{case.title:26}{side:22}{row[side]['peak']:10.0f}{row[side]['faults']:10.0f}",
                flush=True,
            )
        least = min(row[s]["peak"] for s in sides if s in row and s != "nano")
        row["ok"] = row["nano"]["peak"] <= least
        print(f"{'':26}nano at most the peer's least: {'ok' if row['ok'] else 'MISSED'}")
        rows.append(row)
    return rows


def _first(side: str, name: str) -> dict[str, float]:
    step = build(side, name)
    start = time.perf_counter()
    step()
    return {"step": time.perf_counter() - start}


def _memory(side: str, name: str) -> dict[str, float]:
    step = build(side, name)
    for _ in range(WARM_STEPS):
        step()
    peak = _peak()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(WARM_STEPS):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"peak": peak, "faults": faults / WARM_STEPS}


def _peak() -> float:
    """MiB: the most memory that this process has had in RAM."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    measure = {"first": _first, "memory": _memory}[sys.argv[1]]
    print(json.dumps(measure(sys.argv[2], sys.argv[3])), flush=True)
