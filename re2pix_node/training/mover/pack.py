"""Packs the inputs of a training elsewhere: a bundle's encoder as PyTorch weights, and real footage as video."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import BundleError, DataError
from re2pix_node.footage.cityscapes_classes import NAMES
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.nets.backbones.mobilesam import BACKBONE, MobileSamEncoder
from re2pix_node.nets.features import small_picture
from re2pix_node.training.stored import read_stored, store

ENCODER, REAL = "encoder.pt", "real"
CELL = 8  # pixels of the picture a cell
ROAD, VEGETATION, SKY = (NAMES.index(name) for name in ("road", "vegetation", "sky"))
HORIZON = 0.55  # share of the height that lies above it, or at it
UNUSED = ("neck.", "layers.3.")
# As the exporter names them in encode.onnx; weights that are stored in half have another name.
PROJECTIONS, OFFSET, IN_HALF = ("projections.0", "projections.1"), "unsqueeze_1", ".stored"


class PackedEncoder(nn.Module):
    """u8 [n, H, W, 3] -> [n, h, w, channels + carried], as the bundle's encode graph."""

    fine: Tensor
    coarse: Tensor
    offset: Tensor

    def __init__(self, backbone: MobileSamEncoder, fine: Tensor, coarse: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        for name, tensor in (("fine", fine), ("coarse", coarse), ("offset", offset)):
            self.register_buffer(name, tensor.float())
        self.requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        found = self.backbone(frames)
        coarse = functional.conv2d(found["stage2"], self.coarse)
        coarse = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear").float()
        features = functional.conv2d(found["stage1"], self.fine).float() + coarse + self.offset
        with torch.autocast(frames.device.type, enabled=False):
            picture = small_picture(frames, CELL)
        return torch.cat([features, picture], 1).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class RealClip:
    pictures: NDArray[np.uint8]  # [n, H, W, 3]
    labels: NDArray[np.uint8] | None  # [n, H / 2, W / 2], a teacher's opinion


def write_pack(bundle: Path, weights: Path, real: Path, output: Path) -> None:
    # Imported here: the machine that trains from a pack needs no ONNX.
    import onnx
    from onnx import numpy_helper

    if not any(real.rglob("*.mp4")):
        raise DataError(f"{real}: has no .mp4 file: name the folder of the videos")
    tensors = {
        tensor.name.removesuffix(IN_HALF): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load_model_from_string(read_bundle(bundle).graph("encode")).graph.initializer
    }
    missing = [name for name in (*PROJECTIONS, OFFSET) if name not in tensors]
    if missing:
        raise BundleError(f"{bundle}: its encode graph has no {missing[0]}: pack one like re2pix-nano")
    backbone = BACKBONE.load(weights).state_dict()
    fine, coarse = (tensors[name] for name in PROJECTIONS)
    kept = {name: tensor.half() for name, tensor in backbone.items() if not name.startswith(UNUSED)}
    with write_beside(output, error=DataError) as partial:
        shutil.copytree(real, partial / REAL)
        store(partial / ENCODER, {"backbone": kept, "fine": fine, "coarse": coarse, "offset": tensors[OFFSET]})


def read_encoder(pack: Path) -> PackedEncoder:
    content = read_stored(pack / ENCODER)
    backbone = MobileSamEncoder()
    try:
        weights = {name: tensor.float() for name, tensor in content["backbone"].items()}
        missing, unexpected = backbone.load_state_dict(weights, strict=False)
        whole = not unexpected and all(name.startswith(UNUSED) for name in missing)
        encoder = PackedEncoder(backbone.eval(), content["fine"], content["coarse"], content["offset"]).eval()
    except (KeyError, RuntimeError, AttributeError):
        whole = False
    if not whole:
        raise DataError(f"{pack / ENCODER}: is not an encoder of this backbone: write the pack again")
    return encoder


def read_clip(path: Path, size: tuple[int, int], most: int) -> RealClip:
    """A video, cropped and resized to (height, width), with the labels beside it."""
    video = cv2.VideoCapture(str(path))
    pictures: list[NDArray[np.uint8]] = []
    while len(pictures) < most:
        fine, frame = video.read()
        if not fine:
            break
        pictures.append(fit_frame(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8), *size, "crop")[0])
    beside = path.with_suffix(".labels.npz")
    if not beside.is_file():
        return RealClip(np.stack(pictures), None)
    with np.load(beside, allow_pickle=False) as archive:
        labels = archive["labels"][: len(pictures)]
    small = np.stack([_believed(_small_labels(mask, size)) for mask in labels])
    return RealClip(np.stack(pictures[: len(small)]), small)


def _believed(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What to learn from a teacher: it takes hills for road, and barriers and shadows for cars."""
    rows = np.arange(len(labels))[:, None] / len(labels)
    known = (labels == SKY) & (rows < HORIZON) | (labels == VEGETATION) | (labels == ROAD) & (rows > HORIZON)
    return np.where(known, labels, np.uint8(UNLABELLED))


def _small_labels(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = mask.shape
    rows, columns = min(height, width * size[0] // size[1]), min(width, height * size[1] // size[0])
    top, left = (height - rows) // 2, (width - columns) // 2
    cut = mask[top : top + rows, left : left + columns]
    small = cv2.resize(cut, (size[1] // 2, size[0] // 2), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small, np.uint8)
