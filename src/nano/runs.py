"""The folder of a run: who may write there, what earlier runs left, and what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import checkpoint
from .errors import CheckpointError, InputError

__all__ = [
    "BEST",
    "FILES",
    "LAST",
    "alone_in",
    "existing",
    "load_run",
    "make_room",
    "precision_of",
    "setup_of",
]

#: The weights after the last epoch, and after the best.
LAST, BEST = "last.safetensors", "best.safetensors"
#: What a run leaves in its folder.
FILES = {LAST, BEST, "history.csv", "curves.png", "confusion.png"}


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep a second process from training into the same folder at the same time.

    The lock is on the folder itself, so it leaves no file behind and ends with the process.
    """
    try:
        import fcntl  # where there is none, as on Windows, two runs are not kept apart
    except ImportError:
        yield
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "train",
                f"another process is training in {out} at this moment.",
                hint="Wait for it to end, or give another folder with --out.",
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(folder)


def make_room(out: Path) -> Path | None:
    """Make the folder ``out``; an earlier run there is renamed, never overwritten."""
    kept = None
    try:
        names = {p.name for p in out.iterdir()} if out.exists() else set()
        names = {n for n in names if not n.endswith(".partial")}
        if names & FILES:
            if names - FILES:
                raise InputError(
                    "train",
                    f"{out} holds an earlier run and other files ({min(names - FILES)} ...).",
                    hint="Give another folder with --out, or go on with --resume.",
                )
            number = 1
            with alone_in(out):
                pass
            while (kept := out.with_name(f"{out.resolve().name}-{number}")).exists():
                number += 1
            out.rename(kept)
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise CheckpointError(
            "train",
            f"{out} cannot be written to ({error.strerror}).",
            hint="Give another folder with --out.",
        ) from None
    return kept


def existing(folder: Path, name: str) -> Path:
    """The file of that name in the folder of a run."""
    if not folder.is_dir():
        raise CheckpointError(
            "run",
            f"{folder} is a file, not the folder of a run."
            if folder.exists()
            else f"there is no folder {folder}.",
            hint="A run is the folder that nanodl train wrote, such as runs/digits.",
        )
    if not (folder / name).exists():
        raise CheckpointError("run", f"{folder} holds no run: there is no {name}.")
    return folder / name


def setup_of(out: Path, recipe: str) -> dict[str, Any]:
    """How the run to be resumed was set up."""
    _, saved = checkpoint.load(existing(out, LAST))
    setup = saved.get("run")
    setup = setup if isinstance(setup, dict) else {}
    if setup.get("recipe") != recipe:
        raise InputError(
            "train",
            f"the run in {out} is of {setup.get('recipe', 'another kind')}, not of {recipe}.",
        )
    return setup


def load_run(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """The recipe, the model with its best weights, and what the checkpoint says of them."""
    from .recipes import RECIPES  # making the recipes takes longer than saying what is amiss

    weights, about = checkpoint.load(existing(folder, BEST))
    run = about.get("run")
    recipe = RECIPES.get(run.get("recipe", "")) if isinstance(run, dict) else None
    if recipe is None:
        raise CheckpointError("run", f"{folder / BEST} does not say what it was trained on.")
    model = recipe.model()
    model.load_state_dict(weights)
    return recipe, model.eval(), about


def precision_of(about: dict[str, Any]) -> str:
    """What a run computed in; runs of before there was a choice do not say it."""
    return about["run"].get("precision", "float32")
