"""Memory of 10,000 training steps without the cycle collector: ``python -m benchmarks.memory``."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import nano
from benchmarks.eager import training_step

STEPS = 10_000


def resident_mib() -> float:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    nano.manual_seed(0)
    step = training_step(nano, "nano", [64, 32, 16, 10], 16)
    gc.collect()
    gc.disable()
    for _ in range(200):
        step()
    start = resident_mib()
    objects = len(gc.get_objects())
    for i in range(1, STEPS + 1):
        step()
        if i % (STEPS // 5) == 0:
            print(f"after {i:6} steps: {resident_mib() - start:+.2f} MiB, "
                  f"{len(gc.get_objects()) - objects:+d} objects")  # fmt: skip


if __name__ == "__main__":
    main()
