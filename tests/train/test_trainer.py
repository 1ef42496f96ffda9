"""The Trainer: history, best weights, faults, and runs that are stopped and go on."""

import csv
import os
import signal
import threading

import numpy as np
import pytest

import nano
from nano import checkpoint, nn, optim
from nano.data import DataLoader, TensorDataset
from nano.errors import AnomalyError, CheckpointError, InputError
from nano.train import Callback, Interrupts, OneCycle, Stopped, Trainer, accuracy

from .driver import make_trainer

EPOCHS = 4
BATCHES = 9


def weights(trainer):
    return {k: v.numpy().tobytes() for k, v in trainer.model.state_dict().items()}


def rows(trainer):
    """The history without what depends on the clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = make_trainer(tmp_path_factory.mktemp("whole"))
    trainer.fit(EPOCHS)
    return trainer


class StopAt(Callback):
    """Sends this process a signal after a step, as Ctrl-C would."""

    def __init__(self, step, signum=signal.SIGINT):
        self.step, self.signum = step, signum

    def on_batch_end(self, trainer):
        if trainer.step == self.step:
            os.kill(os.getpid(), self.signum)


def test_it_learns_and_writes_its_files(uninterrupted):
    out = uninterrupted.out
    assert sorted(p.name for p in out.iterdir()) == [
        "best.safetensors",
        "history.csv",
        "last.safetensors",
    ]
    with open(out / "history.csv") as file:
        written = list(csv.DictReader(file))
    assert [int(r["epoch"]) for r in written] == [1, 2, 3, 4]
    assert [int(r["step"]) for r in written] == [BATCHES * n for n in (1, 2, 3, 4)]
    assert float(written[-1]["train_loss"]) == uninterrupted.history[-1]["train_loss"]
    assert written[-1]["held_out_accuracy"]
    losses = [row["train_loss"] for row in uninterrupted.history]
    assert losses[-1] < losses[0]


def test_the_best_weights_are_those_of_the_best_epoch(uninterrupted):
    best, about = checkpoint.load(uninterrupted.out / "best.safetensors")
    key = lambda r: (r["held_out_accuracy"], -r["held_out_loss"])  # noqa: E731
    assert about["row"] == max(uninterrupted.history, key=key) == uninterrupted.best
    again = make_trainer(None)
    again.model.load_state_dict(best)
    result = again.evaluate(again.held_out_loader)
    assert result["accuracy"] == about["row"]["held_out_accuracy"]
    assert result["loss"] == pytest.approx(about["row"]["held_out_loss"], rel=1e-6)


def test_means_are_over_samples(uninterrupted):
    # 70 samples in batches of 8: the last one has 6.
    trainer = make_trainer(None)
    got = trainer.evaluate(trainer.train_loader)
    trainer.model.eval()
    x, y = trainer.train_loader.dataset.tensors
    with nano.no_grad():
        outputs = trainer.model(x)
        assert got["loss"] == pytest.approx(trainer.loss_fn(outputs, y).item(), rel=1e-5)
        assert got["accuracy"] == pytest.approx(accuracy(outputs, y))


@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "AdamW"])
def test_resume_after_an_epoch_is_bit_for_bit(tmp_path, own_generator, optimizer):
    whole = make_trainer(None, own_generator, optimizer)
    whole.fit(EPOCHS)
    first = make_trainer(tmp_path, own_generator, optimizer)
    first.fit(EPOCHS - 2)
    # The learning rate follows the full number of epochs, so stop inside such a run instead.
    first = make_trainer(tmp_path, own_generator, optimizer, [StopAt(2 * BATCHES)])
    with pytest.raises(KeyboardInterrupt):
        first.fit(EPOCHS)
    nano.manual_seed(12345)
    second = make_trainer(tmp_path, own_generator, optimizer)
    nano.default_generator.numpy.random(7)
    second.load(tmp_path / "last.safetensors")
    second.fit(EPOCHS)
    assert weights(second) == weights(whole)
    assert rows(second) == rows(whole)


@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("step", [1, BATCHES - 1, BATCHES, BATCHES + 4, EPOCHS * BATCHES])
def test_resume_in_the_middle_of_an_epoch_is_bit_for_bit(tmp_path, step, own_generator):
    whole = make_trainer(None, own_generator)
    whole.fit(EPOCHS)
    first = make_trainer(tmp_path, own_generator, callbacks=[StopAt(step)])
    with pytest.raises(Stopped, match="stopped in epoch"):
        first.fit(EPOCHS)
    assert first.step == step
    second = make_trainer(tmp_path, own_generator)
    second.load(tmp_path / "last.safetensors")
    assert second.step == step
    second.fit(EPOCHS)
    assert weights(second) == weights(whole)
    assert rows(second) == rows(whole)


def test_stopped_twice_in_one_epoch(tmp_path, uninterrupted):
    for step in (12, 15):
        trainer = make_trainer(tmp_path, callbacks=[StopAt(step)])
        if step > 12:
            trainer.load(tmp_path / "last.safetensors")
        with pytest.raises(Stopped):
            trainer.fit(EPOCHS)
    trainer = make_trainer(tmp_path)
    trainer.load(tmp_path / "last.safetensors")
    trainer.fit(EPOCHS)
    assert weights(trainer) == weights(uninterrupted)
    assert rows(trainer) == rows(uninterrupted)


def test_stopped_during_evaluation(tmp_path, uninterrupted):
    trainer = make_trainer(tmp_path)
    calls = []

    def interrupting(outputs, targets):
        calls.append(1)
        if len(calls) == BATCHES + 2:
            os.kill(os.getpid(), signal.SIGINT)
        return accuracy(outputs, targets)

    trainer.metrics = trainer._means.metrics = {"accuracy": interrupting}
    with pytest.raises(Stopped):
        trainer.fit(EPOCHS)
    assert (trainer.epoch, trainer.batch) == (0, BATCHES)
    trainer = make_trainer(tmp_path)
    trainer.load(tmp_path / "last.safetensors")
    trainer.fit(EPOCHS)
    assert weights(trainer) == weights(uninterrupted)
    assert rows(trainer) == rows(uninterrupted)


def test_more_epochs_after_the_end(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.fit(1)
    again = make_trainer(tmp_path)
    again.load(tmp_path / "last.safetensors")
    assert again.fit(1) == trainer.history
    again.fit(2)
    assert [r["epoch"] for r in again.history] == [1, 2]


def test_sigterm_and_the_handlers_of_before(tmp_path):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    trainer = make_trainer(tmp_path, callbacks=[StopAt(3, signal.SIGTERM)])
    with pytest.raises(Stopped) as caught:
        trainer.fit(EPOCHS)
    assert caught.value.signum == signal.SIGTERM
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    trainer.evaluate(trainer.held_out_loader)  # not stopped any more


def test_a_second_signal_stops_at_once():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt, match="at once"):
            os.kill(os.getpid(), signal.SIGINT)


def test_training_in_another_thread(tmp_path):
    trainer = make_trainer(tmp_path)
    thread = threading.Thread(target=trainer.fit, args=(1,))
    thread.start()
    thread.join()
    assert trainer.epoch == 1


class Poison(Callback):
    """Makes a weight NaN after a step."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, trainer):
        if trainer.step == self.step:
            trainer.model[0].weight.data.numpy()[0, 0] = np.nan


