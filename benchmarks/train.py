"""Whole training steps of nano beside PyTorch or JAX: ``python -m benchmarks.train --peer torch``.

Each library runs in a process of its own, in turn, with two threads; the figures are medians.
``--inference`` times inference instead, ``--bf16`` both under autocast, and ``--busy`` both
with one core kept busy by another program. ``--compile`` compiles nano's step, and has
``torch.compile`` and JAX, where it is installed, as further peers. ``--first`` and
``--memory`` measure what a fresh process costs, see :mod:`benchmarks.fresh`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks import fresh
from benchmarks.duel import THREADS, Side, in_turn
from benchmarks.steps import CASES, PRODUCT_CASE, Case, flops, missing

#: Seconds that the whole table may take, and those of one measurement.
BUDGET, SECONDS = 300.0, 0.25
BUSY_MODELS, BUSY_REQUIRED = ("gpt", "resnet18"), 2.0

#: Low priority: it takes only what nobody else wants. It ends by itself with its parent.
_NEIGHBOUR = """
import os
os.nice(19)
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""

_COLUMNS = {"channels_last": "ch-last", "compile": "compile"}
_HEADER = {
    "nano": "milliseconds of one step of nano (median)",
    "PyTorch": "the same of PyTorch, images (n, c, h, w)",
    "ch-last": "the same of PyTorch, images and model channels-last",
    "compile": "the same of PyTorch, the model compiled by torch.compile",
    "JAX": "the same of JAX, the whole step compiled",
    "ratio": "time of the faster form of the peer / time of nano; higher is better",
    "asked": "the ratio that is required",
    "GFLOP": "operations of the step's products, counted from the shapes",
    "limit": "milliseconds they would take at the speed of one large product",
    "of it": "how much of that speed nano reaches",
}


def main() -> None:
    args = _arguments()
    _hold_to_cores()
    names = _chosen(args)
    if args.first:
        rows = fresh.first_steps(names, args.peer, args.compile)
    elif args.memory:
        rows = fresh.memory(names, args.peer, args.compile)
    else:
        rows = _steps(names, args)
    if args.json:
        report = {"arguments": vars(args), "versions": _versions(args.peer), "rows": rows}
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["torch", "jax"], default="torch")
    parser.add_argument("--models", help=f"some of {','.join(CASES)}; all if left out")
    parser.add_argument("--bf16", action="store_true", help="both under bfloat16 autocast")
    parser.add_argument("--busy", action="store_true", help="one core is kept busy meanwhile")
    parser.add_argument("--compile", action="store_true", help="nano's step compiled")
    parser.add_argument("--inference", action="store_true", help="inference, not training")
    parser.add_argument("--first", action="store_true", help="time until the first step is done")
    parser.add_argument("--memory", action="store_true", help="peak memory and page faults")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--seconds", type=float, default=BUDGET, help="for the whole table")
    return parser.parse_args()


def _chosen(args: argparse.Namespace) -> list[str]:
    if args.models:
        names = args.models.split(",")
        if unknown := [n for n in names if n not in CASES]:
            sys.exit(f"unknown models {', '.join(unknown)}; there are {', '.join(CASES)}")
    elif args.busy:
        names = list(BUSY_MODELS)
    elif args.memory:
        names = ["resnet18"]
    else:
        names = [n for n, case in CASES.items() if case.training != args.inference]
    if args.peer == "jax":
        for side in ("jax", "jax+bf16") if args.bf16 else ("jax",):
            if reason := missing(side):
                sys.exit(f"--peer jax: {reason}.")
        names = [n for n in names if CASES[n].network != "alexnet"]
    return names


def _hold_to_cores() -> None:
    """This process and its children share as many cores as there are threads.

    JAX takes a thread for each core that it may use; and a busy neighbour must meet us.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def _versions(peer: str) -> dict[str, str]:
    names = ["numpy", "nano-dl", peer]
    return {n: importlib.metadata.version(n) for n in names} | {"python": sys.version.split()[0]}


@contextmanager
def busy_core() -> Iterator[int]:
    """A program of the lowest priority that keeps one core busy; its process number."""
    neighbour = subprocess.Popen([sys.executable, "-c", _NEIGHBOUR])
    try:
        yield neighbour.pid
    finally:
        neighbour.kill()
        neighbour.wait()


# Steps ----------------------------------------------------------------------------------


def _sides(args: argparse.Namespace) -> list[str]:
    sides = ["nano", args.peer] + (["torch+channels_last"] if args.peer == "torch" else [])
    if args.compile:
        sides[0] += "+compile"
        # Without a C++ compiler, torch.compile has nothing to offer.
        sides += ["torch+compile"] * (args.peer == "torch" and shutil.which("g++") is not None)
        sides += ["jax"] * (args.peer == "torch" and missing("jax") is None)
    return [f"{side}+bf16" for side in sides] if args.bf16 else sides


def _steps(names: Sequence[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and print the table, row by row."""
    sides = _sides(args)
    for side in sides:
        if reason := missing(side):
            sys.exit(f"{side}: {reason}.")
    processes = {side: Side("benchmarks.steps", side) for side in sides}
    columns = ["nano", *map(_column, sides[1:]), "ratio", "asked", "GFLOP", "limit", "of it"]
    try:
        speed = _peak(processes)
        _explain(columns, names, args, speed)
        print(f"\n{'':26}" + "".join(f"{c:>9}" for c in columns))
        rows = []
        with busy_core() if args.busy else nullcontext():
            for name in names:
                row = _row(name, processes, args, speed)
                rows.append(row)
                print(_line(row, columns), flush=True)
    finally:
        for process in processes.values():
            process.close()
    return rows


