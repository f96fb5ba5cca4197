"""Scores the pictures of a run's renderer, compared with copying, moving and the run's autoencoder.

Each picture gets PSNR, SSIM and LPIPS against the true picture, and temporal semantic consistency: the mIoU between its
segmentation and that of the true picture, both by the run's encoder and head.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.metrics import mean_iou
from re2pix_node.evaluation.bootstrap import figure, resampling
from re2pix_node.evaluation.fvd import FvdTally
from re2pix_node.evaluation.perceptual import Lpips, psnr, ssim
from re2pix_node.footage.clips import Clip, Sample, samples
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.nets.pictures.renderer import moved_on, sample
from re2pix_node.nets.pictures.vae import pictures_of, planes_of
from re2pix_node.training.frame_encoder import feature_encoder
from re2pix_node.training.pictures.steps import read_finisher, read_motion, read_renderer, read_vae
from re2pix_node.training.run_folder import RunFolder
from re2pix_node.training.trained import read_basis, read_head

Picture = NDArray[np.uint8]
COPY, MOVED, CEILING, DRAWN, PREDICTED, TRUE = "copy", "moved", "vae", "drawn", "predicted", "true"
ROWS = {
    COPY: "the newest picture as it is",
    MOVED: "the newest picture moved on as forecast",
    CEILING: "the true picture through the autoencoder",
    DRAWN: "drawn from predicted features, unfinished",
    PREDICTED: "rendered from predicted features",
    TRUE: "rendered from the true picture's features",
}
COMPARED = (COPY, MOVED)  # with which rendered pictures are compared, clip by clip
SCORES = ("psnr", "ssim", "lpips")
MOST = 100.0  # dB for a picture that is exactly equal


@dataclass(frozen=True)
class Future:
    """One horizon of a sample: the true picture and the picture of each row."""

    seconds: float
    true: Picture
    said: dict[str, Picture]


class Painter:
    """Applies all networks of a run to samples."""

    def __init__(self, run: RunFolder, sampling: int | None = None, guidance: float | None = None) -> None:
        spec = self._spec = run.spec
        self.time = spec.time
        self._encoder = feature_encoder(spec.backbone, read_basis(run)).eval()
        self._forecaster = read_motion(run)
        self._head, self.space, _ = read_head(run)
        self._coder = read_vae(run)
        self._net = read_renderer(run, self._coder)
        self._finisher = read_finisher(run, self._coder)
        self._sampling = sampling or spec.renderer.sampling
        self._guidance = spec.renderer.guidance if guidance is None else guidance

    def fitted(self, frame: Picture) -> Picture:
        backbone = self._spec.backbone
        return fit_frame(frame, backbone.height, backbone.width, backbone.fit)[0]

    @torch.inference_mode()
    def futures(self, moment: Sample, seed: int, only_last: bool) -> list[Future]:
        o = self._forecaster.options
        context = torch.from_numpy(np.stack([self.fitted(frame) for frame in moment.context]))
        future = torch.from_numpy(np.stack([self.fitted(frame) for frame in moment.future]))
        said, displacements = self._forecaster(self._encoder(context)[None])
        painted = []
        for k in range(len(o.horizons))[-1 if only_last else 0 :]:
            shape = 1, self._coder.latents, o.height, o.width
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            moved = moved_on(context[-1:], displacements[:, k])
            latents = self._coder.encode(moved)
            true = self._encoder(future[k : k + 1])[..., : o.channels]
            ahead = torch.tensor([float(o.horizons[k])])

            def draw(features: Tensor) -> Tensor:
                return sample(self._net, noise, features, latents, ahead, self._sampling, self._guidance)  # noqa: B023

            def finish(drawn: Tensor) -> Picture:
                return _first(self._finisher(drawn, latents, self._coder.decode(drawn), moved))  # noqa: B023

            predicted = draw(said[:, k])
            rows = {
                COPY: context[-1].numpy(),
                MOVED: _first(moved),
                CEILING: _first(self._coder.decode(self._coder.encode(planes_of(future[k : k + 1])))),
                DRAWN: _first(self._coder.decode(predicted)),
                PREDICTED: finish(predicted),
                TRUE: finish(draw(true)),
            }
            seconds = o.horizons[k] * moment.spacing / NANOSECONDS
            painted.append(Future(seconds, future[k].numpy(), rows))
        return painted

    @torch.inference_mode()
    def segmented(self, pictures: Sequence[Picture]) -> NDArray[np.int64]:
        """[n, 2 h, 2 w]: numbers of the head's classes."""
        features = self._encoder(torch.from_numpy(np.stack(pictures)))[..., : self._spec.pca.channels]
        classes: NDArray[np.int64] = self._head(features).argmax(1).numpy()
        return classes


