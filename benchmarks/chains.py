"""Chains of operators that only move memory: ``python -m benchmarks.chains``.

Each is a function of large arrays, compiled and one operator after the other, by nano and by
PyTorch, in turn. What counts is how close it comes to a plain copy: the bytes that a single
pass has to read and to write, over the time taken.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.duel import THREADS, Side, in_turn

#: Rows and columns: 32 MB an array, more than a processor's caches hold.
ROWS, COLUMNS = 16384, 512


@dataclass(frozen=True)
class Chain:
    """A function of a library's tensors.

    Attributes:
        title: as it stands in the table.
        run: given the library's ``nn.functional`` and the tensors.
        arrays: how many (ROWS, COLUMNS) tensors it is given; rows of COLUMNS numbers follow.
        rows: how many of those.
        results: how many large arrays it makes.
    """

    title: str
    run: Callable[..., Any]
    arrays: int
    rows: int
    results: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes that a single pass reads and writes."""
        return 4 * COLUMNS * ((self.arrays + self.results) * ROWS + self.rows)


def _layer_norm(f: Any, x: Any, weight: Any, bias: Any) -> Any:
    return f.layer_norm(x, (COLUMNS,), weight, bias)


def _residual(f: Any, x: Any, skip: Any, weight: Any, bias: Any) -> Any:
    x = x + skip
    return x, f.layer_norm(x, (COLUMNS,), weight, bias)


CHAINS = {
    "copy": Chain("a plain copy", lambda f, x: x.clone(), 1, 0),
    "gelu": Chain("bias, GELU", lambda f, x, bias: f.gelu(x + bias), 1, 1),
    "tanh": Chain(
        "bias, GELU by tanh", lambda f, x, bias: f.gelu(x + bias, approximate="tanh"), 1, 1
    ),
    "softmax": Chain("softmax of rows", lambda f, x: f.softmax(x, -1), 1, 0),
    "scaled": Chain(
        "scale, mask, softmax", lambda f, x, mask: f.softmax(x * 0.125 + mask, -1), 1, 1
    ),
    "norm": Chain("layer norm", _layer_norm, 1, 2),
    "residual": Chain("residual, layer norm", _residual, 2, 2, 2),
    "swish": Chain("x sigmoid(x) y", lambda f, x, y: x * x.sigmoid() * y, 2, 0),
}


class _Cases(dict[str, Callable[[], Any]]):
    """The chains of a side, built when they are asked for; only the last one is kept."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self.side = side

    def __missing__(self, name: str) -> Callable[[], Any]:
        self.clear()
        self[name] = _build(self.side, CHAINS[name])
        return self[name]


def cases(side: str) -> _Cases:
    """What :mod:`benchmarks.duel` asks for."""
    return _Cases(side)


def _build(side: str, chain: Chain) -> Callable[[], Any]:
    library, _, compiled = side.partition("+")
    m = importlib.import_module(library)
    m.set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    shapes = [(ROWS, COLUMNS)] * chain.arrays + [(COLUMNS,)] * chain.rows
    tensors = [m.from_numpy(rng.standard_normal(s, dtype=np.float32)) for s in shapes]
    functional = importlib.import_module(f"{library}.nn.functional")

    def run(*tensors: Any) -> Any:
        with m.no_grad():
            return chain.run(functional, *tensors)

    if compiled:
        run = m.compile(run)
    return lambda: run(*tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("chains", nargs="*", help=f"some of {', '.join(CHAINS)}")
    args = parser.parse_args()
    names = ["nano+compile", "nano", "torch"]
    # Without a C++ compiler, torch.compile has nothing to offer.
    names += ["torch+compile"] * (shutil.which("g++") is not None)
    sides = [Side("benchmarks.chains", name) for name in names]
    try:
        print(f"GB/s, float32, {ROWS} x {COLUMNS}, {THREADS} threads, and the share of the copy\n")
        print(f"{'':24}" + "".join(f"{name:>18}" for name in names))
        plain = 0.0
        for name in ["copy", *[c for c in args.chains or CHAINS if c != "copy"]]:
            taken = in_turn(sides, name, args.rounds, 0.1)
            chain = CHAINS[name]
            rates = [
                chain.nbytes / statistics.median(r[i] for r in taken) / 1e9
                for i in range(len(sides))
            ]
            plain = plain or max(rates)
            cells = "".join(f"{rate:11.1f}{rate / plain:6.0%} " for rate in rates)
            print(f"{chain.title:24}{cells}", flush=True)
    finally:
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
