"""What is compiled ahead is what a training step asks for, and nothing is started twice."""

import os
import subprocess
import sys

import pytest

import nano
import nano.nn.functional as F
from nano import nn

pytest.importorskip("numba")

from nano.backends.fused import (
    ahead,
    amx_weight,
    batch_norm,
    jit,
    optimizers,
    winograd_weight,
)


def compiled_forms():
    """For each kernel of a derivative, the types of arguments that it was compiled for."""
    found = {}
    for module in (batch_norm, optimizers, winograd_weight, amx_weight):
        for name, kernel in vars(module).items():
            if isinstance(kernel, jit.Kernel) and kernel._parallel is not None:
                found[module.__name__, name] = set(kernel._parallel.signatures)
    return found


@pytest.mark.parametrize("half", [False, True])
def test_a_training_step_finds_its_derivatives_compiled(half):
    if nano.get_num_threads() < 2:
        pytest.skip("one thread compiles nothing for several")
    ahead.compile_derivatives(half)
    before = compiled_forms()
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    optimizer = nano.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = nano.zeros(128, 64, 8, 8).to(memory_format=nano.channels_last)
    for _ in range(2):
        optimizer.zero_grad()
        with nano.autocast(enabled=half):
            y = net(x)
        F.adaptive_avg_pool2d(y, 1).square().sum().backward()
        optimizer.step()
    after = compiled_forms()
    backward = {key for key in before if "backward" in key[1] or "weight" in key[0]}
    assert backward
    for key in backward | {("nano.backends.fused.optimizers", "_sgd_momentum")} & set(before):
        assert after[key] == before[key], key


PROGRAM = """
import numpy as np
from nano.backends.fused import ahead
started = []
ahead.start = started.append
from nano.backends import kernels
x = np.zeros((64, 32, 16, 8), np.float32).transpose(0, 3, 1, 2)
kernels.batch_norm(x, None, None, 1e-5, None, None)
print(len(started), *started)
"""


@pytest.mark.parametrize(
    ("switch", "started"), [("on", "1 False"), pytest.param("off", "0", marks=pytest.mark.slow)]
)
def test_it_starts_where_nothing_is_on_disk(tmp_path, switch, started):
    env = os.environ | {"NANO_CACHE_DIR": str(tmp_path), "NANO_COMPILE_AHEAD": switch}
    env |= {"OMP_NUM_THREADS": "2"}

    def run():
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True)

    assert run().stdout.strip() == started
    assert run().stdout.strip() == "0"  # the first run has left it there


def test_the_process_ends_with_this_one(tmp_path):
    code = (
        "from nano.backends.fused import ahead\n"
        "process = ahead.start()\n"
        "assert ahead.start() is process\n"
        "print(process.pid)\n"
    )
    env = os.environ | {"NANO_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_what_cannot_be_started_is_not(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    ahead.start.cache_clear()
    assert ahead.start() is None
    ahead.start.cache_clear()
