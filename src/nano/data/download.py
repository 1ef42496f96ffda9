"""Files of data sets from the network: a file appears whole and checked, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError

__all__ = ["fetch"]

_TIMEOUT_SECONDS = 30


def fetch(
    owner: str,
    target: Path,
    addresses: Sequence[str],
    check: Callable[[Path], Any],
    hint: str,
) -> None:
    """Write ``target`` from the first address that has what passes ``check``.

    Args:
        owner: the data set, for messages.
        check: raises a DataError for a file that is not the right one.
        hint: what to do without a network.

    Raises:
        RuntimeError: if none has it, or the package pooch is missing.
    """
    try:
        import pooch
    except ImportError:
        raise DataError(
            owner,
            f"{target.name} is not in {target.parent}, and downloading it needs the package pooch.",
            hint="pip install 'nano-dl[train]'",
        ) from None
    partial = target.parent / f".{os.getpid()}.partial" / target.name
    faults = []
    for address in addresses:
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            download = pooch.HTTPDownloader(progressbar=_Bar(target.name), timeout=_TIMEOUT_SECONDS)
            download(address, str(partial), None)
            check(partial)
            os.replace(partial, target)
            return
        except (OSError, DataError) as error:  # requests' errors are OSErrors
            faults.append(f"{address.removesuffix(target.name)} ({_reason(error)})")
        finally:
            partial.unlink(missing_ok=True)
            if partial.parent.exists():
                partial.parent.rmdir()
    raise DataError(
        owner,
        f"{target.name} is not in {target.parent} and could not be downloaded.",
        facts="\n    ".join(faults),
        hint=hint,
    )


def _reason(error: Exception) -> str:
    """What was wrong at the bottom of it, in one line."""
    if isinstance(error, DataError):
        return str(error).splitlines()[-2].strip()
    # A failed connection comes wrapped three times, and only the innermost says what it was.
    while error.args and isinstance(inner := error.args[0], Exception):
        error = getattr(inner, "reason", None) or inner
    return str(error).splitlines()[0].rpartition("): ")[2]


class _Bar:
    """A progress bar as pooch wants it, drawn by rich."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

        self.total = 0
        console = Console(stderr=True)
        columns = (
            "{task.description}",
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        self._progress: Any = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(f"downloading {name}", total=None)
        self._progress.start()

    def update(self, size: int) -> None:
        self._progress.update(self._task, total=self.total, advance=size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
