"""The Trainer: epochs, batches, evaluation, history, checkpoints.

Read from the top: ``fit`` runs epochs, an epoch runs batches, and the rest writes
and reads checkpoints so that a stopped run goes on as if it had not been stopped.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint
from ..autograd import no_grad
from ..compiler import Compiled
from ..errors import AnomalyError, CheckpointError, InputError, ShapeError, TypeMismatchError
from ..random import Generator, default_generator
from ..tensor import Tensor, wrap
from .callbacks import Callback
from .interrupts import Interrupts, Stopped
from .metrics import accuracy
from .precision import check_precision, computing_in

__all__ = ["Trainer"]

_FORMAT = "nano training run 1"


class Trainer:
    """Trains a model on batches of (inputs, targets).

    Args:
        model: a Module.
        optimizer: over its parameters.
        loss_fn: from outputs and targets to the mean loss of the batch.
        train_loader: the batches of an epoch; a generator of its own, if it has one, is part
            of the checkpoint.
        held_out_loader: batches to evaluate on after each epoch.
        metrics: by name, functions of outputs and targets to the mean over the batch, of
            which more is better. The first decides which weights are the best; with none, the
            loss does.
        callbacks: called in this order.
        out: the folder for ``last.safetensors``, ``best.safetensors`` and ``history.csv``;
            without it nothing is written.
        about: how the run was set up, as JSON can hold it; written into the checkpoints.
        precision: ``"float32"`` to compute in what the model and the data have; ``"bfloat16"``
            for model and loss, in training and evaluation, inside :class:`nano.autocast`.
        compile: run the training step as a program, see :func:`nano.compile`. A loss that
            becomes NaN is noticed after its step then, not before.

    Raises:
        ValueError: for another precision.

    Attributes:
        epoch, batch, step: epochs done; batches done in the current epoch; steps done in all.
        running: the means over the current epoch so far.
        history: a dict for each epoch done.
        best: the row of the history with the best weights.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        train_loader: Any,
        held_out_loader: Any = None,
        *,
        metrics: Mapping[str, Callable[[Tensor, Tensor], float]] | None = None,
        callbacks: Sequence[Callback] = (),
        out: str | Path | None = None,
        about: Mapping[str, Any] | None = None,
        precision: str = "float32",
        compile: bool = False,
    ) -> None:
        check_precision("Trainer", precision)
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.train_loader, self.held_out_loader = train_loader, held_out_loader
        self.metrics = {"accuracy": accuracy} if metrics is None else dict(metrics)
        self.callbacks = list(callbacks)
        self.out = None if out is None else Path(out)
        self.about = dict(about or {})
        self.precision = precision
        self._whole_step: Any = Compiled(self._forward_and_back) if compile else None
        self.epochs = self.epoch = self.batch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self._means = _Means(self.metrics)
        self._seconds = 0.0
        self._interrupts = Interrupts()
        # The generators as they were at the start of the current epoch: they decide its order.
        self._epoch_start: list[Any] = []

    @property
    def total_steps(self) -> int:
        """Steps in all epochs that ``fit`` was asked for."""
        return self.epochs * len(self.train_loader)

    @property
    def running(self) -> dict[str, float]:
        """The means over the current epoch so far."""
        return self._means.result()

    # Training ---------------------------------------------------------------------------

    def fit(self, epochs: int) -> list[dict[str, Any]]:
        """Train until ``epochs`` epochs are done in all; returns the history.

        Ctrl-C (SIGINT) and SIGTERM are acted on after the current batch.

        Raises:
            ValueError: if there is no data, or the number of epochs makes no sense.
            TypeError: if a batch is no pair, or the loss no Tensor.
            RuntimeError: if the loss or a weight becomes NaN or infinite, or a checkpoint
                cannot be written.
            KeyboardInterrupt: when stopped by a signal, after writing a checkpoint.
        """
        self._check(epochs)
        self.epochs = epochs
        try:
            with Interrupts() as self._interrupts:
                self._call("on_fit_start")
                self.save()
                while self.epoch < epochs:
                    self._run_epoch()
        except Stopped:
            self.save()
            raise
        finally:
            self._interrupts = Interrupts()
            self._call("on_fit_end")
        return self.history

    def _check(self, epochs: int) -> None:
        if isinstance(epochs, bool) or not isinstance(epochs, int):
            raise TypeMismatchError(
                "Trainer.fit", f"epochs must be an integer, got {type(epochs).__name__}."
            )
        if epochs < 0:
            raise InputError("Trainer.fit", f"epochs must not be negative, got {epochs}.")
        for name in ("train_loader", "held_out_loader"):
            loader = getattr(self, name)
            if hasattr(loader, "__len__") and not len(loader):
                raise _no_batches(name)

    def _run_epoch(self) -> None:
        started = time.perf_counter() - self._seconds
        self._call("on_epoch_start")
        self.model.train()
        for batch in self._batches_to_do():
            inputs, targets = _pair(batch)
            self._call("on_batch_start")
            self._train_batch(inputs, targets)
            self._seconds = time.perf_counter() - started
            self._call("on_batch_end")
            self._stop_if_asked()
        if not self.batch:
            raise _no_batches("train_loader")
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        row |= {f"train_{name}": mean for name, mean in self.running.items()}
        if self.held_out_loader is not None:
            held_out = self._evaluate_held_out()
            row |= {f"held_out_{name}": mean for name, mean in held_out.items()}
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        row["seconds"] = round(time.perf_counter() - started, 3)
        self._end_epoch(row)

    def _train_batch(self, inputs: Tensor, targets: Tensor) -> None:
        if self._whole_step is None:
            outputs, loss = self._forward(inputs, targets)
        else:
            outputs, loss = self._whole_step(inputs, targets)
        value = _number(loss)
        if not math.isfinite(value):
            raise AnomalyError(
                "Trainer",
                f"the loss became {value} in epoch {self.epoch + 1}, step {self.step + 1}.",
                facts=f"learning rate {self.optimizer.param_groups[0]['lr']:g}",
                hint="Try a lower learning rate. nano.autograd.detect_anomaly() finds the operator "
                "that made it; the last checkpoint is that of before.",
            )
        if self._whole_step is None:
            self._back(loss)
        self._means.add(value, outputs, targets)
        self.batch += 1
        self.step += 1

    def _forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with computing_in(self.precision):
            outputs = self.model(inputs)
            return outputs, self.loss_fn(outputs, targets)

    def _back(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _forward_and_back(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """A whole step, as it is compiled."""
        outputs, loss = self._forward(inputs, targets)
        self._back(loss)
        return outputs.detach(), loss.detach()

    def _end_epoch(self, row: dict[str, Any]) -> None:
        self._check_weights()
        self.epoch += 1
        self.batch, self._seconds, self._epoch_start = 0, 0.0, []
        self._means = _Means(self.metrics)
        self.history.append(row)
        if self._is_best(row):
            self.best = row
            if self.out is not None:
                about = {"run": self.about, "row": row}
                checkpoint.save(self.out / "best.safetensors", self.model.state_dict(), about)
        self.save()
        self._call("on_epoch_end")

    def evaluate(self, loader: Any) -> dict[str, float]:
        """The mean loss and metrics over all samples of ``loader``, in evaluation mode.

        Raises:
            ValueError: if there are none.
        """
        means = _Means(self.metrics)
        was_training = self.model.training
        self.model.eval()
        try:
            with no_grad(), computing_in(self.precision):
                for batch in loader:
                    inputs, targets = _pair(batch)
                    outputs = self.model(inputs)
                    means.add(_number(self.loss_fn(outputs, targets)), outputs, targets)
                    self._stop_if_asked()
        finally:
            self.model.train(was_training)
        if not means.samples:
            raise _no_batches("loader")
        return means.result()

    def _evaluate_held_out(self) -> dict[str, float]:
        before = [(g, g.get_state()) for g in self._generators()]
        try:
            return self.evaluate(self.held_out_loader)
        except Stopped:
            # After a resume it is done again, from its beginning.
            for generator, state in before:
                generator.set_state(state)
            raise

    def _is_best(self, row: dict[str, Any]) -> bool:
        """Better in the first metric, or equal in it and better in the loss."""
        if self.best is None:
            return True
        of = "train_" if self.held_out_loader is None else "held_out_"
        order = [(of + name, 1) for name in list(self.metrics)[:1]] + [(of + "loss", -1)]
        return [row[k] * s for k, s in order] > [self.best[k] * s for k, s in order]

    def _call(self, moment: str) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self)

    # Stopping and going on ----------------------------------------------------------------

    def _generators(self) -> list[Generator]:
        """What random numbers come from: the default generator, and the loader's own."""
        own = getattr(self.train_loader, "generator", None)
        return [default_generator] + ([own] if own not in (None, default_generator) else [])

    def _batches_to_do(self) -> Iterator[Any]:
        """The batches of this epoch that are not done yet.

        The order of an epoch is drawn from the generators as they were at its start. So after
        a resume they are taken back there, the order is drawn again, the batches that were
        done are passed over, and the generators put to where they were.
        """
        generators = self._generators()
        now = [g.get_state() for g in generators]
        if not self.batch:
            self._epoch_start = now
        for generator, state in zip(generators, self._epoch_start, strict=True):
            generator.set_state(state)
        batches = iter(self.train_loader)
        for done in range(self.batch):
            if next(batches, None) is None:
                raise CheckpointError(
                    "Trainer",
                    f"the checkpoint was written after batch {self.batch} of an epoch, but "
                    f"train_loader has only {done}.",
                    hint="Give the data and the batch size that the run was started with.",
                )
        if self.batch:
            for generator, state in zip(generators, now, strict=True):
                generator.set_state(state)
        return batches

    def _stop_if_asked(self) -> None:
        if self._interrupts.received:
            raise Stopped(self._interrupts.received, f"stopped in epoch {self.epoch + 1}")

    def _check_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not np.isfinite(parameter.detach().numpy()).all():
                raise AnomalyError(
                    "Trainer",
                    f"the weights {name} became NaN or infinite in epoch {self.epoch + 1}, "
                    f"by step {self.step}.",
                    hint="Try a lower learning rate; the last checkpoint is that of before.",
                )

    def save(self) -> None:
        """Write ``last.safetensors`` and ``history.csv``, if there is a folder to write to."""
        if self.out is None:
            return
        self._check_weights()
        tensors, optimizer = checkpoint.flatten(self.optimizer.state_dict(), "optimizer")
        tensors |= {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for i, generator in enumerate(self._generators()):
            tensors[f"generator.{i}.now"] = wrap(generator.get_state())
        for i, state in enumerate(self._epoch_start):
            tensors[f"generator.{i}.epoch_start"] = wrap(state)
        metadata = {
            "format": _FORMAT,
            "run": self.about,
            "epochs": self.epochs,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "seconds": self._seconds,
            "sums": self._means.sums,
            "samples": self._means.samples,
            "history": self.history,
            "best": None if self.best is None else self.history.index(self.best),
            "optimizer": optimizer,
        }
        checkpoint.save(self.out / "last.safetensors", tensors, metadata)
        self._write_history()

    def _write_history(self) -> None:
        if self.history:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(self.history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)
            with checkpoint.write_atomically(self.out / "history.csv") as file:
                file.write(text.getvalue().encode())

    def load(self, path: str | Path) -> None:
        """Go on from a ``last.safetensors``; ``fit`` then trains what is left of the epochs.

        Raises:
            RuntimeError: if the file is missing or damaged, or of another model or optimizer.
        """
        tensors, saved = checkpoint.load(path)
        generators = self._generators()
        names = [f"generator.{i}.now" for i in range(len(generators))]
        stored_names = {k for k in tensors if k.startswith("generator.") and k.endswith(".now")}
        if saved.get("format") != _FORMAT or stored_names != set(names):
            raise CheckpointError(
                "Trainer.load",
                f"{path} is no checkpoint of a training run like this one.",
                hint="Give the last.safetensors of a run; best.safetensors holds weights only.",
            )
        optimizer = checkpoint.unflatten(tensors, saved["optimizer"])
        stored, own = optimizer["param_groups"], self.optimizer.param_groups
        if [(len(g["params"]), set(g)) for g in stored] != [
            (len(g["params"]), set(g)) for g in own
        ]:
            raise CheckpointError("Trainer.load", f"{path} is of another optimizer or model.")
        weights = {k[6:]: t for k, t in tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        for generator, name in zip(generators, names, strict=True):
            generator.set_state(tensors[name].numpy())
        self.epoch, self.batch, self.step = saved["epoch"], saved["batch"], saved["step"]
        self._epoch_start = [
            tensors[name.replace("now", "epoch_start")].numpy() for name in names if self.batch
        ]
        self._seconds = saved["seconds"]
        self._means = _Means(self.metrics)
        self._means.sums, self._means.samples = saved["sums"], saved["samples"]
        self.history = saved["history"]
        self.best = None if saved["best"] is None else self.history[saved["best"]]


def _pair(batch: Any) -> Any:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{type(batch).__name__}"
        if isinstance(batch, (tuple, list)):
            what += f" of {len(batch)}"
        raise TypeMismatchError(
            "Trainer",
            f"a batch must be a pair (inputs, targets), got a {what}.",
            hint="Give the DataLoader a data set of pairs, or a collate_fn that makes them.",
        )
    return batch


def _number(loss: Any) -> float:
    if not isinstance(loss, Tensor):
        raise TypeMismatchError(
            "Trainer", f"loss_fn must return a Tensor, got {type(loss).__name__}."
        )
    if loss._data.size != 1:
        raise ShapeError(
            "Trainer",
            f"loss_fn must return one number, got a Tensor of shape {loss.shape}.",
            hint='Reduce it, with reduction="mean" or .mean().',
        )
    return loss.item()


def _no_batches(loader: str) -> InputError:
    return InputError(
        "Trainer",
        f"{loader} has no batches.",
        hint="Is the data set empty, or with drop_last smaller than a batch? A generator can be "
        "used up only once.",
    )


class _Means:
    """The means of the loss and the metrics, over samples, not over batches."""

    def __init__(self, metrics: Mapping[str, Callable[[Tensor, Tensor], float]]) -> None:
        self.metrics = metrics
        self.sums = dict.fromkeys(["loss", *metrics], 0.0)
        self.samples = 0

    def add(self, loss: float, outputs: Tensor, targets: Tensor) -> None:
        count = len(targets)
        self.sums["loss"] += loss * count
        for name, metric in self.metrics.items():
            self.sums[name] += metric(outputs, targets) * count
        self.samples += count

    def result(self) -> dict[str, float]:
        return {name: total / max(self.samples, 1) for name, total in self.sums.items()}
