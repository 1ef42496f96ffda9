"""What an import costs: ``python -m benchmarks.importing``.

Time and memory of `import numpy`, `import nano` and `import torch`, each in new
processes, in turn; medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

PROGRAM = """
import resource, time
start = time.perf_counter()
import {name}
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(name: str) -> tuple[float, float]:
    """Seconds, and MiB of the process afterwards."""
    # With compiled modules cached, as pip and the first import leave them.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROGRAM.format(name=name)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    seconds, memory = out.stdout.split()
    return float(seconds), float(memory)


def main() -> None:
    names = ["numpy", "nano", "torch"]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names:
        measure(name)
    for _ in range(11):
        for name in names:
            rows[name].append(measure(name))
    median = {
        n: [statistics.median(column) for column in zip(*r, strict=True)] for n, r in rows.items()
    }
    for name, (seconds, memory) in median.items():
        print(f"import {name:6} {seconds * 1000:8.1f} ms  {memory:7.1f} MiB")
    extra = median["nano"][0] - median["numpy"][0]
    print(f"nano beyond NumPy: {extra * 1000:.1f} ms (at most 100)")


if __name__ == "__main__":
    main()