def _peak(processes: dict[str, Side]) -> float:
    """Operations a second of a large product, on the side that does it best."""
    rounds = in_turn(list(processes.values()), PRODUCT_CASE, rounds=5, seconds=0.3)
    return flops(PRODUCT_CASE) / min(min(r) for r in rounds)


def _row(
    name: str, processes: dict[str, Side], args: argparse.Namespace, speed: float
) -> dict[str, Any]:
    case = CASES[name]
    sides = [s for s in processes if _has(s, case)]
    rounds = in_turn(
        [processes[s] for s in sides],
        name,
        rounds=25,
        seconds=SECONDS,
        # A neighbour makes each step longer, and the times vary more.
        budget=args.seconds / (3 if args.busy else 9),
        warm_up=1 if args.busy else 2,
    )
    medians = [statistics.median(r[i] for r in rounds) for i in range(len(sides))]
    best = medians.index(min(medians[1:]), 1)
    operations = flops(name)
    return {
        "model": name,
        "title": case.title,
        "milliseconds": {s: 1e3 * t for s, t in zip(sides, medians, strict=True)},
        "ratio": statistics.median(r[best] / r[0] for r in rounds),
        "required": _required(case, args),
        "flops": operations,
        "flops_per_second_limit": speed,
        "limit_milliseconds": 1e3 * operations / speed,
        "fraction": operations / speed / medians[0],
        "rounds": len(rounds),
    }


def _column(side: str) -> str:
    """What stands above the times of a peer."""
    options = side.split("+")
    if options[0] == "jax":
        return "JAX"
    return next((_COLUMNS[o] for o in options if o in _COLUMNS), "PyTorch")


def _has(side: str, case: Case) -> bool:
    """Whether a side can do a case."""
    if "channels_last" in side:
        return case.images
    return not (side.startswith("jax") and case.network == "alexnet")


def _required(case: Case, args: argparse.Namespace) -> float | None:
    if args.peer != "torch":
        return None
    if args.busy:
        return None if args.bf16 else BUSY_REQUIRED
    if args.compile:
        return case.required_compiled_bf16 if args.bf16 else case.required_compiled
    return case.required_bf16 if args.bf16 else case.required


def _line(row: dict[str, Any], columns: Sequence[str]) -> str:
    found = {_column(side): t for side, t in list(row["milliseconds"].items())[1:]}
    own = next(iter(row["milliseconds"].values()))
    times = [own, *(found.get(c) for c in columns if c in ("JAX", "PyTorch", *_COLUMNS.values()))]
    required, ratio = row["required"], row["ratio"]
    verdict = "" if required is None else ("  ok" if ratio >= required else "  MISSED")
    cells = [
        *[_number(t) for t in times],
        f"{ratio:.2f}",
        "-" if required is None else f"{required:.2f}",
        _number(row["flops"] / 1e9),
        _number(row["limit_milliseconds"]),
        f"{100 * row['fraction']:.0f} %",
    ]
    return f"{row['title']:26}" + "".join(f"{c:>9}" for c in cells) + verdict


def _number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _explain(
    columns: Sequence[str], names: Sequence[str], args: argparse.Namespace, speed: float
) -> None:
    what = "Training steps" if any(CASES[n].training for n in names) else "Inference"
    kind = "bfloat16 autocast" if args.bf16 else "float32"
    print(f"{what}, {kind}, {THREADS} threads{', one core busy' if args.busy else ''}.")
    print("After a model's name stands its batch. The columns:")
    for column in columns:
        print(f"  {column:8} {_HEADER[column]}")
    print(f"One large product reaches {speed / 1e9:.0f} GFLOP/s here.")


if __name__ == "__main__":
    main()
