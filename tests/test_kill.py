"""SIGKILL at random moments, 20 times: the last checkpoint is always whole."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nano import checkpoint

DRIVER = Path(__file__).parent / "train" / "driver.py"
#: Epochs are short, so that writing checkpoints takes a good part of the time.
EPOCHS = 200
STEPS = EPOCHS * 9
KILLS = 20

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def start(out, step=1):
    """A run that has come to a step, or a little further."""
    process = subprocess.Popen(
        [sys.executable, DRIVER, str(out), str(EPOCHS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if int(line) >= step:
            return process
    raise AssertionError(process.communicate()[1])


def kill(process):
    process.kill()
    process.communicate()
    return process.returncode


def test_killed_twenty_times(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    process = start(whole)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors

    rng = random.Random(0)
    epochs, interrupted = [], 0
    for piece in range(KILLS):
        # At any step of this piece of the run, and at any moment of that step. What is left at
        # the end makes sure that it is killed while it trains.
        process = start(killed, (piece + rng.random()) / (KILLS + 4) * STEPS)
        time.sleep(rng.uniform(0, 0.01))
        assert process.poll() is None
        assert kill(process) == -signal.SIGKILL
        interrupted += bool(list(killed.glob(".*.partial")))
        _, saved = checkpoint.load(killed / "last.safetensors")
        epochs.append(saved["epoch"])
        if epochs[-1]:
            checkpoint.load(killed / "best.safetensors")
    assert epochs == sorted(epochs)
    assert 0 < epochs[-1] < EPOCHS

    process = start(killed)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    ours, about = checkpoint.load(killed / "last.safetensors")
    theirs, expected = checkpoint.load(whole / "last.safetensors")
    assert about["epoch"] == expected["epoch"] == EPOCHS
    assert ours.keys() == theirs.keys()
    for name, t in theirs.items():
        assert ours[name].numpy().tobytes() == t.numpy().tobytes(), name
    print(f"killed {KILLS} times, {interrupted} times while writing; epochs {epochs}")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_command_with_a_checkpoint(tmp_path, signum, status):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "nano", "train", "digits", "--epochs", "100000"]
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    tensors, saved = checkpoint.load(out / "last.safetensors")
    assert saved["step"] > 0
    assert "model.1.weight" in tensors
    assert (out / "curves.png").exists()
