"""Writing a figure to a file: whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import DataError

__all__ = ["write"]


def write(figure: Any, path: str | os.PathLike[str], owner: str) -> None:
    """Write ``figure`` as PNG.

    Raises:
        RuntimeError: if it cannot be written; what stood at ``path`` stays.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        figure.savefig(partial, format="png")
        os.replace(partial, target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(owner, f"{target} cannot be written ({error.strerror}).") from None
