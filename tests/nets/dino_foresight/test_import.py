"""From files with the published layout to bundles, against a reference that shares no code with the import."""

from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.cli import main
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import CheckpointError
from re2pix_node.nets.dino_foresight.files import read_dino_foresight
from tests.support import drive, reference
from tests.support import small_checkpoints as files

HEIGHT, WIDTH = files.ROWS * 14, files.COLUMNS * 14


def command(checkpoint: Path, head: Path, output: Path, *more: str) -> list[str]:
    paths = ["--checkpoint", str(checkpoint), "--head", str(head), "-o", str(output)]
    return ["import", "dino-foresight", *paths, *more]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return files.save_checkpoints(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def bundle(published: tuple[Path, Path]) -> Bundle:
    output = published[0].parent / "bundle"
    assert main(command(*published, output)) == 0
    return read_bundle(output)


def test_the_bundle_says_what_it_is(bundle: Bundle) -> None:
    m = bundle.manifest
    assert (m.name, m.image.height, m.image.width) == ("bundle", HEIGHT, WIDTH)
    assert (m.time.context, m.time.stride, m.time.stride_min, m.time.stride_max) == (4, 0.18, 0.12, 0.24)
    assert m.time.horizons == (1, 2, 3)
    assert (m.features.height, m.features.width, m.features.channels) == (files.ROWS, files.COLUMNS, files.CHANNELS)
    assert (m.labels.height, m.labels.width) == (8 * files.ROWS, 8 * files.COLUMNS)
    names = [c.name for c in m.labels.classes]
    assert (len(names), names[0], names[13], names[18]) == (19, "road", "car", "bicycle")
    assert [c.name for c in m.labels.classes if c.moving] == names[11:]
    assert {"MIT", "Apache-2.0"} <= {p.licence for p in m.provenance}


@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
@torch.inference_mode()
def test_engines_give_what_the_unfolded_model_gives(
    published: tuple[Path, Path], bundle: Bundle, engine_name: str
) -> None:
    forecaster = torch.load(published[0], weights_only=False)["state_dict"]
    head = reference.part(torch.load(published[1], weights_only=False)["state_dict"], "head.")
    # Other frames than the proof's: a street that moves, and noise.
    frames = [drive.frame(0.18 * i, WIDTH, HEIGHT) for i in range(3)]
    frames.append(np.random.default_rng(0).integers(0, 256, frames[0].shape, np.uint8))
    engine, _ = open_engine(bundle, engine_name, "fp32")
    context = [engine.encode(np.ascontiguousarray(frame[None])) for frame in frames]
    outputs = engine.forecast(context)

    encoded = torch.stack([reference.encode(forecaster, torch.tensor(frame), [0, 1, 2, 3]) for frame in frames])
    for found, wanted in zip(context, encoded, strict=True):
        assert distance(engine.fetch(found)[0], wanted) < 1e-5
    steps = reference.rollout(forecaster, encoded, files.HEADS, 3)
    assert outputs.features.shape == (1, 3, files.ROWS, files.COLUMNS, files.CHANNELS)
    for found, wanted in zip(outputs.features[0], steps, strict=True):
        assert distance(found, wanted) < 1e-4
    logits = torch.cat([reference.dpt(head, reference.layers_of(forecaster, x)) for x in (encoded[-1], *steps)])
    labels = logits.argmax(1).numpy()
    assert len(np.unique(labels)) > 3
    assert np.mean(outputs.labels[0] == labels) >= 0.999
    confidence = 255 * logits.softmax(1).amax(1).numpy()
    assert np.abs(outputs.confidence[0] - confidence).max() <= 1


def distance(found: np.ndarray, wanted: torch.Tensor) -> float:
    return float(np.linalg.norm(found - wanted.numpy()) / np.linalg.norm(wanted.numpy()))


def test_proof_is_kept_within_close_bounds(bundle: Bundle) -> None:
    _, attempts = open_engine(bundle, "onnxruntime", "fp32")
    assert attempts[-1].proof is not None
    assert attempts[-1].proof.relative_l2 < 1e-5
    assert attempts[-1].proof.agreement > 0.999


@pytest.mark.parametrize(
    ("file", "name", "tensor", "complaint"),
    [
        ("forecaster", "dino_v2.blocks.2.attn.qkv.bias", None, "is missing"),
        ("forecaster", "dino_v2.mask_token", None, "is missing"),
        ("forecaster", "dino_v2.head.weight", torch.ones(3), "is unexpected"),
        ("forecaster", "dino_v2.norm.weight", torch.ones(3), "is [3], expected [128]"),
        ("forecaster", "dino_v2.pos_embed", torch.ones(1, 27, 128), "is not that of a DINOv2"),
        ("forecaster", "maskvit.fc_out.bias", None, "is missing"),
        ("forecaster", "maskvit.first_layer.0.weight", torch.ones(3), "is unexpected"),
        ("forecaster", "mask_vector", torch.ones(3), "is unexpected"),
        ("forecaster", "maskvit.pos_embd.emb.d_0", torch.ones(7, 32), "is [7, 32], expected [5, 32]"),
        ("forecaster", "embed.weight", None, "is missing"),
        ("forecaster", "pca_components", None, "is missing"),
        ("forecaster", "pca_components", torch.ones(48, 500), "takes 500 channels, 4 layers have 128 each"),
        ("forecaster", "std", torch.zeros(512), "not above zero"),
        ("forecaster", "pca_mean", torch.zeros(5), "is [5], expected [512]"),
        ("head", "head.scratch.output_conv.4.weight", torch.ones(256, 16, 1, 1), "has 256 classes"),
        ("head", "head.projects.2.weight", torch.ones(16, 64, 1, 1), "is [16, 64, 1, 1], expected [16, 128, 1, 1]"),
        ("head", "head.scratch.refinenet2.resConfUnit1.bn1.weight", None, "is missing"),
        ("head", "head.readout_projects.0.0.weight", torch.ones(3), "is unexpected"),
        ("head", "maskvit.fc_out.weight", torch.ones(3), "is unexpected"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, file: str, name: str, tensor: torch.Tensor | None, complaint: str
) -> None:
    torch.manual_seed(0)
    contents = {"forecaster": files.forecaster_tensors(), "head": files.head_tensors()}
    contents[file].pop(name, None)
    if tensor is not None:
        contents[file][name] = tensor
    for kind, tensors in contents.items():
        files.save(tmp_path / f"{kind}.ckpt", tensors)
    with pytest.raises(CheckpointError) as caught:
        read_dino_foresight(tmp_path / "forecaster.ckpt", tmp_path / "head.ckpt")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / file}.ckpt: ")
    assert complaint in message
    assert name.rpartition(".")[0] in message or "classes" in message or "channels" in message


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"masking": "half_half"}, "trained with masking 'half_half'"),
        ({"feature_extractor": "sam"}, "feature_extractor 'sam'"),
        ({"seperable_window_size": 2}, "seperable_window_size 2"),
        ({"output_activation": "sigmoid"}, "output_activation 'sigmoid'"),
        ({"d_layers": [0, 1, 2, 9]}, "blocks [0, 1, 2, 9] of 4"),
        ({"heads": 7}, "96 channels cannot be split among 7 heads"),
    ],
)
def test_settings_that_the_tensors_do_not_show_are_refused(tmp_path: Path, setting: dict, complaint: str) -> None:
    torch.manual_seed(0)
    files.save(tmp_path / "f.ckpt", files.forecaster_tensors(), **setting)
    files.save(tmp_path / "h.ckpt", files.head_tensors())
    with pytest.raises(CheckpointError, match=complaint.replace("[", r"\[").replace("]", r"\]")):
        read_dino_foresight(tmp_path / "f.ckpt", tmp_path / "h.ckpt")


