"""The recipes, from the command line, on a few made images in the official formats."""

import gzip
import hashlib
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nano
from nano import checkpoint, cli
from nano.data import TensorDataset, mnist
from nano.nn import functional as F
from nano.recipes import RECIPES
from nano.results import evaluate
from nano.train import Trainer

from .data.test_mnist import idx

IMAGES, HELD_OUT, BATCH = 96, 40, 16
#: Those that augment, which is what a resume inside an epoch could spoil.
AUGMENTED = ["lenet", "alexnet", "resnet20"]
RUNS = [(name, "float32") for name in AUGMENTED] + [
    ("alexnet", "bfloat16"),
    ("resnet20", "bfloat16"),
]


def made(count, seed, channels, size):
    """Images (n, h, w, c) whose class is where they are bright, and their labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = draw.integers(0, 60, (count, size, size, channels))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[8 * row : 8 * row + 7, 7 * column : 7 * column + 6] += 180
    return images.astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small files of MNIST and CIFAR-10."""
    folder = tmp_path / "data"
    (folder / "cifar-10-batches-bin").mkdir(parents=True)
    for part, count, seed in (("train", IMAGES, 0), ("t10k", HELD_OUT, 1)):
        images, labels = made(count, seed, 1, 28)
        for kind, array in (("images-idx3-ubyte", images[..., 0]), ("labels-idx1-ubyte", labels)):
            content = idx(array)
            monkeypatch.setitem(mnist.CONTENTS, f"{part}-{kind}", hashlib.md5(content).hexdigest())
            (folder / f"{part}-{kind}.gz").write_bytes(gzip.compress(content))
    batches = {f"data_batch_{i}": (20, i) for i in range(1, 6)} | {"test_batch": (HELD_OUT, 6)}
    for name, (count, seed) in batches.items():
        images, labels = made(count, seed, 3, 32)
        rows = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(count, -1)], 1)
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


def nanodl(capsys, *arguments):
    """Status, standard output and standard error of a command."""
    status = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def contents(run):
    """All tensors of a run's files, and its history but for the clock."""
    last, about = checkpoint.load(run / "last.safetensors")
    best, _ = checkpoint.load(run / "best.safetensors")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in about["history"]]
    return [{k: t.numpy().tobytes() for k, t in part.items()} for part in (last, best)], rows


def test_the_command_knows_the_recipes():
    assert list(RECIPES) == list(cli._RECIPES)


