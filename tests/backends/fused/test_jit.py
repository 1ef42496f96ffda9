"""Compiled code that cannot be kept, or is gone, is compiled anew: no kernel fails for it."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("numba")

from nano.backends.fused import jit

CODE = """
{before}
import shutil
import numpy as np
from nano.backends.fused import jit
from nano.backends.fused.generated import generated_function, generated_kernel

source = "def fill(y):\\n    y[:] = 3\\n"
kernel = generated_kernel(source, "fill")
{event}
y = np.zeros(4, np.float32)
kernel.serial(y)
assert (y == 3).all()
assert generated_function("def nothing(i):\\n    pass\\n", "nothing", "void(int64)")
print(kernel.serial.stats.cache_path is not None, sum(kernel.serial.stats.cache_hits.values()))
"""

#: The folder as one that only can be read: for root, too, whom permissions do not hold back.
READ_ONLY = """
import os
import sys

def refuse(event, args):
    if event == "open":
        writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        writes = event in ("os.rename", "os.remove", "os.utime", "os.rmdir") or (
            event == "os.mkdir" and not os.path.exists(args[0])
        )
    if writes and str(args[0]).startswith(os.environ["NANO_CACHE_DIR"]):
        raise PermissionError(13, "Permission denied", args[0])

sys.addaudithook(refuse)
"""


def run(tmp_path, event="", before=""):
    """Whether compiled code has a folder, and how often a kernel was found there."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(event=event, before=before)],
        env={**os.environ, "NANO_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    has_folder, found = done.stdout.split()
    return has_folder == "True", int(found)


def kept(tmp_path):
    """All files and when they were written."""
    return {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}


def test_it_is_kept(tmp_path):
    assert run(tmp_path) == (True, 0)
    before = kept(tmp_path)
    assert len([f for f in before if f.suffix == ".nbc"]) == 2
    assert run(tmp_path) == (True, 1)
    assert {f: t for f, t in kept(tmp_path).items() if f.is_file()} == {
        f: t for f, t in before.items() if f.is_file()
    }


def test_a_folder_that_only_can_be_read(tmp_path):
    assert run(tmp_path) == (True, 0)
    before = kept(tmp_path)
    assert run(tmp_path, before=READ_ONLY) == (True, 1)
    # What is not there is compiled, and not kept.
    other = """kernel = generated_kernel(source + "# another\\n", "fill")"""
    assert run(tmp_path, other, READ_ONLY) == (False, 0)
    assert kept(tmp_path) == before


def test_an_empty_folder_that_only_can_be_read(tmp_path):
    (tmp_path / "cache").mkdir()
    assert run(tmp_path, before=READ_ONLY) == (False, 0)
    assert [f.name for f in kept(tmp_path)] == ["cache"]


def test_nothing_is_compiled_ahead_where_it_cannot_be_kept(tmp_path, monkeypatch):
    compiled = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)), py_func=run)
    assert not jit._on_disk(compiled)
    monkeypatch.setattr(jit, "_takes_files", lambda folder: False)
    assert jit._on_disk(compiled)


def test_somebody_clears_the_folder(tmp_path):
    assert run(tmp_path, "shutil.rmtree(jit._folder())") == (False, 0)
    assert run(tmp_path) == (True, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="limits are those of Unix")
def test_the_disk_is_full(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert run(tmp_path, limit) == (True, 0)
    assert not list(tmp_path.rglob("*.nbc"))
