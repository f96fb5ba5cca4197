"""Keeps footage on the device, as much as fits: new clips replace the oldest."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.footage.exact_drives import HALF, ExactDrive
from re2pix_node.training.mover.augment import Chunk
from re2pix_node.training.mover.truth import backward_flow


class Store:
    """Frames of clips in one place. With `ahead`, their exact flows to the 1 .. ahead frames before them as well."""

    def __init__(self, frames: int, size: tuple[int, int], ahead: int, exact: bool, device: torch.device) -> None:
        height, width = size
        small = (height // HALF, width // HALF)
        self.pictures = torch.zeros((frames, height, width, 3), dtype=torch.uint8, device=device)
        self.labels = torch.full((frames, *small), UNLABELLED, dtype=torch.uint8, device=device)
        rows = frames if exact else 1
        self.flows = torch.zeros((rows, ahead, 2, *small), dtype=torch.float16, device=device)
        self.seen = torch.zeros((rows, ahead, *small), dtype=torch.bool, device=device)
        self.total = 0  # number of frames added so far
        self._exact = exact
        self._clips: list[tuple[int, int, tuple[int, ...]]] = []  # first row, frames, steps between a chunk's frames
        self._next = 0

    @property
    def device(self) -> torch.device:
        return self.pictures.device

    @property
    def kept(self) -> int:
        return min(self.total, len(self.pictures))

    def add_drive(self, drive: ExactDrive) -> None:
        rows = self._room(len(drive.pictures), (1,))
        self.pictures[rows] = torch.from_numpy(drive.pictures).to(self.device)
        self.labels[rows] = torch.from_numpy(drive.labels).to(self.device)
        for back in range(self.flows.shape[1]):
            self.flows[rows, back], self.seen[rows, back] = backward_flow(drive, back + 1, self.device)

    def add_clip(self, pictures: NDArray[np.uint8], labels: NDArray[np.uint8] | None, steps: Sequence[int]) -> None:
        """`steps` are the distances of frames that are one stride apart."""
        rows = self._room(len(pictures), tuple(steps))
        self.pictures[rows] = torch.from_numpy(pictures).to(self.device)
        if labels is not None:
            self.labels[rows] = torch.from_numpy(labels).to(self.device)

    def _room(self, count: int, steps: tuple[int, ...]) -> slice:
        if self._next + count > len(self.pictures):
            self._next = 0
        start, end = self._next, self._next + count
        self._clips = [clip for clip in self._clips if clip[0] >= end or clip[0] + clip[1] <= start]
        self._clips.append((start, count, steps))
        self._next = end
        self.total += count
        return slice(start, end)

    def chunks(self, count: int, length: int, rng: np.random.Generator) -> Chunk:
        """Random chunks; every frame is equally likely to start one."""
        weights = np.array([max(frames - (length - 1) * min(steps), 0) for _, frames, steps in self._clips], float)
        rows = []
        for clip in rng.choice(len(weights), count, p=weights / weights.sum()):
            first, frames, steps = self._clips[clip]
            step = int(rng.choice([step for step in steps if (length - 1) * step < frames]))
            begin = first + int(rng.integers(frames - (length - 1) * step))
            rows.append(begin + step * np.arange(length))
        return self._chunk(torch.from_numpy(np.stack(rows)))

    def spread(self, length: int, apart: int) -> list[Chunk]:
        """Chunks spread evenly over everything."""
        starts = [first + begin for first, frames, _ in self._clips for begin in range(0, frames - length + 1, apart)]
        return [self._chunk(torch.arange(start, start + length)[None]) for start in starts]

    def _chunk(self, rows: Tensor) -> Chunk:
        rows = rows.to(self.device)
        flat = rows.flatten()
        exact = flat if self._exact else torch.zeros_like(flat)
        parts = (self.pictures[flat], self.labels[flat], self.flows[exact].float(), self.seen[exact])
        pictures, labels, flows, seen = (torch.unflatten(part, 0, rows.shape) for part in parts)
        return Chunk(pictures, labels, flows, seen, torch.full((len(rows),), self._exact, device=self.device))


def joined(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(*(torch.cat([getattr(chunk, name) for chunk in chunks]) for name in Chunk.__dataclass_fields__))
