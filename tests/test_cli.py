"""The command line, end to end on the digits that scikit-learn brings."""

import csv
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nano
from nano import checkpoint, cli
from nano.data import Digits, mnist
from nano.runs import alone_in

from .data.test_mnist import FILES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few epochs."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main(["train", "digits", "--epochs", "8", "--out", str(out)]) == 0
    return out


def nanodl(capsys, *arguments):
    """Status, standard output and standard error of a command."""
    status = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_train_leaves_its_files(run):
    assert sorted(p.name for p in run.iterdir()) == [
        "best.safetensors",
        "confusion.png",
        "curves.png",
        "history.csv",
        "last.safetensors",
    ]
    with open(run / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert float(rows[-1]["held_out_accuracy"]) > 0.94
    for name in ("curves", "confusion"):
        with Image.open(run / f"{name}.png") as picture:
            assert min(picture.size) > 500


def test_train_reports(capsys, tmp_path):
    status, out, _ = nanodl(capsys, "train", "digits", "--epochs", 2, "--out", tmp_path / "r")
    assert status == 0
    assert "1,437 images, 360 held out" in out.replace("\n", " ")
    assert "epoch 1/2" in out
    assert "epoch 2/2" in out
    for word in ("class", "accuracy", "all", "360", "loss", "last epoch", "Training took"):
        assert word in out


def test_a_second_run_keeps_the_first(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = []
    for seed in range(3):
        status, out, _ = nanodl(capsys, "train", "digits", "--epochs", 1, "--seed", seed)
        assert status == 0
        texts.append((tmp_path / "runs/digits/history.csv").read_text())
    assert "runs/digits-2" in out.replace("\n", "")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "digits",
        "digits-1",
        "digits-2",
    ]
    kept = [
        (tmp_path / f"runs/{name}/history.csv").read_text() for name in ("digits-1", "digits-2")
    ]
    assert kept == texts[:2]
    assert nanodl(capsys, "eval", "runs/digits-1")[0] == 0


def test_a_folder_with_other_files_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    command = ["train", "digits", "--epochs", 1, "--out", tmp_path]
    assert nanodl(capsys, *command)[0] == 0
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    status, _, errors = nanodl(capsys, *command)
    assert status == 1
    assert "thesis.txt" in errors
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_resume_equals_an_uninterrupted_run(capsys, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert nanodl(capsys, "train", "digits", "--epochs", 3, "--out", whole)[0] == 0

    from nano.train import Trainer

    def stop(self, *args):
        if self.step == 60:
            os.kill(os.getpid(), 2)
        return train_batch(self, *args)

    train_batch = Trainer._train_batch
    Trainer._train_batch = stop
    try:
        status, _, errors = nanodl(capsys, "train", "digits", "--epochs", 3, "--out", parts)
    finally:
        Trainer._train_batch = train_batch
    assert status == 130
    assert f"nanodl train digits --resume {parts}" in errors
    status, out, _ = nanodl(capsys, "train", "digits", "--resume", parts)
    assert status == 0
    assert "step 61" in out
    for name in ("last", "best"):
        ours, _ = checkpoint.load(parts / f"{name}.safetensors")
        theirs, _ = checkpoint.load(whole / f"{name}.safetensors")
        assert all(ours[k].numpy().tobytes() == t.numpy().tobytes() for k, t in theirs.items())


def test_resume_with_more_epochs(capsys, tmp_path):
    out = tmp_path / "r"
    assert nanodl(capsys, "train", "digits", "--epochs", 1, "--out", out)[0] == 0
    assert nanodl(capsys, "train", "digits", "--resume", out, "--epochs", 2)[0] == 0
    assert len((out / "history.csv").read_text().splitlines()) == 3
    status, _, errors = nanodl(capsys, "train", "digits", "--resume", out, "--batch-size", 7)
    assert status == 2
    assert "keeps its own, 32" in errors


def test_eval(capsys, run):
    status, out, _ = nanodl(capsys, "eval", run)
    assert status == 0
    _, about = checkpoint.load(run / "best.safetensors")
    assert f"Accuracy {about['row']['held_out_accuracy']:.2%}" in out
    assert f"mean loss {about['row']['held_out_loss']:.4f}" in out
    assert out.count("%") >= 11


def picture(path, pixels, paper, ink, size):
    """A held-out digit, enlarged, on paper with a margin, in colour."""
    grey = Image.fromarray((pixels * 255).astype(np.uint8)).resize((size, size), 3)
    sheet = Image.new("RGB", (size * 2, size * 2), paper)
    sheet.paste(Image.new("RGB", grey.size, ink), (size // 3, size // 2), grey)
    sheet.save(path)


def test_predict(capsys, run, tmp_path):
    images, labels = Digits(train=False).tensors
    right = 0
    for i in range(0, 360, 30):
        paper, ink = [("white", "navy"), ("black", "yellow")][i // 30 % 2]
        picture(tmp_path / "digit.png", images.numpy()[i, 0], paper, ink, 40 + i)
        status, out, _ = nanodl(capsys, "predict", run, tmp_path / "digit.png")
        assert status == 0
        lines = out.splitlines()
        probabilities = [float(line.split()[1].rstrip("%")) for line in lines[-10:]]
        assert sum(probabilities) == pytest.approx(100, abs=0.1)
        guess = int(np.argmax(probabilities))
        assert f"This is a {guess}" in out
        assert "█" in lines[-10 + guess]
        right += guess == labels[i].item()
    assert right >= 10


def test_predict_faults(capsys, run, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    for arguments, message in [
        ((run, tmp_path / "a.png"), "is no picture"),
        ((run, tmp_path / "b.png"), "there is no file"),
        ((tmp_path / "no", tmp_path / "b.png"), "there is no folder"),
        ((tmp_path, tmp_path / "a.png"), "holds no run"),
    ]:
        status, out, errors = nanodl(capsys, "predict", *arguments)
        assert (status, out) == (1, "")
        assert message in errors


def test_damaged_checkpoints(capsys, run, tmp_path):
    for name in ("best", "last"):
        file = run / f"{name}.safetensors"
        (tmp_path / file.name).write_bytes(file.read_bytes()[:-100])
    for command in (["eval", tmp_path], ["train", "digits", "--resume", tmp_path]):
        status, _, errors = nanodl(capsys, *command)
        assert status == 1
        assert "cut short" in errors
    # Those that are whole, but of something else.
    checkpoint.save(tmp_path / "best.safetensors", {"a": np.zeros(2)})
    checkpoint.save(tmp_path / "last.safetensors", {"a": np.zeros(2)})
    for command in (["eval", tmp_path], ["train", "digits", "--resume", tmp_path]):
        assert nanodl(capsys, *command)[0] == 1


def test_resume_of_another_recipe(capsys, run):
    status, _, errors = nanodl(capsys, "train", "mnist", "--resume", run)
    assert status == 1
    assert "of digits, not of mnist" in errors


def test_unwritable_folder(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, errors = nanodl(capsys, "train", "digits", "--out", tmp_path / "file" / "run")
    assert status == 1
    assert "cannot be written" in errors


def test_nan_loss(capsys, tmp_path):
    out = tmp_path / "r"
    status, _, errors = nanodl(capsys, "train", "digits", "--lr", "1e30", "--out", out)
    assert status == 1
    assert "epoch 1" in errors
    assert checkpoint.load(out / "last.safetensors")[1]["step"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["train", "eval", "predict", "doctor"]),
        (["trian"], ["trian", "train", "eval", "predict", "doctor"]),
        (["train"], ["digits", "mnist"]),
        (["train", "cats"], ["cats", "digits", "mnist"]),
        (["train", "digits", "--epoch", "3"], ["--epoch", "--epochs", "--batch-size", "--resume"]),
        (["eval", "r", "--fast"], ["--fast", "--data", "RUN"]),
        (["--fast", "doctor"], ["--fast"]),
        (["train", "digits", "--epochs", "0"], ["--epochs", "positive whole number"]),
        (["train", "digits", "--epochs", "two"], ["--epochs", "positive whole number"]),
        (["train", "digits", "--lr", "-1"], ["--lr"]),
        (["train", "digits", "--lr", "1e999"], ["--lr", "expected a positive number, got '1e999'"]),
        (["train", "digits", "--seed", "x"], ["--seed", "whole number"]),
        (["train", "digits", "--seed", str(2**64)], ["--seed", "64 bits"]),
        (["train", "digits", "--resume", ""], ["--resume", "expected a name"]),
        (["train", "digits", "--out", ""], ["--out", "expected a name"]),
        (["eval", ""], ["RUN", "expected a name"]),
        (["train", "digits", "--lr", "nan"], ["--lr", "positive number"]),
        (["train", "digits", "--data", "x"], ["--data", "scikit-learn"]),
        (["train", "digits", "--out", "x", "--resume", "y"], ["--out", "--resume"]),
    ],
)
def test_wrong_command_lines(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, out, errors = nanodl(capsys, *arguments)
    assert (status, out) == (2, "")
    for word in words:
        assert word in errors
    assert not list(tmp_path.iterdir())


def test_help(capsys):
    status, out, _ = nanodl(capsys, "train", "--help")
    assert status == 0
    assert "--resume" in out


def test_doctor(capsys):
    status, out, _ = nanodl(capsys, "doctor")
    assert status == 0
    for word in (
        sys.version.split()[0],
        nano.__version__,
        np.__version__,
        "ml_dtypes",
        "instruction sets",
        "memory",
        "blas",
        "reference",
        "matmul",
        "onednn",
        "cores",
    ):
        assert word in out


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "nano", "nonsense"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "doctor" in done.stderr


def test_mnist_missing(capsys, tmp_path):
    status, _, errors = nanodl(
        capsys, "train", "mnist", "--data", tmp_path, "--out", tmp_path / "r"
    )
    assert status == 1
    assert "train-images-idx3-ubyte" in errors
    assert not (tmp_path / "r").exists()


def test_mnist_from_a_folder(capsys, tmp_path, monkeypatch):
    import hashlib

    for name, content in FILES.items():
        monkeypatch.setitem(mnist.CONTENTS, name, hashlib.md5(content).hexdigest())
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    run = tmp_path / "r"
    command = ["train", "mnist", "--data", tmp_path, "--out", run, "--epochs", 1]
    assert nanodl(capsys, *command)[0] == 0
    # The folder is remembered.
    status, out, _ = nanodl(capsys, "eval", run)
    assert status == 0
    assert "none" in out  # classes without an image
    assert nanodl(capsys, "train", "mnist", "--resume", run, "--epochs", 2)[0] == 0


@pytest.mark.slow
@pytest.mark.skipif("NANO_DATA" not in os.environ, reason="needs $NANO_DATA/mnist")
def test_mnist_reaches_98_per_cent(capsys, tmp_path):
    out = tmp_path / "r"
    folder = Path(os.environ["NANO_DATA"]) / "mnist"
    assert nanodl(capsys, "train", "mnist", "--data", folder, "--out", out)[0] == 0
    _, saved = checkpoint.load(out / "last.safetensors")
    assert saved["epoch"] <= 5
    assert saved["history"][-1]["held_out_accuracy"] >= 0.98


def test_version(capsys):
    assert nanodl(capsys, "--version") == (0, f"nano {nano.__version__}\n", "")


def test_resume_of_a_complete_run(capsys, tmp_path):
    out = tmp_path / "r"
    assert nanodl(capsys, "train", "digits", "--epochs", 2, "--out", out)[0] == 0
    before = checkpoint.load(out / "last.safetensors")[1]
    status, text, _ = nanodl(capsys, "train", "digits", "--resume", out)
    assert status == 0
    assert "complete: 2 of 2 epochs" in text
    assert "Training on" not in text
    status, _, errors = nanodl(capsys, "train", "digits", "--resume", out, "--epochs", 1)
    assert status == 2
    assert "in epoch 2 already" in errors
    assert checkpoint.load(out / "last.safetensors")[1] == before


def test_two_runs_in_one_folder(capsys, tmp_path):
    pytest.importorskip("fcntl")
    out = tmp_path / "r"
    assert nanodl(capsys, "train", "digits", "--epochs", 1, "--out", out)[0] == 0
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    with alone_in(out):
        for options in (["--out", out], ["--resume", out, "--epochs", 2]):
            status, text, errors = nanodl(capsys, "train", "digits", *options)
            assert (status, text) == (1, "")
            assert "another process is training" in errors
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    assert nanodl(capsys, "train", "digits", "--resume", out, "--epochs", 2)[0] == 0


def test_a_folder_that_goes_away_while_training(capsys, tmp_path, monkeypatch):
    import shutil

    from nano.train import Trainer

    out = tmp_path / "r"
    train_batch = Trainer._train_batch

    def remove(self, *args):
        if self.step == 60:
            shutil.rmtree(out)
        return train_batch(self, *args)

    monkeypatch.setattr(Trainer, "_train_batch", remove)
    status, _, errors = nanodl(capsys, "train", "digits", "--epochs", 3, "--out", out)
    assert status == 1
    assert "cannot be written" in errors
    assert "curves" not in errors


def test_stopped_before_training(capsys, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "doctor", stop)
    status, _, errors = nanodl(capsys, "doctor")
    assert (status, errors) == (130, "\nnanodl: stopped.\n")


def test_without_the_train_extra(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
        status, out, errors = nanodl(
            capsys, "train", "digits", "--epochs", 1, "--out", tmp_path / "r"
        )
        assert status == 0
        for name in ("curves", "confusion"):
            assert f"no {name}" in errors
            assert f"{name}.png" not in out
    for name in ("rich", "rich.console", "rich.table", "threadpoolctl", "sklearn", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    status, out, _ = nanodl(capsys, "doctor")
    assert status == 0
    assert "reference" in out
    status, _, errors = nanodl(capsys, "train", "digits", "--out", tmp_path / "s")
    assert status == 1
    assert "pip install 'nano-dl[train]'" in errors


def test_an_output_that_has_ascii_only(run, tmp_path):
    picture(tmp_path / "d.png", Digits(train=False).tensors[0].numpy()[0, 0], "white", "black", 60)
    done = subprocess.run(
        [sys.executable, "-m", "nano", "predict", run, tmp_path / "d.png"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "#####" in done.stdout


def test_a_checkpoint_of_another_program(capsys, tmp_path):
    from safetensors.numpy import save_file

    for name in ("best", "last"):
        save_file({"w": np.zeros(2)}, tmp_path / f"{name}.safetensors", {"run": "theirs"})
    status, _, errors = nanodl(capsys, "eval", tmp_path)
    assert status == 1
    assert "does not say what it was trained on" in errors
    status, _, errors = nanodl(capsys, "train", "digits", "--resume", tmp_path)
    assert status == 1
    assert "not of digits" in errors
    status, _, errors = nanodl(capsys, "eval", tmp_path / "best.safetensors")
    assert status == 1
    assert "is a file, not the folder of a run" in errors
