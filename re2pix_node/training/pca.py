"""Computes the basis of a run's features: principal components of raw layers, normalised per channel."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from re2pix_node.errors import TrainingError
from re2pix_node.footage.clips import open_clips
from re2pix_node.imaging.geometry import Picture, fit_frame
from re2pix_node.nets.backbone import Backbone
from re2pix_node.nets.features import FeatureBasis, raw_channels, raw_features
from re2pix_node.training.frame_encoder import FrameEncoder, load_backbone
from re2pix_node.training.progress import progress_bar
from re2pix_node.training.run_file import BackboneSpec, DataEntry, RunFile

DEAD = 1e-3  # channels that vary less than this share of the usual are not scaled up to the size of the others


class RawEncoder(nn.Module):
    """Maps frames to all channels of the chosen layers."""

    def __init__(self, backbone: Backbone, layers: tuple[str, ...], cell: int) -> None:
        super().__init__()
        self.backbone, self.layers, self.cell = backbone, layers, cell

    def forward(self, frames: Tensor) -> Tensor:
        return raw_features(self.backbone, frames, self.layers, self.cell)


class Moments:
    """Mean and covariance of vectors that come in pieces."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._shift = np.zeros(channels)
        self._sum = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def add(self, vectors: NDArray[np.float32]) -> None:
        if self.count == 0:  # sums of squares far from zero would lose significant digits
            self._shift = vectors.mean(0).astype(np.float64)
        centred = vectors - self._shift.astype(np.float32)
        self.count += len(vectors)
        self._sum += centred.sum(0, dtype=np.float64)
        self._products += centred.T @ centred

    def mean(self) -> NDArray[np.float64]:
        return self._shift + self._sum / self.count

    def covariance(self) -> NDArray[np.float64]:
        off = self._sum / self.count
        return self._products / self.count - np.outer(off, off)


def learn_basis(spec: RunFile) -> FeatureBasis:
    backbone = spec.backbone
    net = load_backbone(backbone)
    raw = raw_channels(net, backbone.layers)
    if spec.pca.channels > raw:
        raise TrainingError(f"pca.channels: {spec.pca.channels} are requested, but the layers have {raw}")
    module = RawEncoder(net, backbone.layers, backbone.cell)
    encoder = FrameEncoder(module, backbone.height, backbone.width)
    encoder.expect(spec.pca.frames)
    moments = Moments(raw)
    with progress_bar("pca", "frame", spec.pca.frames) as progress:
        for frame in drawn_frames(spec.data.train, spec.pca.frames, backbone):
            moments.add(encoder(frame[None]).reshape(-1, raw))
            progress.update()
    return basis_of(moments, spec.pca.channels, backbone)


def basis_of(moments: Moments, channels: int, spec: BackboneSpec) -> FeatureBasis:
    covariance = moments.covariance()
    std = np.sqrt(np.diag(covariance).clip(min=0))
    std = np.maximum(std, DEAD * np.median(std))
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance / np.outer(std, std)))
    kept = values.flip(0)[:channels].clamp(min=0).numpy()
    components = vectors.flip(1)[:, :channels].T.numpy()
    # The sign of a component is arbitrary: make its largest entry positive.
    largest = np.abs(components).argmax(1)
    components = components * np.sign(components[np.arange(channels), largest])[:, None]
    return FeatureBasis(
        layers=spec.layers,
        cell=spec.cell,
        mean=moments.mean().astype(np.float32),
        std=std.astype(np.float32),
        components=np.ascontiguousarray(components, np.float32),
        scale=float(1 / np.sqrt(kept.mean())),
        explained=float(kept.sum() / values.sum()),
    )


def drawn_frames(entries: Sequence[DataEntry], count: int, spec: BackboneSpec) -> Iterator[Picture]:
    """Frames spread evenly over all footage, the same number for each entry, at the size of the model's picture."""
    for number, entry in enumerate(entries):
        clips = open_clips(Path(entry.path))
        share = count * (number + 1) // len(entries) - count * number // len(entries)
        total = sum(len(clip) for clip in clips)
        picks = (np.arange(share) + 0.5) * total / max(share, 1)
        start = 0
        for clip in clips:
            inside = picks[(picks >= start) & (picks < start + len(clip))] - start
            start += len(clip)
            indices = sorted({int(index) for index in inside})
            with closing(clip.frames(indices)) as frames:
                for frame in frames:
                    yield fit_frame(frame, spec.height, spec.width, spec.fit)[0]
