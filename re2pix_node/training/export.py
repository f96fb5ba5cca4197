"""From a trained run to a bundle."""

import colorsys
import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

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
    RenderSpec,
    Score,
)
from re2pix_node.bundle.reader import Bundle
from re2pix_node.errors import BundleError, DataError, TrainingError
from re2pix_node.footage import cityscapes_classes as cityscapes
from re2pix_node.footage.clips import open_clips
from re2pix_node.footage.label_space import CITYSCAPES, LabelSpace
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.nets.backbone import backbone_kind
from re2pix_node.nets.features import CARRIED
from re2pix_node.nets.forecaster import ForecastGraph
from re2pix_node.nets.masks import Masks
from re2pix_node.nets.onnx_export import export_bundle
from re2pix_node.nets.proof_frames import proof_frames
from re2pix_node.training.calibration import forecast_temperatures
from re2pix_node.training.encoded_footage import val_samples
from re2pix_node.training.family import family_of
from re2pix_node.training.frame_encoder import feature_encoder
from re2pix_node.training.moments import moments
from re2pix_node.training.run_file import RunFile
from re2pix_node.training.run_folder import RUN, RunFolder
from re2pix_node.training.stored import read_stored
from re2pix_node.training.trained import read_basis, read_forecaster, read_head

UNKNOWN = "0" * 64  # write_bundle fills in the hashes
# Rounding to bf16 changes features by 0.02 to 0.03 and a thousandth of the labels; a wrong graph changes far more.
PROOF = ProofSpec("proof.npz", UNKNOWN, relative_l2=0.05, cosine=0.999, agreement=0.98, confidence=0.02)
# In bf16 a picture that is drawn in several steps differs more than features do: minimum PSNR against the proof, in dB.
PSNR = 30.0
# The figures of the renderer's steps, in words.
PICTURE_FIGURES = {
    "vae": "{} of true pictures through the autoencoder",
    "renderer": "squared error of latents, in shares {}",
    "finisher": "error of {} of pictures, in shares of moving on",
}
FIRST_MOVING = 11  # the first moving class in Cityscapes' train ids


@dataclasses.dataclass(frozen=True)
class Identity:
    """Name, description and licence of a bundle."""

    name: str
    version: str
    description: str
    licence: str


def export_run(run: RunFolder, output: Path, identity: Identity, replace: bool = False) -> Bundle:
    spec = run.spec
    encoder = feature_encoder(spec.backbone, read_basis(run))
    forecaster, ratios = read_forecaster(run)
    head, space, temperature = read_head(run)
    size = spec.backbone.height // spec.backbone.mask, spec.backbone.width // spec.backbone.mask
    reader = family_of(spec).reader(forecaster, head).eval()
    graph = ForecastGraph(reader, Masks(space.ids, size, _temperatures(run, reader, space, temperature)))
    renderer, render = _renderer(run)
    try:
        manifest = _manifest(run, identity, space, size, ratios, render)
    except ValueError as error:
        raise BundleError(f"{output}: {error}") from None
    return export_bundle(output, manifest, encoder, graph.eval(), _frames(spec), replace, renderer)


def _renderer(run: RunFolder) -> tuple[nn.Module | None, RenderSpec | None]:
    """The renderer, if the last of its steps is done."""
    if not run.result("finisher").is_file():
        return None, None
    # Imported here, because only this needs diffusers.
    from re2pix_node.training.pictures.export import blank_inputs, render_graph

    graph = render_graph(run)
    return graph, RenderSpec("render.onnx", UNKNOWN, noise=blank_inputs(graph)["noise"].shape[1], psnr=PSNR)


def _temperatures(run: RunFolder, reader: nn.Module, space: LabelSpace, now: float) -> list[float]:
    """Temperatures of now and of each horizon, from the validation footage; the head's own if that is gone."""
    try:
        samples = val_samples(run)
    except (DataError, TrainingError) as error:
        print(f"re2pix export: confidence of forecasts is not calibrated: {error}", file=sys.stderr)
        return [now]
    return forecast_temperatures(reader, run.spec.time, samples, space, now)


