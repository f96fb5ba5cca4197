"""Trains for some minutes from a pack and from exact drives, and stores the weights every minute."""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.errors import DataError
from re2pix_node.footage.cityscapes_classes import NAMES
from re2pix_node.footage.exact_drives import ExactDrive
from re2pix_node.nets.mover.forecaster import MoverForecaster, MoverOptions
from re2pix_node.training.mover.augment import Chunk, augmented
from re2pix_node.training.mover.judge import add, empty_sums, figures
from re2pix_node.training.mover.loss import LossShares, MoverLoss
from re2pix_node.training.mover.pack import REAL, read_clip, read_encoder
from re2pix_node.training.mover.stills import moving_stills
from re2pix_node.training.mover.store import Store, joined
from re2pix_node.training.stored import read_stored, store

SIZE, GRID = (224, 448), (28, 56)
CHANNELS, CARRIED, CONTEXT, HORIZONS = 96, 16, 4, (1, 2, 3)
SAMPLE = CONTEXT + len(HORIZONS)
LENGTH = SAMPLE + 2  # frames of a chunk: three samples for nine encoded frames
WEIGHTS, LOG = "weights.pt", "log.jsonl"
# Frames of real footage that are one stride apart: 25 frames a second with labels, 20 without.
STEPS = {True: (3, 4, 5, 6), False: (3, 4)}
WARM_UP = 0.03  # share of the time
TOLD, STORED = 12.0, 60.0  # seconds between lines of the log, and between stored weights
AVERAGE = 0.998


@dataclass(frozen=True)
class LearnOptions:
    pack: Path
    drives: Path  # a folder that a simulator fills with exact drives; read ones are deleted
    output: Path
    minutes: float
    resume: Path | None = None  # weights to go on from
    frames: int = 30000  # simulated frames that are kept, 702 kB each
    real_frames: int = 17000  # real ones of each kind, 326 kB each
    drive_frames: int = 100
    held: int = 5  # drives to judge by
    # Chunks of a step: exact, labelled real, real, and real or exact pictures that are moved.
    batch: tuple[int, int, int, int] = (10, 4, 4, 4)
    rate: float = 0.0015
    seed: int = 0
    model: dict[str, int] = field(default_factory=lambda: {"depth": 2, "motion_depth": 2})


def network(options: dict[str, int]) -> MoverForecaster:
    return MoverForecaster(MoverOptions(CHANNELS, CARRIED, *GRID, CONTEXT, HORIZONS, len(NAMES), **options))


