"""The encoded footage of a run, for training and validation."""

from collections.abc import Sequence
from pathlib import Path

from re2pix_node.errors import TrainingError
from re2pix_node.training.cached_samples import ForecastSamples
from re2pix_node.training.feature_cache import CachedClip, FeatureCache
from re2pix_node.training.frame_encoder import FrameEncoder, encoder_identity, feature_encoder
from re2pix_node.training.run_file import DataEntry
from re2pix_node.training.run_folder import RunFolder
from re2pix_node.training.trained import read_basis

Clips = list[list[CachedClip]]


def footage(run: RunFolder) -> tuple[Sequence[DataEntry], Sequence[DataEntry], Clips, Clips, str]:
    """Encoded footage for training and validation, and a name for the latter; without data.val both are the same."""
    cache, data = _cache(run), run.spec.data
    clips, val_clips = cache.clips(data.train), cache.clips(data.val)
    if not data.val:
        return data.train, data.train, clips, clips, "the training footage, because there is no data.val"
    return data.train, data.val, clips, val_clips, ", ".join(Path(entry.path).name for entry in data.val)


def val_samples(run: RunFolder) -> ForecastSamples:
    """Footage for validating forecasts."""
    entries = run.spec.data.val or run.spec.data.train
    return ForecastSamples(entries, _cache(run).clips(entries), run.spec.time, run.spec.seed)


def _cache(run: RunFolder) -> FeatureCache:
    basis, backbone = read_basis(run), run.spec.backbone
    if len(basis.components) != run.spec.pca.channels:
        raise TrainingError(f"{run.result('pca')}: has another number of channels than pca.channels: restart pca")
    encoder = FrameEncoder(feature_encoder(backbone, basis), backbone.height, backbone.width)
    return FeatureCache(run.cache, backbone, encoder, encoder_identity(backbone, basis))
