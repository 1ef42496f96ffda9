"""Convolutions of LeNet, ResNet-18, ResNet-20 and AlexNet: ``python -m benchmarks.convolution``.

Forward, the gradient of the input and that of the weight: nano's kernels beside PyTorch's
operators, both channels-last, in turn, in billions of operations a second; and what one large
product reaches.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.duel import THREADS, Side, in_turn
from benchmarks.steps import PRODUCT_CASE, flops
from benchmarks.steps import build as build_step


@dataclass(frozen=True)
class Shape:
    """One convolution: (n, c, size, size) images, ``out`` channels, a square kernel."""

    n: int
    c: int
    size: int
    out: int
    kernel: int = 3
    stride: int = 1
    padded: bool = True

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.padded else 0

    @property
    def out_size(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        per_pixel = 2 * self.c * self.kernel**2
        return self.n * self.out * self.out_size**2 * per_pixel

    def __str__(self) -> str:
        stride = f" /{self.stride}" if self.stride > 1 else ""
        images = f"{self.n}x{self.c}x{self.size}x{self.size}"
        return f"{images} -> {self.out}, {self.kernel}x{self.kernel}{stride}"


NETWORKS = {
    "LeNet, 128": [Shape(128, 1, 28, 6, 5), Shape(128, 6, 14, 16, 5, padded=False)],
    "ResNet-18, 64": [
        Shape(64, 3, 32, 64),
        Shape(64, 64, 32, 64),
        Shape(64, 64, 32, 128, stride=2),
        Shape(64, 64, 32, 128, 1, 2),
        Shape(64, 128, 16, 128),
        Shape(64, 128, 16, 256, stride=2),
        Shape(64, 256, 8, 256),
        Shape(64, 256, 8, 512, stride=2),
        Shape(64, 512, 4, 512),
    ],
    "ResNet-20, 128": [
        Shape(128, 3, 32, 16),
        Shape(128, 16, 32, 16),
        Shape(128, 16, 32, 32, stride=2),
        Shape(128, 32, 16, 32),
        Shape(128, 32, 16, 64, stride=2),
        Shape(128, 64, 8, 64),
    ],
    "AlexNet, 128": [
        Shape(128, 1, 28, 64),
        Shape(128, 64, 14, 192),
        Shape(128, 192, 7, 384),
        Shape(128, 384, 7, 256),
        Shape(128, 256, 7, 256),
    ],
}
SHAPES = {str(s): s for shapes in NETWORKS.values() for s in shapes}
DIRECTIONS = ("forward", "input", "weight")


class Convolutions(dict[str, Callable[[], Any]]):
    """The cases of a side, ``"<direction> <shape>"``; only the last shape's are kept."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self.side = side

    def __missing__(self, name: str) -> Callable[[], Any]:
        self.clear()
        library, *options = self.side.split("+")
        if name == PRODUCT_CASE:
            self[name] = build_step(self.side, name)
        else:
            shape = name.partition(" ")[2]
            build = _nano if library == "nano" else _torch
            directions = build(SHAPES[shape], "bf16" in options)
            self.update({f"{d} {shape}": directions[d] for d in DIRECTIONS})
        return self[name]


def cases(side: str) -> Convolutions:
    """What :mod:`benchmarks.duel` asks for."""
    return Convolutions(side)


def _arrays(s: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and result, channels-last, and the weight."""
    rng = np.random.default_rng(0)

    def images(channels: int, size: int) -> np.ndarray:
        drawn = rng.standard_normal((s.n, size, size, channels), dtype=np.float32)
        return drawn.transpose(0, 3, 1, 2)

    weight = rng.standard_normal((s.out, s.c, s.kernel, s.kernel), dtype=np.float32)
    return images(s.c, s.size), images(s.out, s.out_size), weight


def _nano(s: Shape, half: bool) -> dict[str, Callable[[], Any]]:
    import nano
    from nano.backends import kernels

    nano.set_num_threads(THREADS)
    x, g, w = _arrays(s)
    if half:
        x, g, w = (a.astype(nano.bfloat16.numpy) for a in (x, g, w))
    stride, padding, dilation = (s.stride,) * 2, ((s.padding,) * 2,) * 2, (1, 1)
    geometry = (stride, padding, dilation, 1)
    return {
        "forward": lambda: kernels.conv2d(x, w, None, *geometry),
        "input": lambda: kernels.conv_transpose2d(g, w, None, (s.size, s.size), *geometry),
        "weight": lambda: kernels.conv2d_weight(g, x, (s.kernel, s.kernel), *geometry),
    }


def _torch(s: Shape, half: bool) -> dict[str, Callable[[], Any]]:
    import torch

    torch.set_num_threads(THREADS)
    x, g, w = (torch.from_numpy(a) for a in _arrays(s))
    w = w.contiguous(memory_format=torch.channels_last)
    if half:
        x, g, w = x.bfloat16(), g.bfloat16(), w.bfloat16()
    geometry = ([s.stride] * 2, [s.padding] * 2, [1, 1])
    backward = torch.ops.aten.convolution_backward

    def gradient(mask: list[bool]) -> Callable[[], Any]:
        return lambda: backward(g, x, w, None, *geometry, False, [0, 0], 1, mask)

    return {
        "forward": lambda: torch.nn.functional.conv2d(x, w, None, *geometry),
        "input": gradient([True, False, False]),
        "weight": gradient([False, True, False]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bf16", action="store_true", help="bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    suffix = "+bf16" if args.bf16 else ""
    sides = [Side("benchmarks.convolution", library + suffix) for library in ("nano", "torch")]
    try:
        product = in_turn(sides, PRODUCT_CASE, args.rounds, 0.2)
        limit = flops(PRODUCT_CASE) / min(min(r) for r in product) / 1e9
        kind = "bfloat16" if args.bf16 else "float32"
        print(
            f"GFLOP/s, {kind}, {THREADS} threads; one large product reaches {limit:.0f}.\n"
            "ratio: time of PyTorch / time of nano; higher is better"
        )
        for network, shapes in NETWORKS.items():
            print(f"\n{network:28}" + "".join(f"{d:>24}" for d in DIRECTIONS))
            print(f"{'':28}" + f"{'nano':>9}{'PyTorch':>8}{'ratio':>7}" * len(DIRECTIONS))
            for shape in shapes:
                cells = "".join(_cell(sides, shape, d, args.rounds) for d in DIRECTIONS)
                print(f"{shape!s:28}{cells}", flush=True)
    finally:
        for side in sides:
            side.close()


def _cell(sides: list[Side], shape: Shape, direction: str, rounds: int) -> str:
    taken = in_turn(sides, f"{direction} {shape}", rounds, 0.1, warm_up=1)
    ours, theirs = (shape.flops / statistics.median(r[i] for r in taken) / 1e9 for i in (0, 1))
    ratio = statistics.median(r[1] / r[0] for r in taken)
    return f"{ours:9.0f}{theirs:8.0f}{ratio:7.2f}"


if __name__ == "__main__":
    main()
