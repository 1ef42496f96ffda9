"""Without Numba, or with one that cannot be imported, the reference kernels serve."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
from nano.backends import explain, kernels, status
x = np.arange(40000, dtype=np.float32).reshape(200, 200) / 40000
y = kernels.softmax(x, axis=1)
np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)
print(explain("softmax", x, 1))
print(status().get("fused"))
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_switched_off():
    assert "reference runs" in run(NANO_FUSED="off")
    assert "NUMBA_DISABLE_JIT" in run(NUMBA_DISABLE_JIT="1")


def test_a_numba_that_cannot_be_imported(tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less')")
    said = run(PYTHONPATH=str(tmp_path))
    assert "reference runs" in said
    assert "cannot be imported: Numba needs NumPy 1.0 or less" in said


def test_present():
    pytest.importorskip("numba")
    said = run()
    assert "fused runs" in said
    assert "Numba" in said
