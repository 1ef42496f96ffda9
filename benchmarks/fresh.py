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
COMPILED_CALLS = ["call 1", "call 2", "call 3"]


def _run(mode: str, side: str, name: str, cache: str | None = None) -> dict[str, float]:
    """What a process of this file's ``__main__`` measured, and its ``total`` in seconds."""
    threads = str(THREADS)
    env = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    env["MKL_NUM_THREADS"] = threads
    if cache is not None:
        env["NANO_CACHE_DIR"] = cache
        env["TORCHINDUCTOR_CACHE_DIR"] = f"{cache}/torch"
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


def first_steps(
    names: Sequence[str], peer: str, compiled: bool = False, repeat: int = 3
) -> list[dict[str, Any]]:
    """Time the first step of each model, compiled the first three; print a table, return its rows.

    A compiled step of nano is watched twice: it is the third call that runs the program.
    """
    option = "+compile" * compiled
    title = {"torch": "PyTorch", "jax": "JAX"}[peer] + " compiled" * (compiled and peer == "torch")
    sides = {title: peer + option * (peer == "torch")}
    sides |= {"nano cold": "nano" + option, "nano warm": "nano" + option}
    keys = ["total", *COMPILED_CALLS] if compiled else ["total", "step"]
    print(
        f"The first training step{'s' * compiled} of a fresh process, {THREADS} threads, seconds"
        f" (median of {repeat}).\n"
        f"  total    from the start of the process to the end of the {'third ' * compiled}step\n"
        + ("  call     one of the first three alone\n" if compiled else "")
        + "  step     the first step alone\n" * (not compiled)
        + "  cold     nano has no compiled kernels on disk (NANO_CACHE_DIR is empty), and\n"
        "           PyTorch no compiled graphs (TORCHINDUCTOR_CACHE_DIR is empty)\n"
        "  warm     it finds those of an earlier run"
    )
    width = 10 * len(keys) + 2
    print(f"\n{'':26}" + "".join(f"{h:>{width}}" for h in sides))
    heads = [f"{k:>{12 if k == 'total' else 10}}" for k in keys]
    print(f"{'':26}" + "".join(heads * len(sides)))
    rows = []
    for name in names:
        runs: dict[str, list[dict[str, float]]] = {h: [] for h in sides}
        for _ in range(repeat):
            with tempfile.TemporaryDirectory() as cache:
                for head, side in sides.items():
                    runs[head].append(_run("calls" if compiled else "first", side, name, cache))
        row: dict[str, Any] = {"model": name, "title": CASES[name].title}
        for head in sides:
            row[head] = {k: statistics.median(r[k] for r in runs[head]) for k in keys}
        rows.append(row)
        cells = [f"{row[h][k]:{12 if k == 'total' else 10}.2f}" for h in sides for k in keys]
        print(f"{row['title']:26}{''.join(cells)}", flush=True)
    return rows


def memory(names: Sequence[str], peer: str, compiled: bool = False) -> list[dict[str, Any]]:
    """Peak memory and page faults of training each model; print a table and return its rows."""
    sides = ["nano", peer] + (["torch+channels_last"] if peer == "torch" else [])
    sides += ["nano+compile"] * compiled
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
        for side in [s for s in sides if case.images or "channels_last" not in s]:
            row[side] = _run("memory", side, name)
            print(
                f"{case.title:26}{side:22}{row[side]['peak']:10.0f}{row[side]['faults']:10.0f}",
                flush=True,
            )
        least = min(row[s]["peak"] for s in sides if s in row and not s.startswith("nano"))
        row["ok"] = all(row[s]["peak"] <= least for s in row if s.startswith("nano"))
        print(f"{'':26}nano at most the peer's least: {'ok' if row['ok'] else 'MISSED'}")
        rows.append(row)
    return rows


def _first(side: str, name: str) -> dict[str, float]:
    step = build(side, name)
    start = time.perf_counter()
    step()
    return {"step": time.perf_counter() - start}


def _calls(side: str, name: str) -> dict[str, float]:
    step = build(side, name)
    times = {}
    for call in COMPILED_CALLS:
        start = time.perf_counter()
        step()
        times[call] = time.perf_counter() - start
    return times


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
    measure = {"first": _first, "calls": _calls, "memory": _memory}[sys.argv[1]]
    print(json.dumps(measure(sys.argv[2], sys.argv[3])), flush=True)