@pytest.mark.parametrize(
    ("step", "message"),
    [(BATCHES + 3, "loss became nan in epoch 2, step 13"), (2 * BATCHES, "by step 18")],
)
def test_nan_keeps_the_checkpoint_of_before(tmp_path, step, message):
    trainer = make_trainer(tmp_path, callbacks=[Poison(step)])
    with pytest.raises(AnomalyError, match=message):
        trainer.fit(EPOCHS)
    tensors, saved = checkpoint.load(tmp_path / "last.safetensors")
    assert saved["epoch"] == 1
    assert all(np.isfinite(t.numpy()).all() for t in tensors.values())


def test_infinite_loss_leaves_the_weights_alone():
    trainer = make_trainer(None)
    before = weights(trainer)
    trainer.loss_fn = lambda outputs, targets: outputs.sum() * float("inf")
    with pytest.raises(AnomalyError, match="epoch 1, step 1"):
        trainer.fit(1)
    assert weights(trainer) == before


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    make_trainer(tmp_path).fit(1)
    other = make_trainer(None)
    other.model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2))
    before = weights(other)
    with pytest.raises(RuntimeError):
        other.load(tmp_path / "last.safetensors")
    other.model = nn.Linear(4, 2)
    other.optimizer = optim.Adam(other.model.parameters())
    with pytest.raises(CheckpointError, match="another optimizer or model"):
        other.load(tmp_path / "last.safetensors")
    assert before != weights(other)
    assert (other.epoch, other.step) == (0, 0)


