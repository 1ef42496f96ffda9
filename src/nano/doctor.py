"""What ``nanodl doctor`` finds out about the machine and the kernels."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

from . import __version__, config
from .backends import backends_in_use, candidates, status
from .backends.threads import get_num_threads

__all__ = ["findings"]

_PACKAGES = (
    "numpy",
    "scipy",
    "ml_dtypes",
    "safetensors",
    "scikit-learn",
    "matplotlib",
    "pillow",
    "pooch",
    "rich",
    "threadpoolctl",
)

#: What decides the speed of vector loops and matrix products.
_INSTRUCTION_SETS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "neon",
    "asimd",
    "bf16",
    "sve",
)

#: What each backend is for, in the order of preference.
_PURPOSE = {
    "onednn": "oneDNN, for large matrix products and convolutions",
    "fused": "Numba, for fused element-wise loops",
    "reference": "plain NumPy, the specification of every kernel",
}


def findings() -> dict[str, list[tuple[str, str]]]:
    """Pairs of a name and what was found, under a heading each."""
    return {
        "Versions": _versions(),
        "Machine": _machine(),
        "Threads": _threads(),
        "Kernels": _kernels(),
    }


def _versions() -> list[tuple[str, str]]:
    found = [
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("nano", f"{__version__} ({Path(__file__).parent})"),
    ]
    for package in _PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed; pip install 'nano-dl[train]' brings it"
        found.append((package, version))
    return found


def _machine() -> list[tuple[str, str]]:
    info = _key_values("/proc/cpuinfo")
    flags = (info.get("flags") or info.get("Features") or "").split()
    sets = [s for s in _INSTRUCTION_SETS if s in flags]
    if not flags:
        import numpy as np

        sets = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    folder = config.data_dir()
    state = "" if folder.is_dir() else " (not there yet)"
    return [
        ("system", platform.platform()),
        ("processor", info.get("model name") or platform.processor() or platform.machine()),
        ("instruction sets", " ".join(sets) or "unknown"),
        ("cores", _cores()),
        ("memory", _memory()),
        ("data folder", f"{folder}{state}"),
    ]


def _cores() -> str:
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    return f"{there}, of which this process may use {usable}"


def _memory() -> str:
    info = _key_values("/proc/meminfo")
    if "MemTotal" not in info:
        return "unknown"
    total, free = (int(info[k].split()[0]) / 2**20 for k in ("MemTotal", "MemAvailable"))
    return f"{total:.1f} GiB, of which {free:.1f} GiB are free"


def _key_values(path: str) -> dict[str, str]:
    """The lines ``key: value`` of a file of Linux; empty elsewhere."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    found: dict[str, str] = {}
    for key, value in pairs:
        found.setdefault(key.strip(), value.strip())
    return found


def _threads() -> list[tuple[str, str]]:
    found = [("nano", f"{get_num_threads()} threads an operator; nano.set_num_threads changes it")]
    try:
        import threadpoolctl
    except ImportError:
        return [*found, ("BLAS", "unknown: threadpoolctl is not installed")]
    for pool in threadpoolctl.threadpool_info():
        parts = [f"{pool['num_threads']} threads", f"version {pool.get('version') or 'unknown'}"]
        parts += [str(pool[k]) for k in ("threading_layer", "architecture") if pool.get(k)]
        found.append((f"{pool['user_api']} ({pool['internal_api']})", ", ".join(parts)))
    found += [
        (name, os.environ[name])
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        if name in os.environ
    ]
    return found


def _kernels() -> list[tuple[str, str]]:
    reports = status()  # first: it loads the libraries, which may fail
    table = backends_in_use()
    found = []
    for backend in dict.fromkeys([*_PURPOSE, *reports]):
        what = _PURPOSE.get(backend, "")
        report = reports.get(backend, "")
        if backend not in table:
            line = f"not in use: {report or 'this version of nano does not have it'}"
            found.append((backend, f"{line}. Results are the same without it, only slower."))
            continue
        first, offered = table[backend], _offered(backend)
        line = f"runs{report and f' ({report})'}: {what and f'{what}; '}"
        line += f"first choice for {len(first)} of the {offered} kernels that it has"
        if len(first) < offered:
            line += ", takes the rest where a faster backend does not accept the arguments"
        found.append((backend, f"{line}."))
        found.append(("", " ".join(first)))
    return found


def _offered(backend: str) -> int:
    names = {name for names in backends_in_use().values() for name in names}
    return sum(any(c.backend == backend for c in candidates(name)) for name in names)