def _first(planes: Tensor) -> Picture:
    return np.asarray(pictures_of(planes)[0].numpy())


@dataclass
class RenderTally:
    """The scores of one row at one horizon, summed over the pictures of a clip."""

    confusion: NDArray[np.float64]  # [true class, predicted class or another]
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(SCORES) + 1))  # last: the number of pictures


@dataclass
class PictureTally:
    """The scores of a clip."""

    name: str
    samples: int = 0
    horizons: list[dict[str, RenderTally]] = field(default_factory=list)  # by row
    later_half: deque[Future] = field(default_factory=deque)  # the later half of its samples, each at the last horizon

    @property
    def middle(self) -> Future:
        """The sample to show: always the middle one, never a chosen one."""
        return self.later_half[0]


def judge_clip(
    painter: Painter, lpips: Lpips, clip: Clip, every: int, only_last: bool, fvd: FvdTally | None = None
) -> PictureTally:
    """Score the samples of a clip; `fvd`, which needs all horizons, also gets the pictures of every sample."""
    tally = PictureTally(clip.name)
    classes = len(painter.space.ids)
    for seed, moment in enumerate(samples(clip, painter.time, every)):
        futures = painter.futures(moment, seed, only_last)
        rows = futures[0].said
        if not tally.horizons:
            tally.horizons = [{row: RenderTally(np.zeros((classes, classes + 1))) for row in rows} for _ in futures]
        for of_horizon, future in zip(tally.horizons, futures, strict=True):
            add_future(of_horizon, future, painter.segmented([future.true, *future.said.values()]), lpips)
        if fvd is not None:
            context = [painter.fitted(frame) for frame in moment.context]
            said = {row: [future.said[row] for future in futures] for row in rows}
            fvd.add(context, [future.true for future in futures], said)
        # Remove one for every two that are added: the first is then always the middle one.
        tally.later_half.append(futures[-1])
        if tally.samples % 2:
            tally.later_half.popleft()
        tally.samples += 1
    return tally


def add_future(tallies: dict[str, RenderTally], future: Future, segmented: NDArray[np.int64], lpips: Lpips) -> None:
    """Add one horizon; `segmented` holds the true picture's segmentation, then that of each row."""
    true, *others = segmented
    for (row, picture), classes in zip(future.said.items(), others, strict=True):
        tally = tallies[row]
        same = min(psnr(picture, future.true), MOST), ssim(picture, future.true), lpips(picture, future.true)
        tally.sums += *same, 1
        count = len(tally.confusion)
        pairs = np.bincount((true * (count + 1) + classes).ravel(), minlength=count * (count + 1))
        tally.confusion += pairs.reshape(count, count + 1)


def figures(clips: Sequence[list[dict[str, RenderTally]]]) -> list[dict[str, dict[str, Any]]]:
    """By horizon: the scores of each row, and rendered less each row of COMPARED; intervals are over clips."""
    weights = resampling(len(clips))
    found = []
    for horizon in range(len(clips[0])):
        values = {row: _values([clip[horizon][row] for clip in clips], weights) for row in clips[0][horizon]}
        rows = {row: _figures(scored) for row, scored in values.items()}
        # Differences on the same clips: that some clips are harder than others does not widen these intervals.
        apart = {
            row: _figures({name: value - values[row][name] for name, value in values[PREDICTED].items()})
            for row in COMPARED
        }
        found.append({"rows": rows, "rendered less": apart})
    return found


def _values(clips: Sequence[RenderTally], weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Each score, under each line of weights."""
    sums = weights @ np.stack([clip.sums for clip in clips])
    confusion = np.tensordot(weights, np.stack([clip.confusion for clip in clips]), 1)
    return {name: sums[:, i] / sums[:, -1] for i, name in enumerate(SCORES)} | {"miou": mean_iou(confusion)}


def _figures(values: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float | None]]:
    return {name: figure(value) for name, value in values.items()}