def test_best_weights_are_no_training_checkpoint(tmp_path, uninterrupted):
    with pytest.raises(CheckpointError, match="no checkpoint of a training run"):
        make_trainer(None).load(uninterrupted.out / "best.safetensors")
    with pytest.raises(FileNotFoundError):
        make_trainer(None).load(tmp_path / "nothing")


def test_an_unwritable_folder_is_found_before_training(tmp_path):
    trainer = make_trainer(tmp_path / "no" / "folder")
    before = weights(trainer)
    with pytest.raises(CheckpointError, match="cannot be written"):
        trainer.fit(1)
    assert weights(trainer) == before


def test_callbacks_are_called_in_order(tmp_path):
    calls = []

    class Record(Callback):
        pass

    for moment in [name for name in vars(Callback) if name.startswith("on_")]:
        setattr(Record, moment, lambda self, trainer, m=moment: calls.append(m))
    make_trainer(None, callbacks=[Record()]).fit(1)
    batches = ["on_batch_start", "on_batch_end"] * BATCHES
    expected = ["on_fit_start", "on_epoch_start", *batches, "on_epoch_end", "on_fit_end"]
    assert calls == expected


def test_a_loss_alone_and_no_held_out_data(tmp_path):
    x = nano.tensor(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    y = (x * 2.0).sum(1, keepdim=True)
    model = nn.Linear(3, 1)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1),
        nn.MSELoss(),
        DataLoader(TensorDataset(x, y), 5),
        metrics={},
        out=tmp_path,
    )
    history = trainer.fit(5)
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 5
    assert trainer.best is history[-1]
    assert set(history[0]) == {"epoch", "step", "train_loss", "learning_rate", "seconds"}


def test_one_cycle_follows_the_step():
    class Record(Callback):
        def __init__(self):
            self.rates = []

        def on_batch_end(self, trainer):
            self.rates.append(trainer.optimizer.param_groups[0]["lr"])

    record = Record()
    make_trainer(None, callbacks=[record]).fit(2)
    rates = record.rates
    assert len(rates) == 2 * BATCHES
    assert rates[0] == pytest.approx(0.02 / 25)
    assert max(rates) == pytest.approx(0.02, rel=0.02)
    assert rates[-1] == pytest.approx(0.02 / 250_000)


def test_one_cycle_of_several_groups(tmp_path):
    def trainer(*rates):
        model = nn.Linear(4, 1)
        groups = [{"params": [model.weight]}, {"params": [model.bias]}]
        return Trainer(
            model,
            optim.SGD(groups, lr=0.1),
            nn.MSELoss(),
            DataLoader(TensorDataset(nano.ones(8, 4), nano.ones(8, 1)), 2),
            metrics={},
            callbacks=[OneCycle(rates)],
            out=tmp_path,
        )

    one = trainer(0.02, 0.06)
    one.fit(2)
    first, second = (group["lr"] for group in one.optimizer.param_groups)
    assert first == pytest.approx(0.02 / 250_000)
    assert second == pytest.approx(0.06 / 250_000)
    assert OneCycle(np.float32(0.5)).at(0.3) == 0.5
    with pytest.raises(ValueError, match="expected 2 values for max_lr, got 3"):
        trainer(0.1, 0.2, 0.3).fit(1)


@pytest.mark.parametrize(
    "arguments", [(0.0,), (-1.0,), ((0.1, 0.0),), (float("nan"),), (1.0, 0.0), (1.0, 1.0)]
)
def test_one_cycle_arguments(arguments):
    with pytest.raises(InputError, match="OneCycle"):
        OneCycle(*arguments)