def test_what_trainings_carry_along_is_left_aside(tmp_path: Path) -> None:
    torch.manual_seed(0)
    forecaster, head = files.forecaster_tensors(), files.head_tensors()
    files.save(tmp_path / "f.ckpt", forecaster | {f"{name}": t + 1 for name, t in head.items()})
    files.save(tmp_path / "h.ckpt", head | {"backbone.cls_token": torch.ones(1), "mean": torch.ones(2)})
    parts = read_dino_foresight(tmp_path / "f.ckpt", tmp_path / "h.ckpt")
    assert torch.equal(parts.head.projects[0].weight, head["head.projects.0.weight"])
    assert torch.equal(parts.basis.mean, forecaster["mean"].double())


def test_the_command_refuses_in_one_line(
    tmp_path: Path, published: tuple[Path, Path], bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        (text,) = capsys.readouterr().err.splitlines()
        return text

    assert "exists already" in line(*command(*published, bundle.path))
    assert "does not exist" in line(*command(*published, tmp_path / "no" / "b"))
    assert "odd characters" in line(*command(*published, tmp_path / "b", "--name", "a b"))
    assert "is missing" in line(*command(published[1], published[1], tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    with pytest.raises(SystemExit):  # masks need a head
        main(["import", "dino-foresight", "--checkpoint", "x", "-o", "y"])
    assert "--head" in capsys.readouterr().err


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    assert main(command(Path("a"), Path("b"), Path("c"))) == 2
    assert "pip install onnxscript" in capsys.readouterr().err