@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_a_run_from_its_beginning_to_a_guess(
    capsys, tmp_path, folder, monkeypatch, name, precision
):
    command = ["train", name, "--data", folder, "--epochs", 2, "--batch-size", BATCH]
    command += ["--lr", 0.01, "--precision", precision, "--limit", IMAGES]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    status, out, errors = nanodl(capsys, *command, "--out", whole)
    assert (status, errors) == (0, "")
    assert f"{RECIPES[name].network} on the {RECIPES[name].title}: 96 images, 40 held out" in out
    assert sorted(p.name for p in whole.iterdir()) == [
        "best.safetensors",
        "confusion.png",
        "curves.png",
        "history.csv",
        "last.safetensors",
    ]

    # Stopped inside the first epoch and again inside the second, it comes to the same.
    train_batch = Trainer._train_batch
    stops = [3, IMAGES // BATCH + 2]

    def stop(self, *args):
        if self.step in stops:
            stops.remove(self.step)
            os.kill(os.getpid(), signal.SIGINT)
        return train_batch(self, *args)

    monkeypatch.setattr(Trainer, "_train_batch", stop)
    assert nanodl(capsys, *command, "--out", parts)[0] == 130
    assert nanodl(capsys, "train", name, "--resume", parts)[0] == 130
    assert nanodl(capsys, "train", name, "--resume", parts)[0] == 0
    assert contents(parts) == contents(whole)
    assert not stops

    _, rows = contents(whole)
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    best = checkpoint.load(whole / "best.safetensors")[1]["row"]
    status, out, _ = nanodl(capsys, "eval", whole, "--threads", 1)
    assert status == 0
    assert f"Accuracy {best['held_out_accuracy']:.2%}" in out
    assert all(label in out for label in RECIPES[name].classes)
    status, out, _ = nanodl(capsys, "eval", whole, "--views")
    assert status == (0 if RECIPES[name].views else 2)
    assert ("the mean over ten views of each image" in out) is (RECIPES[name].views is not None)

    Image.fromarray(made(10, 9, 3, 64)[0][3]).resize((90, 60)).save(tmp_path / "a.png")
    status, out, _ = nanodl(capsys, "predict", whole, tmp_path / "a.png")
    assert status == 0
    lines = [line.split() for line in out.splitlines()[-10:]]
    assert [words[0] for words in lines] == list(RECIPES[name].classes)
    chances = [float(words[1].rstrip("%")) for words in lines]
    assert sum(chances) == pytest.approx(100, abs=0.1)
    guess = RECIPES[name].classes[int(np.argmax(chances))]
    assert f" {guess} (" in out


def test_precisions_differ_and_stay(capsys, tmp_path, folder):
    command = ["train", "lenet", "--data", folder, "--epochs", 1, "--batch-size", BATCH]
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        assert nanodl(capsys, *command, "--precision", precision, "--out", out)[0] == 0
    (last, _), _ = contents(tmp_path / "float32")
    (other, _), _ = contents(tmp_path / "bfloat16")
    assert last != other
    tensors, about = checkpoint.load(tmp_path / "bfloat16" / "last.safetensors")
    assert about["run"]["precision"] == "bfloat16"
    assert tensors["model.conv1.weight"].dtype is nano.float32
    status, _, errors = nanodl(
        capsys, "train", "lenet", "--resume", tmp_path / "bfloat16", "--precision", "float32"
    )
    assert status == 2
    assert "--precision: a resumed run keeps its own, bfloat16" in errors


def test_limit_and_threads(capsys, tmp_path, folder):
    before = nano.get_num_threads()
    command = ["train", "lenet", "--data", folder, "--epochs", 1, "--out", tmp_path / "r"]
    status, out, _ = nanodl(capsys, *command, "--limit", 20, "--threads", 1)
    assert status == 0
    assert "20 images, 40 held out" in out
    assert nano.get_num_threads() == before
    status, _, errors = nanodl(
        capsys, "train", "lenet", "--resume", tmp_path / "r", "--epochs", 2, "--limit", 30
    )
    assert status == 2
    assert "--limit: a resumed run keeps its own, 20" in errors
    assert nanodl(capsys, "train", "lenet", "--resume", tmp_path / "r", "--epochs", 2)[0] == 0
    assert len((tmp_path / "r" / "history.csv").read_text().splitlines()) == 3


def test_denormal_numbers_are_as_before_after_a_command(capsys, tmp_path, folder):
    smallest = np.float32(1e-40)
    assert nanodl(capsys, "train", "digits", "--epochs", 1, "--out", tmp_path / "r")[0] == 0
    assert smallest * np.float32(1) != 0


@pytest.mark.parametrize("name", AUGMENTED)
def test_only_images_to_train_on_are_changed(folder, name):
    recipe = RECIPES[name]
    for train in (True, False):
        data = recipe.load(str(folder), train)
        first, again = (
            next(iter(recipe.loader(data, 10, nano.Generator().manual_seed(seed))))
            for seed in (0, 0)
        )
        assert first[0].numpy().tobytes() == again[0].numpy().tobytes()
        plain = next(iter(recipe.loader(data, 10)))[0].numpy()
        again = next(iter(recipe.loader(data, 10)))[0].numpy()
        assert np.array_equal(plain, again) == (not train)
        assert plain.dtype == np.float32
        # Paper comes in at the edge of a digit, black at that of a photograph.
        assert plain.min() >= again.min() - 1e-6
        channels = plain.transpose(0, 2, 3, 1)
        assert channels.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("lenet", "train-images-idx3-ubyte"),
        ("alexnet", "train-images-idx3-ubyte"),
        ("resnet20", "cifar-10-python.tar.gz"),
    ],
)
def test_a_folder_without_the_data(capsys, tmp_path, name, word):
    for data in (tmp_path, tmp_path / "no"):
        status, out, errors = nanodl(capsys, "train", name, "--data", data, "--out", tmp_path / "r")
        assert (status, out) == (1, "")
        assert word in errors
        assert str(data) in errors
    assert not (tmp_path / "r").exists()


