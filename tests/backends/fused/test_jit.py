"""Compiled code that cannot be kept, or is gone, is compiled anew: no kernel fails for it."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

CODE = """
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
print(kernel.serial.stats.cache_path is not None)
"""


def run(tmp_path, event=""):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(event=event)],
        env={**os.environ, "NANO_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip() == "True"


def test_it_is_kept(tmp_path):
    assert run(tmp_path)
    kept = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.nbc")}
    assert len(kept) == 2
    assert run(tmp_path)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.nbc")} == kept


def test_somebody_clears_the_folder(tmp_path):
    assert not run(tmp_path, "shutil.rmtree(jit._folder())")
    assert run(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits are those of Unix")
def test_the_disk_is_full(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert run(tmp_path, limit)
    assert not list(tmp_path.rglob("*.nbc"))
