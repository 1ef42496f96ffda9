"""The command that times whole training steps: its table, its JSON, its neighbour."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import train
from benchmarks.convolution import Shape, cases
from benchmarks.duel import ROOT


def command(*arguments):
    call = [sys.executable, "-m", "benchmarks.train", *arguments]
    return subprocess.run(call, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_unknown_model():
    done = command("--models", "vgg")
    assert done.returncode == 1
    assert "unknown models vgg; there are mlp-small, mlp" in done.stderr


def test_the_busy_neighbour_is_there_and_ends():
    with train.busy_core() as pid:
        time.sleep(0.3)
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        with open(f"/proc/{pid}/stat") as file:
            assert file.read().rpartition(")")[2].split()[0] == "R"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_line_says_what_was_missed():
    row = {
        "title": "A network",
        "milliseconds": {"nano": 2.0, "torch": 3.0},
        "ratio": 1.5,
        "required": 2.0,
        "flops": 4e9,
        "limit_milliseconds": 0.5,
        "fraction": 0.25,
    }
    columns = ["nano", "PyTorch", "ch-last", "ratio", "asked", "GFLOP", "limit", "of it"]
    line = train._line(row, columns)
    assert " ".join(line.split()) == "A network 2 3 - 1.50 2.00 4 0.5 25 % MISSED"
    assert train._line(row | {"required": 1.5}, columns).endswith("  ok")


@pytest.mark.slow
def test_peak_memory_is_at_most_pytorchs():
    """Of ResNet-18 in training, at batch 64, eager and compiled; after that no page is fresh."""
    call = [sys.executable, "-m", "benchmarks.train", "--memory", "--compile"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("nano at most the peer's least: ok"), done.stdout


@pytest.mark.parametrize("side", ["nano", "torch", "nano+bf16", "torch+bf16"])
def test_convolutions_have_the_shapes_that_are_counted(side):
    shape = Shape(64, 64, 32, 128, stride=2)
    n, c, size = shape.n, shape.c, shape.size
    results = {d: cases(side)[f"{d} {shape}"]() for d in ("forward", "input", "weight")}
    arrays = [r if hasattr(r, "shape") else next(t for t in r if t is not None)
              for r in results.values()]  # fmt: skip
    assert [tuple(a.shape) for a in arrays] == [(n, 128, 16, 16), (n, c, size, size),
                                                (128, 64, 3, 3)]  # fmt: skip
    assert shape.flops == 2 * 64 * 128 * 16 * 16 * 64 * 9


@pytest.mark.slow
def test_table_and_json(tmp_path):
    file = tmp_path / "figures.json"
    done = command("--models", "mlp-small", "--seconds", "5", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("MLP 2-16-16-2, 4")
    (row,) = json.loads(file.read_text())["rows"]
    assert row["flops"] == 7424
    assert set(row["milliseconds"]) == {"nano", "torch"}
    assert row["ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--first", "--memory"])
def test_fresh_processes(flag, tmp_path):
    file = tmp_path / "figures.json"
    done = command("--models", "mlp-small", flag, "--json", str(file))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text())["rows"]
    if flag == "--first":
        assert 0 < row["nano warm"]["step"] < row["nano warm"]["total"]
    else:
        assert row["nano"]["peak"] > 10
        assert row["ok"] == (row["nano"]["peak"] <= row["torch"]["peak"])
