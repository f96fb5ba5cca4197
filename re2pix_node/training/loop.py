"""The training loop. Seed and step determine all random numbers of a step, so a resumed run equals one without a stop.

`accelerate` spreads the batch over several GPUs or machines; the batch as a whole is the same on any number of them.
"""

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from re2pix_node.errors import TrainingError
from re2pix_node.training.progress import progress_bar
from re2pix_node.training.run_file import Optimisation
from re2pix_node.training.stored import append_line, read_stored, shorten_log, store, sweep

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
Batch = dict[str, Tensor]
Sums = dict[str, Tensor]


class TrainingTask(Protocol):
    """A training: a model whose forward(**batch) gives the loss and figures for the log."""

    name: str

    @property
    def model(self) -> nn.Module: ...

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """This process's part of the samples of a step."""

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]: ...

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        """Figures that add up over batches and processes, always with the same shapes."""

    def empty(self) -> Sums:
        """The zeros to which `measure` is added."""

    def summary(self, sums: Sums) -> dict[str, float]: ...


class StoppedError(Exception):
    """A signal asked the run to stop; everything has been stored."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped at step {step}: the same command continues from there")
        self.code = 128 + number


def train(
    task: TrainingTask, settings: Optimisation, seed: int, folder: Path, accelerator: Accelerator
) -> dict[str, float]:
    """Train the task's model in place, from the folder's checkpoint on; return the figures of the last validation."""
    if settings.batch % accelerator.num_processes:
        raise TrainingError(
            f"{task.name}.batch: {settings.batch} cannot be shared by {accelerator.num_processes} processes"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return _Loop(task, settings, seed, folder, accelerator).run()


class _Loop:
    def __init__(
        self, task: TrainingTask, settings: Optimisation, seed: int, folder: Path, accelerator: Accelerator
    ) -> None:
        self._task, self._settings, self._seed = task, settings, seed
        self._folder, self._accelerator = folder, accelerator
        optimizer = torch.optim.AdamW(_groups(task.model, settings.weight_decay), lr=settings.learning_rate)
        self._model, self._optimizer = accelerator.prepare(task.model, optimizer)
        self._own = accelerator.unwrap_model(self._model)
        self._average = [p.detach().clone() for p in self._own.parameters()] if settings.average else []
        self._step = 0
        self._stored = -1
        self._stop = 0

    def run(self) -> dict[str, float]:
        self._resume()
        figures: dict[str, float] = {}
        with self._signals(), ThreadPoolExecutor(1) as pool, self._progress() as progress:
            upcoming = pool.submit(self._batch, self._step + 1)
            saved = time.monotonic()
            while self._step < self._settings.steps:
                batch = upcoming.result()
                upcoming = pool.submit(self._batch, self._step + 2)
                logged = self._train_step(batch)
                self._step += 1
                progress.set_postfix_str(_text(logged), refresh=False)
                progress.update()
                if self._step % self._settings.val_every == 0 or self._step == self._settings.steps:
                    figures = self._validate()
                    if not progress.disable:
                        progress.write(f"{self._task.name} step {self._step}: {_text(figures)}", file=sys.stderr)
                    self._log(logged, figures)
                elif self._step % 50 == 0:
                    self._log(logged, {})
                if time.monotonic() - saved > 60 * self._settings.checkpoint_minutes:
                    self._store()
                    saved = time.monotonic()
                self._stop_if_asked()
        self._store()
        figures = figures or self._validate()
        self._take_average()
        return figures

    def _progress(self) -> "tqdm[object]":
        return progress_bar(self._task.name, "step", self._settings.steps, self._step)

    def _batch(self, step: int) -> Batch:
        if step > self._settings.steps:
            return {}
        return self._task.batch(step, self._accelerator.process_index, self._accelerator.num_processes)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        number = self._step + 1
        # Mixed, because PyTorch's generator on a CPU uses only 32 bits of its seed.
        chance = np.random.SeedSequence([self._seed, number, self._accelerator.process_index])
        torch.manual_seed(int(chance.generate_state(1)[0]))
        rate = self._settings.learning_rate * _share(number, self._settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._model.train()
        with self._precision():
            loss, figures = self._model(**self._on_device(batch))
        self._optimizer.zero_grad()
        self._accelerator.backward(loss)
        norm = self._accelerator.clip_grad_norm_(self._model.parameters(), self._settings.clip)
        # Gradients are shared by all processes, so either all of them stop here, or none.
        if not math.isfinite(float(norm)):
            raise TrainingError(self._not_finite(number, float(loss.detach())))
        self._optimizer.step()
        if self._average:
            keep = min(self._settings.average, number / (number + 10))  # so that the first weights fade quickly
            torch._foreach_lerp_(self._average, [p.detach() for p in self._own.parameters()], 1 - keep)
        return {"loss": float(loss.detach()), **{name: float(value) for name, value in figures.items()}, "rate": rate}

    def _not_finite(self, step: int, loss: float) -> str:
        kept = self._folder / CHECKPOINT
        state = f"{kept} stays as stored before" if kept.is_file() else "nothing was stored yet"
        return (
            f"{self._task.name}: the gradient of step {step} is not finite (loss {loss:g}): {state}; lower "
            "learning_rate, or set precision: fp32, and restart with --force"
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        kind = self._accelerator.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self._settings.precision == "bf16")

    def _on_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self._accelerator.device, non_blocking=True) for name, tensor in batch.items()}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self._own.eval()
        sums = self._on_device(self._task.empty())
        with self._averaged(), self._precision():
            for batch in self._task.val_batches(self._accelerator.process_index, self._accelerator.num_processes):
                for name, value in self._task.measure(self._own, self._on_device(batch)).items():
                    sums[name] += value
        sums = self._accelerator.reduce(sums, "sum")
        return self._task.summary({name: value.cpu() for name, value in sums.items()})

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the averaged weights in the block, then restore the trained ones."""
        trained = [p.detach().clone() for p in self._own.parameters()] if self._average else []
        self._take_average()
        yield
        for parameter, value in zip(self._own.parameters(), trained, strict=False):
            parameter.data.copy_(value)

    def _take_average(self) -> None:
        for parameter, value in zip(self._own.parameters(), self._average, strict=False):
            parameter.data.copy_(value)

    def _store(self) -> None:
        if self._accelerator.is_main_process and self._stored != self._step:
            state = {
                "step": self._step,
                "model": self._own.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "average": self._average,
            }
            store(self._folder / CHECKPOINT, state)
        self._stored = self._step

    def _resume(self) -> None:
        file = self._folder / CHECKPOINT
        if self._accelerator.is_main_process:
            sweep(self._folder)
        if file.is_file():
            state = read_stored(file)
            try:
                self._take(state)
            except (KeyError, IndexError, AttributeError, RuntimeError, ValueError, TypeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise TrainingError(f"{file}: does not fit this run ({reason}): restart with --force") from None
        if self._accelerator.is_main_process:
            shorten_log(self._folder / LOG, self._step)

    def _take(self, state: dict[str, Any]) -> None:
        parameters = list(self._own.parameters())
        self._own.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        for parameter in parameters:
            for name, value in self._optimizer.state.get(parameter, {}).items():
                if value.ndim and value.shape != parameter.shape:
                    raise ValueError(f"the optimizer's {name} is of another shape than its parameter")
        average = [t.to(self._accelerator.device) for t in state["average"]]
        if [t.shape for t in average] != [p.shape for p in parameters if self._average]:
            raise ValueError("the average is of other weights")
        step = state["step"]
        if type(step) is not int or not 0 <= step <= self._settings.steps:
            raise ValueError(f"its step is {step!r:.40}, of {self._settings.steps}")
        self._average, self._step, self._stored = average, step, step

    def _log(self, logged: dict[str, float], val: dict[str, float]) -> None:
        if self._accelerator.is_main_process:
            line = {"step": self._step, **logged, **{f"val {name}": value for name, value in val.items()}}
            append_line(self._folder / LOG, {**line, "time": round(time.time(), 1)})

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """In this block a request to stop takes effect after the current step, when everything is stored."""

        def note(number: int, frame: FrameType | None) -> None:
            self._stop = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_if_asked(self) -> None:
        stop = self._stop
        if self._accelerator.num_processes > 1:  # the signal may have reached only some processes
            asked = self._accelerator.gather(torch.tensor([stop], device=self._accelerator.device))
            stop = int(asked.max())
        if stop:
            self._store()
            raise StoppedError(stop, self._step)


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weights decay; biases and scales do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _share(step: int, settings: Optimisation) -> float:
    """Share of the learning rate at a step: it rises linearly and falls along half a cosine."""
    warmup = min(settings.warmup, settings.steps // 4)
    if step <= warmup:
        return step / warmup
    done = (step - warmup - 1) / (settings.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
