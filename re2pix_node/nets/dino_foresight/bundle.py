"""Makes a bundle of the published files of DINO-Foresight."""

from pathlib import Path

from re2pix_node.bundle.manifest import (
    SCHEMA,
    FeatureSpec,
    FileEntry,
    Graphs,
    ImageSpec,
    LabelClass,
    LabelSpec,
    Manifest,
    ProofSpec,
    Provenance,
    TimeSpec,
)
from re2pix_node.bundle.reader import Bundle
from re2pix_node.errors import BundleError
from re2pix_node.nets.dino_foresight.files import read_dino_foresight
from re2pix_node.nets.dino_foresight.graphs import DinoEncoder, DinoForecaster, DinoForesight
from re2pix_node.nets.onnx_export import export_bundle
from re2pix_node.nets.proof_frames import proof_frames

SOURCE = "https://huggingface.co/Sta8is/DINO-Foresight"
HORIZONS = (1, 2, 3)
# In the order of Cityscapes' train ids and in its colours; the moving classes are last.
CITYSCAPES = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
FIRST_MOVING = 11


def import_dino_foresight(checkpoint: Path, head: Path, output: Path, name: str, replace: bool = False) -> Bundle:
    parts = read_dino_foresight(checkpoint, head)
    try:
        manifest = dino_foresight_manifest(name, parts)
    except ValueError as error:
        raise BundleError(f"{output}: {error}: give another one with --name") from None
    frames = proof_frames(manifest.time.context, *parts.image_size)
    networks = DinoEncoder(parts), DinoForecaster(parts, HORIZONS)
    # Not rounded: the bundle gives what the published files give.
    return export_bundle(output, manifest, *networks, frames, replace, in_half=False)


def dino_foresight_manifest(name: str, parts: DinoForesight) -> Manifest:
    unknown = "0" * 64  # write_bundle fills in the hashes
    height, width = parts.image_size
    forecaster = "forecaster, trained on Cityscapes, whose terms of use are non-commercial"
    return Manifest(
        schema=SCHEMA,
        name=name,
        version="1",
        description="DINO-Foresight as published: DINOv2 features, a masked feature transformer, a segmentation head.",
        licence="MIT, with weights learnt from Cityscapes (non-commercial research)",
        provenance=(
            Provenance("DINOv2 with registers", "https://github.com/facebookresearch/dinov2", "Apache-2.0"),
            Provenance(f"PCA and {forecaster}", SOURCE, "MIT"),
            Provenance("segmentation head, trained on Cityscapes likewise", SOURCE, "MIT"),
        ),
        image=ImageSpec(height, width),
        # Trained on every 3rd frame at 17 Hz, and for augmentation on every 2nd and 4th.
        time=TimeSpec(parts.transformer.context, 0.18, 0.12, 0.24, 0.02, HORIZONS),
        features=FeatureSpec(*parts.grid, parts.transformer.embed.in_features, "float32"),
        samples=1,
        labels=LabelSpec(
            *parts.mask_size,
            tuple(LabelClass(i, label, color, i >= FIRST_MOVING) for i, (label, color) in enumerate(CITYSCAPES)),
        ),
        graphs=Graphs(FileEntry("encode.onnx", unknown), FileEntry("forecast.onnx", unknown)),
        proof=ProofSpec("proof.npz", unknown, relative_l2=0.02, cosine=0.9995, agreement=0.97, confidence=0.02),
    )