def test_runs_of_before_there_was_a_choice(capsys, tmp_path):
    """Their checkpoints name neither a precision nor a limit."""
    run = tmp_path / "r"
    assert nanodl(capsys, "train", "digits", "--epochs", 1, "--out", run)[0] == 0
    for file in ("best", "last"):
        tensors, about = checkpoint.load(run / f"{file}.safetensors")
        del about["run"]["precision"], about["run"]["limit"]
        checkpoint.save(run / f"{file}.safetensors", tensors, about)
    assert nanodl(capsys, "eval", run)[0] == 0
    assert nanodl(capsys, "train", "digits", "--resume", run, "--epochs", 2)[0] == 0


def test_a_photograph_in_colour(capsys):
    from rich.console import Console

    from nano.results import print_guess

    pixels = np.zeros((4, 4, 3), np.float32)
    pixels[0], pixels[1] = (1, 0, 0), (0, 0, 1)
    console = Console(force_terminal=True, color_system="truecolor", width=60, legacy_windows=False)
    print_guess(console, pixels, ("airplane", "cat"), [0.75, 0.25])
    out = capsys.readouterr().out
    if console.encoding.startswith("utf"):
        assert out.count("▀") == 8
        assert "38;2;255;0;0;48;2;0;0;255m" in out
    assert "This is an " in out


@pytest.mark.slow
@pytest.mark.skipif("NANO_DATA" not in os.environ, reason="needs $NANO_DATA")
@pytest.mark.parametrize(
    ("name", "data", "least"),
    [("lenet", "mnist", 0.99), ("alexnet", "mnist", 0.992), ("resnet20", "cifar10", 0.9)],
)
def test_whole_runs(capsys, tmp_path, name, data, least):
    folder = Path(os.environ["NANO_DATA"]) / data
    assert nanodl(capsys, "train", name, "--data", folder, "--out", tmp_path / "r")[0] == 0
    _, saved = checkpoint.load(tmp_path / "r" / "last.safetensors")
    accuracy = saved["history"][-1]["held_out_accuracy"]
    if RECIPES[name].views:
        assert accuracy >= least - 0.02
        _, out, _ = nanodl(capsys, "eval", tmp_path / "r", "--views")
        accuracy = float(re.search(r"Accuracy ([\d.]+)%", out)[1]) / 100
    assert accuracy >= least


def test_guesses_averaged_over_ten_views():
    recipe = RECIPES["resnet20"]
    nano.manual_seed(0)
    model = recipe.model()
    images = nano.randn(20, 3, 32, 32)
    labels = nano.randint(10, (20,))

    def results(x, views):
        return evaluate(recipe, model, TensorDataset(x, labels), "float32", views)

    found = results(images, True)
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    scores = []
    with nano.no_grad():
        for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2)):
            view = nano.from_numpy(padded[:, :, y : y + 32, x : x + 32].copy())
            scores += [model(v).log_softmax(1) for v in (view, view.flip(3))]
    mean = nano.stack(scores).mean(0)
    assert np.trace(found.counts) == int((mean.argmax(1) == labels).sum())
    assert found.loss == pytest.approx(F.cross_entropy(mean, labels).item(), rel=1e-5)
    # A mirrored image has the same views.
    mirrored = results(images.flip(3), True)
    assert found.counts.tolist() == mirrored.counts.tolist()
    assert found.loss == pytest.approx(mirrored.loss, rel=1e-5)
    assert results(images, False).loss != pytest.approx(found.loss, rel=1e-4)


def test_digits_have_one_view(capsys, tmp_path):
    assert nanodl(capsys, "train", "digits", "--epochs", 1, "--out", tmp_path / "r")[0] == 0
    status, _, errors = nanodl(capsys, "eval", tmp_path / "r", "--views")
    assert status == 2
    assert "--views: digits has none; mirrored, its images are others" in errors
