"""Features of a frame: layers of a frozen backbone resized to one grid, normalised per channel, reduced by PCA."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.common.archives import load_arrays
from re2pix_node.common.limits import ARRAY_BYTES
from re2pix_node.nets.backbone import Backbone

SUB = 4  # the carried picture has SUB x SUB grey pixels a cell
CARRIED = SUB * SUB
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class FeatureBasis:
    """The map from raw layers to features. All channels share one `scale`, which keeps their order of importance."""

    layers: tuple[str, ...]
    cell: int  # pixels of the picture a cell
    mean: NDArray[np.float32]  # [raw]
    std: NDArray[np.float32]  # [raw]
    components: NDArray[np.float32]  # [channels, raw]
    scale: float
    explained: float  # share of the variance that the components keep

    def to_bytes(self) -> bytes:
        archive = io.BytesIO()
        fields: dict[str, Any] = {**self.__dict__, "layers": np.array(self.layers)}
        np.savez(archive, **fields)
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "FeatureBasis":
        held = load_arrays(io.BytesIO(data), ARRAY_BYTES)
        basis = cls(
            tuple(str(layer) for layer in held["layers"]),
            int(held["cell"]),
            held["mean"],
            held["std"],
            held["components"],
            float(held["scale"]),
            float(held["explained"]),
        )
        arrays = basis.mean, basis.std, basis.components
        if basis.components.ndim != 2 or any(array.shape[-1:] != basis.mean.shape for array in arrays):
            raise ValueError("its mean, std and components do not belong together")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("it has values that are not finite")
        return basis


def raw_channels(backbone: Backbone, layers: tuple[str, ...]) -> int:
    return sum(backbone.gives[layer].channels for layer in layers)


def raw_features(backbone: Backbone, frames: Tensor, layers: tuple[str, ...], cell: int) -> Tensor:
    """u8 [n, H, W, 3] -> [n, h, w, raw], the layers side by side in each cell."""
    found = backbone(frames)
    maps = [_to_grid(found[layer], backbone.gives[layer].cell, cell) for layer in layers]
    return torch.cat(maps, 1).permute(0, 2, 3, 1)


class FeatureEncoder(nn.Module):
    """u8 [n, H, W, 3] -> [n, h, w, channels]; with `picture`, CARRIED more channels hold a small grey picture."""

    offset: Tensor

    def __init__(self, backbone: Backbone, basis: FeatureBasis, picture: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.basis = basis
        self.picture = picture
        weights = torch.from_numpy(basis.components / basis.std * basis.scale).float()
        # Projecting before the grids are joined gives the same result, and a quarter of the work on the coarse grid.
        parts = torch.split(weights, [backbone.gives[layer].channels for layer in basis.layers], 1)
        self.projections = nn.ParameterList([nn.Parameter(part[:, :, None, None], False) for part in parts])
        self.register_buffer("offset", -(weights @ torch.from_numpy(basis.mean).float()))

    @property
    def channels(self) -> int:
        return len(self.basis.components) + (CARRIED if self.picture else 0)

    def forward(self, frames: Tensor) -> Tensor:
        found = self.backbone(frames)
        maps = [
            _to_grid(functional.conv2d(found[layer], weights), self.backbone.gives[layer].cell, self.basis.cell)
            for layer, weights in zip(self.basis.layers, self.projections, strict=True)
        ]
        features = torch.stack(maps).sum(0) + self.offset[:, None, None]
        if self.picture:
            features = torch.cat([features, small_picture(frames, self.basis.cell)], 1)
        return features.permute(0, 2, 3, 1)


def small_picture(frames: Tensor, cell: int) -> Tensor:
    """u8 [n, H, W, 3] -> [n, CARRIED, h, w]: grey, SUB x SUB pixels a cell row by row, of about unit variance."""
    planes = frames.float().permute(0, 3, 1, 2)
    red, green, blue = (share * planes[:, i : i + 1] for i, share in enumerate(GREY))
    small = functional.avg_pool2d(red + green + blue, cell // SUB) / 64 - 2
    return functional.pixel_unshuffle(small, SUB)


def _to_grid(layer: Tensor, has: int, wanted: int) -> Tensor:
    if has > wanted:
        return functional.interpolate(layer, scale_factor=float(has // wanted), mode="bilinear")
    return functional.avg_pool2d(layer, wanted // has) if wanted > has else layer
