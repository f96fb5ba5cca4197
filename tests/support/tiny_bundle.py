"""A tiny bundle with the whole contract: real ONNX graphs, small enough to make in a second.

Nothing in it is trained. Features of a cell are its mean colour, its position and a few fixed random filters; the
forecast continues the change between the last two frames; a label is the nearest of a few class colours. A picture,
where it draws any, is the newest frame, the brighter the farther ahead, in stripes of noise. An optional output, where
it has one, is the mean of a cell's features.
"""

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bundle.manifest import (
    SCHEMA,
    FeatureSpec,
    FileEntry,
    Graphs,
    ImageSpec,
    LabelClass,
    LabelSpec,
    Manifest,
    OptionalOutput,
    ProofSpec,
    Provenance,
    RenderSpec,
    TimeSpec,
)
from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle
from tests.support import drive

CELL = 8  # pixels of the model's picture along one side of a feature cell
FILTERS = 12
CLASSES = (
    LabelClass(0, "road", (128, 64, 128)),
    LabelClass(2, "building", (70, 70, 70)),
    LabelClass(8, "vegetation", (107, 142, 35)),
    LabelClass(10, "sky", (70, 130, 180)),
    LabelClass(13, "car", (0, 0, 142), moving=True),
)


def tiny_manifest(
    height: int = 128,
    width: int = 256,
    context: int = 4,
    horizons: int = 3,
    samples: int = 1,
    render: bool = False,
    warmth: bool = False,
) -> Manifest:
    unknown = "0" * 64
    return Manifest(
        schema=SCHEMA,
        name="tiny",
        version="1",
        description="Untrained: carries the contract of a bundle through tests and the demo.",
        licence="Apache-2.0",
        provenance=(
            Provenance("all weights", "tests/support/tiny_bundle.py (numbers from a fixed seed)", "Apache-2.0"),
        ),
        image=ImageSpec(height, width),
        time=TimeSpec(context, 0.18, 0.12, 0.24, 0.02, tuple(range(1, horizons + 1))),
        features=FeatureSpec(height // CELL, width // CELL, 4 + FILTERS, "float32"),
        samples=samples,
        labels=LabelSpec(height // 2, width // 2, CLASSES),
        graphs=Graphs(FileEntry("encode.onnx", unknown), FileEntry("forecast.onnx", unknown)),
        proof=ProofSpec("proof.npz", unknown, relative_l2=0.02, cosine=0.9995, agreement=0.97, confidence=0.02),
        render=RenderSpec("render.onnx", unknown, noise=width, psnr=40.0) if render else None,
        outputs=(OptionalOutput("warmth", "float32", (height // CELL, width // CELL), 0.02),) if warmth else (),
    )


def make_tiny_bundle(path: Path, manifest: Manifest | None = None, replace: bool = False) -> Bundle:
    manifest = manifest or tiny_manifest()
    graphs = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
    if manifest.render:
        graphs["render"] = render_graph(manifest)
    return write_bundle(path, manifest, graphs, reference_proof(manifest, graphs), replace)


def reference_proof(manifest: Manifest, graphs: dict[str, onnx.ModelProto]) -> dict[str, np.ndarray]:
    """Reference outputs by ONNX's own evaluator in NumPy, which shares no code with the engines it will judge."""
    size = manifest.image.width, manifest.image.height
    encoder = onnx.reference.ReferenceEvaluator(graphs["encode"])
    steps = [drive.frame(0.18 * i, *size)[None] for i in range(manifest.time.context)]
    context = [encoder.run(["features"], {"frame": step})[0] for step in steps]
    inputs = {f"context_{i}": features for i, features in enumerate(context)}
    names = ["features", "labels", "confidence", *(output.name for output in manifest.outputs)]
    outputs = onnx.reference.ReferenceEvaluator(graphs["forecast"]).run(names, inputs)
    proof = {
        "encode.frame": steps[-1],
        "encode.features": context[-1],
        **{f"forecast.{name}": array for name, array in inputs.items()},
        **{f"forecast.{name}": array for name, array in zip(names, outputs, strict=True)},
    }
    if manifest.render:
        noise = np.random.default_rng(5).standard_normal((1, manifest.render.noise), np.float32)
        last = np.array([len(manifest.time.horizons) - 1], np.float32)
        given = {"features": outputs[0][:1, -1], "frame": steps[-1], "horizon": last, "noise": noise, **inputs}
        image = onnx.reference.ReferenceEvaluator(graphs["render"]).run(["image"], given)[0]
        proof |= {"render.noise": noise, "render.image": np.clip(np.rint(image), 0, 255).astype(np.uint8)}
    return proof


def encode_graph(manifest: Manifest) -> onnx.ModelProto:
    rng = np.random.default_rng(7)
    cells = manifest.features
    mean_colour = np.zeros((3, 3, CELL, CELL), np.float32)
    mean_colour[range(3), range(3)] = 1 / CELL**2
    random = rng.normal(0, 1, (FILTERS, 3, CELL, CELL)).astype(np.float32)
    random = (random - random.mean(axis=(1, 2, 3), keepdims=True)) / CELL
    rows = np.linspace(0, 1, cells.height, dtype=np.float32)
    rows = np.broadcast_to(rows[None, None, :, None], (1, 1, cells.height, cells.width)).copy()
    return _model(
        "encode",
        {"frame": (TensorProto.UINT8, [1, manifest.image.height, manifest.image.width, 3])},
        {"features": (TensorProto.FLOAT, [1, cells.height, cells.width, cells.channels])},
        {"scale": np.float32(1 / 255), "colour": mean_colour, "random": random, "rows": rows},
        [
            helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "scale"], ["unit"]),
            helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["planes", "colour"], ["colours"], strides=[CELL, CELL]),
            helper.make_node("Conv", ["planes", "random"], ["responses"], strides=[CELL, CELL]),
            helper.make_node("Tanh", ["responses"], ["texture"]),
            helper.make_node("Concat", ["colours", "rows", "texture"], ["channels"], axis=1),
            helper.make_node("Transpose", ["channels"], ["features"], perm=[0, 2, 3, 1]),
        ],
    )


def forecast_graph(manifest: Manifest) -> onnx.ModelProto:
    cells, steps, samples = manifest.features, manifest.time.horizons, manifest.samples
    grid = [cells.height, cells.width, cells.channels]
    context = [f"context_{i}" for i in range(manifest.time.context)]
    # Change continues with a damped speed; further samples are spread around the first by their own gain.
    gains = np.array([[0.6 * sum(0.5**i for i in range(k)) * (1 + 0.2 * s) for k in steps] for s in range(samples)])
    gains = gains.reshape(samples, len(steps), 1, 1, 1).astype(np.float32)
    weights, bias = _nearest_colour_head(cells.channels)
    masks = [samples, len(steps) + 1, manifest.labels.height, manifest.labels.width]
    flat = [samples * (len(steps) + 1), *grid]
    constants = {
        "gains": gains,
        "weights": weights,
        "bias": bias,
        "ids": np.array([c.id for c in manifest.labels.classes], np.uint8),
        "now_shape": np.array([samples, 1, *grid], np.int64),
        "flat_shape": np.array(flat, np.int64),
        "mask_shape": np.array(masks, np.int64),
        # Bilinear enlargement as two products: the reference evaluator takes minutes for a Resize.
        "taller": _enlarging(cells.height, manifest.labels.height),
        "wider": _enlarging(cells.width, manifest.labels.width).T.copy(),
        "full": np.float32(255),
    }
    before = context[-2] if len(context) > 1 else context[-1]
    nodes = [
        helper.make_node("Sub", [context[-1], before], ["change"]),
        helper.make_node("Mul", ["change", "gains"], ["changes"]),  # [S, K, h, w, C]
        helper.make_node("Add", [context[-1], "changes"], ["features"]),
        helper.make_node("Expand", [context[-1], "now_shape"], ["now"]),
        helper.make_node("Concat", ["now", "features"], ["moments"], axis=1),
        helper.make_node("Reshape", ["moments", "flat_shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights", "bias"], ["logits"]),
        helper.make_node("MatMul", ["taller", "logits"], ["tall"]),
        helper.make_node("MatMul", ["tall", "wider"], ["fine"]),
        helper.make_node("Softmax", ["fine"], ["chances"], axis=1),
        helper.make_node("ReduceMax", ["chances", "class_axis"], ["chance"], keepdims=0),
        helper.make_node("Mul", ["chance", "full"], ["chance_255"]),
        helper.make_node("Cast", ["chance_255"], ["confidence_flat"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["confidence_flat", "mask_shape"], ["confidence"]),
        helper.make_node("ArgMax", ["fine"], ["winners"], axis=1, keepdims=0),
        helper.make_node("Gather", ["ids", "winners"], ["labels_flat"]),
        helper.make_node("Reshape", ["labels_flat", "mask_shape"], ["labels"]),
    ]
    if len(context) > 2:  # earlier frames are inputs of the contract even where this model ignores them
        nodes[:1] = [
            helper.make_node("Sum", context[:-2], ["earlier"]),
            helper.make_node("Mul", ["earlier", "zero"], ["nothing"]),
            helper.make_node("Sub", [context[-1], before], ["step"]),
            helper.make_node("Add", ["step", "nothing"], ["change"]),
        ]
        constants["zero"] = np.float32(0)
    constants["class_axis"] = np.array([1], np.int64)
    optional = {}
    if manifest.outputs:  # the mean of a cell's features
        nodes.append(helper.make_node("ReduceMean", ["moments", "last_axis"], ["warmth"], keepdims=0))
        constants["last_axis"] = np.array([-1], np.int64)
        optional["warmth"] = (TensorProto.FLOAT, [samples, len(steps) + 1, *grid[:2]])
    return _model(
        "forecast",
        {name: (TensorProto.FLOAT, [1, *grid]) for name in context},
        {
            "features": (TensorProto.FLOAT, [samples, len(steps), *grid]),
            "labels": (TensorProto.UINT8, masks),
            "confidence": (TensorProto.UINT8, masks),
            **optional,
        },
        constants,
        nodes,
    )


def render_graph(manifest: Manifest) -> onnx.ModelProto:
    cells, picture = manifest.features, [1, manifest.image.height, manifest.image.width, 3]
    grid = [1, cells.height, cells.width, cells.channels]
    context = [f"context_{i}" for i in range(manifest.time.context)]
    return _model(
        "render",
        {
            "features": (TensorProto.FLOAT, grid),
            "frame": (TensorProto.UINT8, picture),
            "horizon": (TensorProto.FLOAT, [1]),
            "noise": (TensorProto.FLOAT, [1, manifest.render.noise]),
            **dict.fromkeys(context, (TensorProto.FLOAT, grid)),
        },
        {"image": (TensorProto.FLOAT, picture)},
        {
            "brighter": np.float32(8),
            "change": np.float32(100),
            "faint": np.float32(3),
            "columns": np.array([1, 1, manifest.render.noise, 1], np.int64),
        },
        [
            helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["horizon", "brighter"], ["light"]),
            helper.make_node("Mean", context, ["before"]),
            helper.make_node("Sub", ["features", "before"], ["changes"]),
            helper.make_node("ReduceMean", ["changes"], ["mean_change"]),
            helper.make_node("Mul", ["mean_change", "change"], ["tone"]),
            helper.make_node("Reshape", ["noise", "columns"], ["stripes"]),
            helper.make_node("Mul", ["stripes", "faint"], ["faint_stripes"]),
            helper.make_node("Sum", ["float", "light", "tone", "faint_stripes"], ["image"]),
        ],
    )


def _nearest_colour_head(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear logits whose largest belongs to the nearest prototype: |x - p|^2 = |x|^2 - 2 x.p + |p|^2."""
    prototypes = np.array([[*(c / 255 for c in colour), row] for colour, row in drive.LOOKS.values()], np.float32)
    sharpness = 20
    weights = np.zeros((len(prototypes), channels, 1, 1), np.float32)
    weights[:, :4, 0, 0] = 2 * sharpness * prototypes
    return weights, (-sharpness * (prototypes**2).sum(axis=1)).astype(np.float32)


def _enlarging(small: int, large: int) -> np.ndarray:
    """[large, small]: each row interpolates between the two nearest of `small` evenly spaced values."""
    centres = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.clip(1 - np.abs(centres[:, None] - np.arange(small)), 0, 1).astype(np.float32)


def _model(name: str, inputs: dict, outputs: dict, constants: dict, nodes: list) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, *kind) for key, kind in inputs.items()],
        [helper.make_tensor_value_info(key, *kind) for key, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
