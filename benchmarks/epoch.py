"""Whole epochs of a recipe by nano and by PyTorch: ``python -m benchmarks.epoch resnet20``.

Both get the same batches from nano's loader (same order, same augmentation), the same first
weights, optimizer, schedule and loss, so that seconds and accuracy can be laid side by side.
Each library runs in a process of its own, one after the other; with ``--epochs`` both train
to the end. It takes minutes: 391 steps an epoch on CIFAR-10.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

from benchmarks.duel import ROOT, THREADS

SIDES = ("nano", "torch", "torch+channels_last")
RECIPES = ("lenet", "alexnet", "resnet20")


def main() -> None:
    args = _arguments()
    if args.side:
        for row in epochs(args.side, args):
            print(json.dumps(row), flush=True)
        return
    threads = str(THREADS)
    env = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    print(
        f"{args.recipe}, {args.precision}, {THREADS} threads; seconds of training, without tests."
    )
    print(f"{'':22}{'epoch':>8}{'seconds':>10}{'train loss':>12}{'accuracy':>10}")
    for side in args.sides.split(","):
        command = [sys.executable, "-m", "benchmarks.epoch", *sys.argv[1:], "--side", side]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as run:
            assert run.stdout is not None
            for line in run.stdout:
                row = json.loads(line)
                print(
                    f"{side:22}{row['epoch']:8}{row['seconds']:10.1f}{row['loss']:12.4f}"
                    f"{row['accuracy']:10.2%}",
                    flush=True,
                )
        if run.returncode:
            sys.exit(f"the process of {side} failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data", required=True, type=os.path.abspath, help="folder of the data")
    parser.add_argument("--epochs", type=int, default=1, help="how many are trained")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--limit", type=int, help="batches of an epoch, for a try")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"some of {','.join(SIDES)}")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser.parse_args()


def epochs(side: str, args: argparse.Namespace) -> Any:
    """Train on ``side``; a row for each epoch."""
    import nano
    from nano.recipes import RECIPES as KNOWN
    from nano.train import OneCycle

    library, *options = side.split("+")
    m = importlib.import_module(library)
    m.set_num_threads(THREADS)
    m.set_flush_denormal(True)
    recipe = KNOWN[args.recipe]
    nano.manual_seed(recipe.seed)
    model = recipe.model()
    order = nano.Generator().manual_seed(recipe.seed)
    train = recipe.loader(recipe.load(args.data, True), recipe.batch_size, order)
    held_out = recipe.loader(recipe.load(args.data, False))
    optimizer: Any = recipe.optimizer(model.parameters(), recipe.lr)
    if library == "torch":
        ours = model
        model = _in_torch(args.recipe, ours, "channels_last" in options)
        optimizer = _torch_optimizer(optimizer, ours, model)
    cycle = OneCycle([group["lr"] for group in optimizer.param_groups], recipe.warm_up)
    count = min(args.limit or len(train), len(train))
    total, step = recipe.epochs * count, 0
    cross_entropy = m.nn.functional.cross_entropy

    def converted(batch: Any) -> Any:
        return batch if library == "nano" else [m.from_numpy(t.numpy()) for t in batch]

    for epoch in range(args.epochs):
        model.train()
        start, summed = time.perf_counter(), 0.0
        for batch, _ in zip(train, range(count), strict=False):
            x, y = converted(batch)
            if library == "torch" and "channels_last" not in options:
                x = x.contiguous()
            for i, group in enumerate(optimizer.param_groups):
                group["lr"] = cycle.at(min(step / (total - 1), 1.0), i)
            with _mixed(m, library, args.precision):
                loss = cross_entropy(model(x), y)
            summed += loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        seconds = time.perf_counter() - start
        model.eval()
        right = seen = 0
        with m.no_grad():
            for batch in held_out:
                x, y = converted(batch)
                right += int((model(x).argmax(1) == y).sum())
                seen += len(y)
        yield {
            "epoch": epoch + 1,
            "seconds": seconds,
            "loss": summed / count,
            "accuracy": right / seen,
        }


def _in_torch(name: str, model: Any, channels_last: bool) -> Any:
    """PyTorch's model of that name with the weights of nano's."""
    import torch

    from benchmarks import peers

    theirs = getattr(peers, name)()
    theirs.load_state_dict({k: torch.tensor(t.numpy()) for k, t in model.state_dict().items()})
    return theirs.to(memory_format=torch.channels_last) if channels_last else theirs


def _torch_optimizer(own: Any, ours: Any, theirs: Any) -> Any:
    """PyTorch's optimizer of that name, with the same options for the same parameters."""
    import torch

    twins = dict(zip(map(id, ours.parameters()), theirs.parameters(), strict=True))
    groups = [{**g, "params": [twins[id(p)] for p in g["params"]]} for g in own.param_groups]
    name = type(own).__name__
    return _Muon(groups) if name == "Muon" else getattr(torch.optim, name)(groups)


class _Muon:
    """PyTorch's Muon for kernels of convolutions, of which it is shown matrices.

    They show the kernels' own memory, their columns in its order: the singular values, and with
    them the steps, do not depend on that order. What is not to be made orthogonal is left to
    SGD, as is usual in PyTorch.
    """

    def __init__(self, groups: Any) -> None:
        import torch

        self.param_groups: list[dict[str, Any]] = []
        self._pairs, self._parts = [], []
        for group in groups:
            options = {k: v for k, v in group.items() if k not in ("params", "orthogonalize")}
            if group["orthogonalize"]:
                matrices = [_matrix(p.detach()) for p in group["params"]]
                self._pairs += zip(group["params"], matrices, strict=True)
                part: Any = torch.optim.Muon(matrices, **options)
            else:
                # Its velocity is the sum, not the mean, of what came before.
                momentum = group["momentum"]
                part = torch.optim.SGD(
                    group["params"],
                    group["lr"],
                    momentum,
                    weight_decay=group["weight_decay"],
                    nesterov=group["nesterov"],
                )
                part.param_groups[0]["share"] = 1 - momentum
            self._parts.append(part)
            self.param_groups.append(group)

    def zero_grad(self) -> None:
        for part in self._parts:
            part.zero_grad()
        for p, _ in self._pairs:
            p.grad = None

    def step(self) -> None:
        for p, matrix in self._pairs:
            matrix.grad = _matrix(p.grad)
        for group, part in zip(self.param_groups, self._parts, strict=True):
            (own,) = part.param_groups
            own["lr"] = group["lr"] * own.get("share", 1)
            part.step()


def _matrix(kernel: Any) -> Any:
    """(out, in, h, w) as (out, all else), without a copy."""
    import torch

    if kernel.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.reshape(len(kernel), -1)


def _mixed(m: Any, library: str, precision: str) -> Any:
    if precision == "float32":
        return nullcontext()
    return m.autocast("cpu", m.bfloat16) if library == "torch" else m.autocast(dtype=m.bfloat16)


if __name__ == "__main__":
    main()
