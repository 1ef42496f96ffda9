"""Where nano reads and writes files, and the warnings it keeps quiet about."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cache_dir", "data_dir"]


def data_dir() -> Path:
    """The folder that holds data sets: ``$NANO_DATA``, else ``~/.cache/nano/data``."""
    from pathlib import Path

    if given := os.environ.get("NANO_DATA"):
        return Path(given).expanduser()
    return cache_dir() / "data"


def cache_dir() -> Path:
    """The folder for what nano can make again: ``$XDG_CACHE_HOME/nano``, else ``~/.cache/nano``."""
    from pathlib import Path

    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "nano"


# log(0) is -inf and 0 / 0 is NaN, in silence, as in PyTorch. NumPy warns of both, in the
# module that called it; np.errstate would cost more than the operator it surrounds.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nano\.")
