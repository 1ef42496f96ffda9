"""The command ``nanodl``: train, eval, predict, doctor.

Exit status: 0 done, 1 a fault (one message on standard error), 2 a wrong command line,
128 + n stopped by signal n (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import NanoError
from .runs import BEST, FILES, LAST, alone_in, load_run, make_room, precision_of, setup_of

__all__ = ["main"]

_SIGINT = 2
#: Here by hand, as making the recipes takes longer than saying what is wrong in a command.
_RECIPES = ("digits", "mnist", "lenet", "alexnet", "resnet20")
_PRECISIONS = ("float32", "bfloat16")


class _Parser(argparse.ArgumentParser):
    """Whose errors say what there is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n\n{self.format_help()}")


def _argument(
    convert: Callable[[str], Any], fits: Callable[[Any], bool], expected: str
) -> Callable[[str], Any]:
    """What argparse calls to read an argument, and an error that says what is expected."""

    def read(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return read


_count = _argument(int, lambda n: n > 0, "a positive whole number")
_rate = _argument(float, lambda x: 0 < x < float("inf"), "a positive number")
_seed = _argument(int, lambda n: -(2**63) <= n < 2**64, "a whole number of at most 64 bits")
# An empty name is mostly a shell variable that is not set.
_name = _argument(str, bool, "a name")


def _build_parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(
        prog="nanodl", description="Train networks with nano, and use them.", add_help=True
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.add_argument("--version", action="version", version=f"nano {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Parser
    )
    train = commands.add_parser(
        "train",
        help="train a network, or go on training one",
        description="Train a network. It leaves best.safetensors, last.safetensors, history.csv, "
        "curves.png and confusion.png in its folder. If an earlier run is there, that is kept: "
        "its folder is renamed to NAME-1, NAME-2 and so on.",
    )
    train.add_argument(
        "recipe",
        choices=_RECIPES,
        help="what to learn: digits (those inside scikit-learn) with a perceptron; MNIST with one "
        "(mnist), with LeNet or AlexNet; CIFAR-10 with ResNet-20",
    )
    train.add_argument("--epochs", type=_count, metavar="N", help="passes over the data, in all")
    train.add_argument("--batch-size", type=_count, metavar="N", help="samples in a step")
    train.add_argument("--lr", type=_rate, metavar="X", help="highest learning rate")
    train.add_argument("--seed", type=_seed, metavar="N", help="of all random numbers")
    train.add_argument(
        "--precision",
        choices=_PRECISIONS,
        help="float32 (default), or bfloat16 for products, which is faster where the processor "
        "has instructions for it",
    )
    train.add_argument(
        "--compile",
        action="store_true",
        default=None,
        help="run the training step as a compiled program; faster after the first steps",
    )
    train.add_argument(
        "--limit", type=_count, metavar="N", help="train on the first N images only, for a try"
    )
    train.add_argument(
        "--out", type=_name, metavar="DIR", help="folder of the run (default runs/RECIPE)"
    )
    train.add_argument(
        "--resume", type=_name, metavar="RUN", help="go on with the run in this folder"
    )
    evaluate = commands.add_parser("eval", help="evaluate the best weights of a run")
    predict = commands.add_parser("predict", help="say what is in a picture")
    for command in (evaluate, predict):
        command.add_argument(
            "run", type=_name, metavar="RUN", help="folder of a run, such as runs/digits"
        )
    for command in (train, evaluate):
        command.add_argument(
            "--data", type=_name, metavar="DIR", help="folder of the data files (not for digits)"
        )
        command.add_argument(
            "--threads", type=_count, metavar="N", help="threads that compute (default: one a core)"
        )
    evaluate.add_argument(
        "--views",
        action="store_true",
        help="average what is guessed for ten views of each image: moved by a pixel, and mirrored "
        "(resnet20)",
    )
    predict.add_argument(
        "image",
        type=_name,
        metavar="IMAGE",
        help="picture of one digit, or for CIFAR-10 of one thing, of any size",
    )
    doctor = commands.add_parser("doctor", help="versions, machine, threads, kernels in use")
    return parser, {"train": train, "eval": evaluate, "predict": predict, "doctor": doctor}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a question mark instead.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser, commands = _build_parser()
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            commands[arguments.command].error(f"there is no option {' '.join(unknown)}")
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    try:
        _COMMANDS[arguments.command](arguments, commands[arguments.command])
    except SystemExit as error:
        return int(error.code or 0)
    except KeyboardInterrupt as error:
        print(f"\nnanodl: {str(error) or 'stopped'}.", file=sys.stderr)
        return 128 + getattr(error, "signum", _SIGINT)
    except BrokenPipeError:
        # Who read our output has gone; Python must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NanoError, OSError) as error:
        if arguments.traceback:
            raise
        print(f"nanodl: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        if arguments.traceback:
            raise
        print(
            f"nanodl: {error}.\n    pip install 'nano-dl[train]' brings what the command needs.",
            file=sys.stderr,
        )
        return 1
    return 0


@contextmanager
def _computing(arguments: argparse.Namespace) -> Iterator[None]:
    """With the threads asked for, and numbers too small to matter, which are slow, as zero."""
    from .backends import threads

    before = threads.get_num_threads()
    if arguments.threads:
        threads.set_num_threads(arguments.threads)
    threads.set_flush_denormal(True)
    try:
        yield
    finally:
        threads.set_flush_denormal(False)
        threads.set_num_threads(before)


# train ------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace, parser: _Parser) -> None:
    from rich.console import Console

    from .data import Subset
    from .recipes import RECIPES
    from .train import Progress

    recipe = RECIPES[arguments.recipe]
    out, setup = _plan(arguments, parser, recipe)
    console = Console()
    train_data, held_out_data = (recipe.load(setup["data"], train) for train in (True, False))
    if setup["limit"]:
        train_data = Subset(train_data, range(min(setup["limit"], len(train_data))))
    trainer = recipe.trainer(
        train_data,
        held_out_data,
        batch_size=setup["batch_size"],
        lr=setup["lr"],
        seed=setup["seed"],
        callbacks=[Progress(console)],
        out=out,
        about=setup,
        precision=setup["precision"],
        compile=setup["compile"],
    )
    if arguments.resume:
        trainer.load(out / LAST)
        begun = trainer.epoch + bool(trainer.batch)
        if arguments.epochs and arguments.epochs < begun:
            parser.error(f"--epochs: the run in {out} is in epoch {begun} already")
        _say(console, f"Resuming {out} after epoch {trainer.epoch}, step {trainer.step}.")
    else:
        kept = make_room(out)
        if kept:
            _say(console, f"The earlier run in {out} is now {kept}.")
    if trainer.epoch == setup["epochs"]:
        _say(
            console,
            f"It is complete: {trainer.epoch} of {trainer.epoch} epochs. To train further, give a "
            "larger number with --epochs.",
        )
    else:
        _say(
            console,
            f"Training {recipe.network} on the {recipe.title}: {len(train_data):,} images, "
            f"{len(held_out_data):,} held out; results go to {out}.",
        )
    started = time.perf_counter()
    with alone_in(out):
        try:
            with _computing(arguments):
                trainer.fit(setup["epochs"])
        except KeyboardInterrupt as error:
            error.args = (f"{str(error) or 'stopped'}; go on with: {_to_resume(recipe, out)}",)
            raise
        finally:
            _draw(trainer, out, f"{recipe.network} · {recipe.title}")
    seconds = time.perf_counter() - started
    with _computing(arguments):
        results = _evaluated_best(trainer, recipe, held_out_data, out)
    _report_training(console, trainer, recipe, results, out, seconds)


def _plan(
    arguments: argparse.Namespace, parser: _Parser, recipe: Any
) -> tuple[Path, dict[str, Any]]:
    """The folder of a run, and how it is set up: by its recipe, its past and the command line."""
    if arguments.data and not recipe.takes_folder:
        parser.error(f"--data: {recipe.name} comes inside scikit-learn and has no folder")
    if arguments.resume and arguments.out:
        parser.error("--out and --resume: a resumed run stays in its folder; give one of them")
    setup = {
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "lr": recipe.lr,
        "seed": recipe.seed,
        "data": None,
        "precision": "float32",
        "compile": False,
        "limit": None,
    }
    if arguments.resume:
        out = Path(arguments.resume)
        setup |= setup_of(out, recipe.name)
        for option in ("batch_size", "seed", "precision", "limit"):
            if getattr(arguments, option) not in (None, setup[option]):
                parser.error(
                    f"--{option.replace('_', '-')}: a resumed run keeps its own, "
                    f"{setup[option] or 'none'}"
                )
        with alone_in(out):
            pass  # before the data are loaded and anything is said
    else:
        out = Path(arguments.out or Path("runs") / recipe.name)
    given = {name: getattr(arguments, name) for name in setup if name != "recipe"}
    setup |= {k: v for k, v in given.items() if v is not None}
    if arguments.data:
        setup["data"] = str(Path(arguments.data).resolve())
    return out, setup


def _to_resume(recipe: Any, out: Path) -> str:
    return shlex.join(["nanodl", "train", recipe.name, "--resume", str(out)])


def _say(console: Any, text: str) -> None:
    """A line as it is: no word of it is markup or a number to colour, and none is broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _draw(trainer: Any, out: Path, title: str) -> None:
    """The curves; what kept training from its end, if anything did, is not to be hidden."""
    from .viz import draw_curves

    if trainer.history and out.is_dir():
        with _pictures_are_extra("curves"):
            draw_curves(trainer.history, out / "curves.png", title)


@contextmanager
def _pictures_are_extra(name: str) -> Iterator[None]:
    """A picture that cannot be drawn is said to be missing; the results stand without it."""
    try:
        yield
    except (NanoError, ImportError) as error:
        print(f"nanodl: no {name}: {error}", file=sys.stderr)


def _evaluated_best(trainer: Any, recipe: Any, held_out: Any, out: Path) -> Any:
    """The results of the best weights on the held-out images."""
    from . import checkpoint
    from .results import evaluate

    weights, _ = checkpoint.load(out / BEST)
    trainer.model.load_state_dict(weights)
    return evaluate(recipe, trainer.model, held_out, trainer.precision)


def _report_training(
    console: Any, trainer: Any, recipe: Any, results: Any, out: Path, seconds: float
) -> None:
    from .results import print_results
    from .viz import confusion_matrix

    last, best = trainer.history[-1], trainer.best["epoch"]
    title = f"Held-out {recipe.title}, weights of epoch {best} (the best)"
    print_results(console, title, recipe.classes, results)
    with _pictures_are_extra("confusion matrix"):
        title = f"{recipe.network} · held-out {recipe.title}, epoch {best}"
        confusion_matrix(results.counts, out / "confusion.png", recipe.classes, title)
    console.print(
        "The best epoch was chosen on these images, which flatters it. Weights of the last epoch "
        f"({last['epoch']}): accuracy {last['held_out_accuracy']:.2%}, "
        f"mean loss {last['held_out_loss']:.4f}. Training took {seconds:.1f} s.",
        highlight=False,
        soft_wrap=True,
    )
    if recipe.views:
        command = shlex.join(["nanodl", "eval", str(out), "--views"])
        _say(console, f"The mean over ten views of each image: {command}")
    there = sorted(name for name in FILES if (out / name).exists())
    _say(console, f"In {out}: {', '.join(there)}.")


# eval and predict -------------------------------------------------------------------------


def _evaluate(arguments: argparse.Namespace, parser: _Parser) -> None:
    from rich.console import Console

    from .results import evaluate, print_results

    recipe, model, about = load_run(Path(arguments.run))
    if arguments.data and not recipe.takes_folder:
        parser.error(f"--data: {recipe.name} comes inside scikit-learn and has no folder")
    if arguments.views and not recipe.views:
        parser.error(f"--views: {recipe.name} has none; mirrored, its images are others")
    data = recipe.load(arguments.data or about["run"].get("data"), False)
    with _computing(arguments):
        results = evaluate(recipe, model, data, precision_of(about), arguments.views)
    epoch = about["row"]["epoch"]
    title = f"Held-out {recipe.title}, weights of epoch {epoch} (the best) of {arguments.run}"
    if arguments.views:
        title += ", the mean over ten views of each image"
    print_results(Console(), title, recipe.classes, results)


def _predict(arguments: argparse.Namespace, parser: _Parser) -> None:
    from rich.console import Console

    from .results import print_guess, probabilities

    recipe, model, about = load_run(Path(arguments.run))
    pixels = recipe.picture(arguments.image)
    chances = probabilities(recipe, model, pixels, precision_of(about))
    print_guess(Console(), pixels, recipe.classes, chances)


# doctor -----------------------------------------------------------------------------------


def _doctor(arguments: argparse.Namespace, parser: _Parser) -> None:
    # Without rich, for it is also to say that rich is missing.
    from .doctor import findings

    width = max(shutil.get_terminal_size().columns, 40)
    for heading, pairs in findings().items():
        print(heading)
        margin = max(len(name) for name, _ in pairs) + 4
        for name, value in pairs:
            lines = textwrap.wrap(value, width - margin, break_on_hyphens=False)
            print(f"  {name:{margin - 2}}" + ("\n" + " " * margin).join(lines))
        print()


_COMMANDS = {"train": _train, "eval": _evaluate, "predict": _predict, "doctor": _doctor}
