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
    if library == "torch":
        model = _in_torch(args.recipe, model, "channels_last" in options)
    optimizer = _optimizer(m, recipe, model)
    cycle = OneCycle(recipe.lr, recipe.warm_up)
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
            optimizer.param_groups[0]["lr"] = cycle.at(min(step / (total - 1), 1.0))
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


def _optimizer(m: Any, recipe: Any, model: Any) -> Any:
    """The recipe's optimizer, of either library: names and arguments are the same."""
    own = recipe.optimizer([_parameter()], recipe.lr)
    group = {k: v for k, v in own.param_groups[0].items() if k != "params"}
    return getattr(m.optim, type(own).__name__)(model.parameters(), **group)


def _parameter() -> Any:
    import nano

    return nano.nn.Parameter(nano.zeros(1))


def _mixed(m: Any, library: str, precision: str) -> Any:
    if precision == "float32":
        return nullcontext()
    return m.autocast("cpu", m.bfloat16) if library == "torch" else m.autocast(dtype=m.bfloat16)


if __name__ == "__main__":
    main()