def data_of(n, **options):
    x = nano.tensor(np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32))
    return DataLoader(TensorDataset(x, nano.zeros(n, dtype=nano.int64)), 4, **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train_loader": data_of(0)}, ValueError, "train_loader has no batches"),
        ({"train_loader": data_of(3, drop_last=True)}, ValueError, "train_loader has no batches"),
        ({"train_loader": iter(())}, ValueError, "train_loader has no batches"),
        ({"held_out_loader": data_of(0)}, ValueError, "held_out_loader has no batches"),
        ({"train_loader": [nano.ones(2, 4)]}, TypeError, "pair .* got a Tensor"),
        ({"train_loader": [(nano.ones(2, 4),)]}, TypeError, "pair .* got a tuple of 1"),
        ({"loss_fn": lambda outputs, targets: 1.0}, TypeError, "return a Tensor, got float"),
        ({"loss_fn": nn.CrossEntropyLoss(reduction="none")}, RuntimeError, r"shape \(8,\)"),
    ],
    ids=["empty", "dropped", "used up", "nothing held out", "bare", "single", "float", "vector"],
)
def test_wrong_data_and_losses_leave_the_weights_alone(tmp_path, change, error, message):
    trainer = make_trainer(None)
    before = weights(trainer)
    for name, value in change.items():
        setattr(trainer, name, value)
    with pytest.raises(error, match=message) as caught:
        trainer.fit(1)
    assert isinstance(caught.value, nano.errors.NanoError)
    assert weights(trainer) == before
    assert (trainer.step, trainer.history) == (0, [])


@pytest.mark.parametrize(
    ("epochs", "error"), [(-1, ValueError), (1.5, TypeError), ("a", TypeError)]
)
def test_wrong_numbers_of_epochs(tmp_path, epochs, error):
    with pytest.raises(error, match="epochs must"):
        make_trainer(tmp_path).fit(epochs)
    assert not list(tmp_path.iterdir())


def test_evaluating_nothing():
    with pytest.raises(ValueError, match="no batches"):
        make_trainer(None).evaluate([])


def test_a_checkpoint_of_another_kind_of_run(tmp_path):
    stopping = make_trainer(tmp_path, callbacks=[StopAt(5)])
    with pytest.raises(Stopped):
        stopping.fit(1)
    file = tmp_path / "last.safetensors"
    for other in (make_trainer(None, own_generator=False), make_trainer(None, optimizer="SGD")):
        before = weights(other)
        with pytest.raises(CheckpointError):
            other.load(file)
        assert weights(other) == before
    # Less data than there was: the batches done are not even there.
    other = make_trainer(None)
    other.load(file)
    other.train_loader = data_of(8, generator=other.train_loader.generator)
    with pytest.raises(CheckpointError, match=r"after batch 5 .* has only 2"):
        other.fit(1)


class Watched(nn.Linear):
    """Keeps the dtypes that it computes in."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.seen = set()

    def forward(self, input):
        output = super().forward(input)
        self.seen.add((self.training, output.dtype))
        return output


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_products_in_training_and_evaluation(precision):
    trainer = make_trainer(None)
    model = Watched(4, 2)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1),
        nn.CrossEntropyLoss(),
        trainer.train_loader,
        trainer.held_out_loader,
        precision=precision,
    )
    rows = trainer.fit(2)
    dtype = getattr(nano, precision)
    assert model.seen == {(True, dtype), (False, dtype)}
    assert model.weight.dtype is model.weight.grad.dtype is nano.float32
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert not nano.is_autocast_enabled()


def test_another_precision():
    with pytest.raises(ValueError, match=r"\[Trainer\] precision must be 'float32' or 'bfloat16'"):
        Trainer(nn.Linear(2, 2), None, nn.CrossEntropyLoss(), [], precision="float16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_step_trains_as_the_step_itself(precision):
    histories = []
    for compiled in (False, True):
        nano.manual_seed(0)
        images, labels = nano.randn(70, 6), nano.randint(0, 3, (70,))
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
        trainer = Trainer(
            model,
            nano.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            nn.CrossEntropyLoss(),
            DataLoader(TensorDataset(images, labels), 16),  # the last batch is smaller
            callbacks=[nano.train.OneCycle(0.2)],
            precision=precision,
            compile=compiled,
        )
        trainer.fit(4)
        histories.append([row["train_loss"] for row in trainer.history])
    # A native function adds up in another order; in bfloat16 a rounding may turn over.
    close = 1e-5 if precision == "float32" else 2e-2
    np.testing.assert_allclose(histories[1], histories[0], rtol=close)


def test_a_loss_that_becomes_nan_is_noticed_after_a_compiled_step():
    model = nn.Linear(2, 2)
    batches = [(nano.full((4, 2), x), nano.zeros(4, dtype=nano.int64)) for x in (1.0, 1.0, 1.0)]
    batches.append((nano.full((4, 2), float("nan")), batches[0][1]))
    optimizer = nano.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), batches, compile=True)
    with pytest.raises(RuntimeError, match=r"\[Trainer\] the loss became nan in epoch 1, step 4"):
        trainer.fit(1)