def _manifest(
    run: RunFolder,
    identity: Identity,
    space: LabelSpace,
    size: tuple[int, int],
    ratios: Mapping[str, float],
    render: RenderSpec | None,
) -> Manifest:
    spec, backbone = run.spec, run.spec.backbone
    grid = backbone.height // backbone.cell, backbone.width // backbone.cell
    return Manifest(
        schema=SCHEMA,
        name=identity.name,
        version=identity.version,
        description=identity.description,
        licence=identity.licence,
        provenance=_provenance(spec, identity.licence, render is not None),
        image=ImageSpec(backbone.height, backbone.width, backbone.fit),
        time=spec.time,
        features=FeatureSpec(*grid, spec.pca.channels, "float32", carried=CARRIED if backbone.picture else 0),
        samples=1,
        labels=LabelSpec(*size, _classes(space, spec.head.moving)),
        graphs=Graphs(FileEntry("encode.onnx", UNKNOWN), FileEntry("forecast.onnx", UNKNOWN)),
        proof=PROOF,
        render=render,
        scores=_scores(run, ratios, render is not None),
    )


def _provenance(spec: RunFile, licence: str, draws: bool) -> tuple[Provenance, ...]:
    kind = backbone_kind(spec.backbone.kind)
    weights = hashlib.sha256(Path(spec.backbone.weights).read_bytes()).hexdigest()
    footage = ", ".join(Path(entry.path).name for entry in spec.data.train)
    trained = f"re2pix train, run '{spec.name}', on {footage}"
    listed = [
        Provenance(f"backbone: {kind.title}", f"{kind.source} (sha256 {weights})", kind.licence),
        Provenance("PCA, forecaster and head", trained, licence),
    ]
    if draws and spec.vae.pretrained:
        listed.append(Provenance("autoencoder of pictures", Path(spec.vae.pretrained).name, "not stated"))
        listed.append(Provenance("renderer and finisher", trained, licence))
    elif draws:
        listed.append(Provenance("autoencoder, renderer and finisher", trained, licence))
    return tuple(listed)


def _scores(run: RunFolder, ratios: Mapping[str, float], draws: bool) -> tuple[Score, ...]:
    data = ", ".join(Path(entry.path).name for entry in run.spec.data.val) or "the footage it was trained on"
    figures = {
        "forecaster": {f"SmoothL1 in shares of copying, {name}": value for name, value in ratios.items()},
        "head": {f"{name} of now": value for name, value in read_stored(run.result("head"))["figures"].items()},
    }
    for step, metric in PICTURE_FIGURES.items() if draws else ():
        measured = read_stored(run.result(step))["figures"]
        figures[step] = {metric.format(name): value for name, value in measured.items()}
    return tuple(
        Score(metric, round(value, 4), data, f"re2pix train {step} {RUN} -o {run.path.name}")
        for step, of_step in figures.items()
        for metric, value in of_step.items()
        if np.isfinite(value)
    )


def _classes(space: LabelSpace, moving: tuple[str, ...]) -> tuple[LabelClass, ...]:
    """The classes with colours: Cityscapes' colour if it has the name, else colours that are far apart."""
    known = dict(zip(CITYSCAPES.names, CITYSCAPES.ids, strict=True))
    made = []
    for number, (label, name) in enumerate(zip(space.ids, space.names, strict=True)):
        city = known.get(name.lower().replace("_", " "))
        hue = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.75, 0.6 + 0.4 * (number % 2))
        colour = [int(255 * part) for part in hue] if city is None else cityscapes.COLOURS[city].tolist()
        moves = name in moving or (city is not None and city >= FIRST_MOVING)
        made.append(LabelClass(label, name, (colour[0], colour[1], colour[2]), moves))
    return tuple(made)


def _frames(spec: RunFile) -> NDArray[np.uint8]:
    """A context from the validation footage; drawn frames if none can be opened any more."""
    size = spec.backbone.height, spec.backbone.width
    for entry in (*spec.data.val, *spec.data.train):
        try:
            clips = open_clips(Path(entry.path))
        except DataError:
            continue
        for clip in clips:
            found = moments(np.array(clip.stamps, np.int64), spec.time)
            if len(found):
                indices = found[len(found) // 2][: spec.time.context].tolist()
                return np.stack([fit_frame(frame, *size, spec.backbone.fit)[0] for frame in clip.frames(indices)])
    return proof_frames(spec.time.context, *size)