class Learner:
    def __init__(self, options: LearnOptions) -> None:
        self.o = options
        self.begun = time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self.rng = np.random.default_rng(options.seed)
        self.generator = torch.Generator(self.device).manual_seed(options.seed)
        self.encoder = read_encoder(options.pack).to(self.device)
        ahead = len(HORIZONS)
        self.exact = Store(options.frames, SIZE, ahead, True, self.device)
        self.held = Store(options.held * options.drive_frames, SIZE, ahead, True, self.device)
        self.named = Store(options.real_frames, SIZE, ahead, False, self.device)
        self.plain = Store(options.real_frames, SIZE, ahead, False, self.device)
        self.waiting: list[Path] = []

    def run(self) -> None:
        self.o.output.mkdir(parents=True, exist_ok=True)
        self.read_real()
        while self.held.total < len(self.held.pictures) or not self.exact.total:
            if self.take_drives(20):
                continue
            if self.elapsed() > 60 * self.o.minutes:
                raise DataError(f"{self.o.drives}: too few drives in {self.o.minutes} minutes: hold fewer")
            time.sleep(0.1)
        torch.manual_seed(self.o.seed)
        net = network(self.o.model).to(self.device)
        if self.o.resume:
            net.load_state_dict({name: tensor.float() for name, tensor in read_stored(self.o.resume)["model"].items()})
        self.learn(net)

    def read_real(self) -> None:
        for path in sorted((self.o.pack / REAL).rglob("*.mp4")):
            named = path.with_suffix(".labels.npz").is_file()
            to = self.named if named else self.plain
            room = len(to.pictures) - to.total
            if room > LENGTH * STEPS[named][-1]:
                clip = read_clip(path, SIZE, room)
                to.add_clip(clip.pictures, clip.labels, STEPS[named])
        self.say(event="real footage", labelled=self.named.total, plain=self.plain.total)

    def take_drives(self, most: int) -> int:
        """Take new drives; return how many. The first ones are kept for validation."""
        if not self.waiting:
            self.waiting = sorted(self.o.drives.glob("[0-9]*.npz"))
        taken = self.waiting[:most]
        for path in taken:
            drive = ExactDrive.load(path)
            held = self.held.total + len(drive.pictures) <= len(self.held.pictures)
            (self.held if held else self.exact).add_drive(drive)
            path.unlink()
        del self.waiting[:most]
        return len(taken)

    def learn(self, net: MoverForecaster) -> None:
        moving_average: Any = get_ema_multi_avg_fn  # PyTorch has no types for it
        average = AveragedModel(net, multi_avg_fn=moving_average(AVERAGE), use_buffers=True)
        task = MoverLoss(net, class_weights(self.exact).to(self.device), LossShares()).to(self.device)
        optimizer = self.optimizer(net)
        start, told, stored = self.elapsed(), self.elapsed(), self.elapsed()
        parts: list[dict[str, Tensor]] = []
        step = 0
        while (share := (self.elapsed() - start) / max(self.o.minutes * 60 - start, 1e-6)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = self.o.rate * schedule(share)
            self.take_drives(2)
            parts.append(self.step(net, task, optimizer))
            average.update_parameters(net)
            step += 1
            if self.elapsed() - told > TOLD:
                means = {name: round(float(torch.stack([p[name] for p in parts]).mean()), 4) for name in parts[0]}
                self.say(step=step, frames=self.exact.total, **means)
                parts, told = [], self.elapsed()
            if self.elapsed() - stored > STORED:
                self.store(average, step)
                stored = self.elapsed()
        self.store(average, step)
        assert isinstance(average.module, MoverForecaster)
        self.judge(average.module, step)

    def optimizer(self, net: nn.Module) -> torch.optim.AdamW:
        # No weight decay for scales, shifts and biases.
        groups = [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.03},
            {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.o.rate, betas=(0.9, 0.98))

    def step(self, net: nn.Module, task: MoverLoss, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        chunk = augmented(self.batch(), self.generator, self.named.pictures[: self.named.total])
        features = self.encode(chunk.pictures)
        parts: dict[str, Tensor]
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, parts = task(features, chunk)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        return parts

    def batch(self) -> Chunk:
        stores, (*counts, still) = (self.exact, self.named, self.plain), self.o.batch
        picked = zip(stores, counts, strict=True)
        chunks = [store.chunks(count, LENGTH, self.rng) for store, count in picked if count and store.total]
        if still:
            ahead = len(HORIZONS)
            chunks.append(moving_stills(self.stills(still), self.stills(still), LENGTH, ahead, self.generator))
        return joined(chunks)

    def stills(self, count: int) -> Tensor:
        """Random pictures; every kind of footage is equally likely."""
        stores = [store for store in (self.exact, self.named, self.plain) if store.total]
        picked = [stores[i] for i in self.rng.integers(len(stores), size=count)]
        return torch.stack([store.pictures[self.rng.integers(store.kept)] for store in picked])

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            parts = [self.encoder(part).float() for part in torch.split(pictures.flatten(0, 1), 64)]
        return torch.unflatten(torch.cat(parts), 0, pictures.shape[:2])

    @torch.no_grad()
    def judge(self, net: MoverForecaster, step: int) -> None:
        net.eval()
        sums = empty_sums(len(NAMES), len(HORIZONS), self.device)
        for chunk in self.held.spread(SAMPLE, LENGTH):
            with torch.autocast(self.device.type, torch.bfloat16):
                add(sums, net, self.encode(chunk.pictures), chunk)
        self.say(judged=step, samples=sums.samples, **figures(sums))

    def store(self, average: AveragedModel, step: int) -> None:
        """Store the weights in half precision, to keep the file small."""
        state = {
            name: tensor.half().cpu() if tensor.is_floating_point() else tensor.cpu()
            for name, tensor in average.module.state_dict().items()
        }
        store(self.o.output / WEIGHTS, {"model": state, "step": step, "options": self.o.model})

    def elapsed(self) -> float:
        return time.monotonic() - self.begun

    def say(self, **what: Any) -> None:
        line = json.dumps({"seconds": round(self.elapsed(), 1), **what})
        print(line, flush=True)
        with (self.o.output / LOG).open("a") as file:
            file.write(line + "\n")


def schedule(share: float) -> float:
    """Share of the learning rate: it rises at the start and then falls along a cosine."""
    return min(1.0, share / WARM_UP) * (0.51 + 0.49 * math.cos(math.pi * share))


def class_weights(exact: Store) -> Tensor:
    """Weights with mean 1 over the pixels; rare classes count more, absent classes do not count."""
    labels = exact.labels[: exact.total].flatten()
    counts = torch.bincount(labels[labels != UNLABELLED].long(), minlength=len(NAMES))[: len(NAMES)].float().cpu()
    share = counts / counts.sum()
    weights = torch.where(share > 0, share.clamp(min=1e-4) ** -0.3, torch.zeros(()))
    return weights / (weights * share).sum()
