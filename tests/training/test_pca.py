"""The basis: principal components of standardised layers, at unit variance on average."""

from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import CheckpointError, TrainingError
from re2pix_node.footage.clips import open_clips
from re2pix_node.nets.features import CARRIED
from re2pix_node.training.frame_encoder import FrameEncoder, encoder_identity, feature_encoder, load_backbone
from re2pix_node.training.pca import Moments, basis_of, drawn_frames, learn_basis
from re2pix_node.training.run_file import BackboneSpec, DataEntry, read_run_file
from re2pix_node.training.run_folder import start_run
from re2pix_node.training.trained import read_basis
from tests.support.made_runs import HEIGHT, WIDTH, make_footage, write_pictures, write_run


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    make_footage(folder)
    write_run(folder / "run.yaml")
    return folder


def test_moments_in_pieces_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(0, 1, (600, 5)) @ rng.normal(0, 1, (5, 5)) + 1000).astype(np.float32)
    found = Moments(5)
    for piece in np.split(vectors, 6):
        found.add(piece)
    np.testing.assert_allclose(found.mean(), vectors.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(
        found.covariance(), np.cov(vectors.T.astype(np.float64), bias=True), rtol=1e-3, atol=1e-3
    )


def test_components_are_ordered_and_their_signs_fixed() -> None:
    rng = np.random.default_rng(1)
    hidden = rng.normal(0, [3, 2, 1], (4000, 3))
    vectors = (hidden @ rng.normal(0, 1, (3, 8)) + rng.normal(0, 0.01, (4000, 8))).astype(np.float32)
    spec = BackboneSpec("weights.pt", 64, 128)
    bases = []
    for order in (vectors, vectors[::-1]):
        found = Moments(8)
        found.add(order)
        bases.append(basis_of(found, 3, spec))
    np.testing.assert_allclose(bases[0].components, bases[1].components, atol=1e-4)
    assert bases[0].explained > 0.999
    features = (vectors - bases[0].mean) / bases[0].std @ bases[0].components.T * bases[0].scale
    variances = features.var(0)
    assert variances.mean() == pytest.approx(1, abs=1e-3)
    assert (np.diff(variances) < 0).all()
    assert np.abs(np.corrcoef(features.T) - np.eye(3)).max() < 1e-3
    assert (bases[0].components[np.arange(3), np.abs(bases[0].components).argmax(1)] > 0).all()


def test_features_of_the_footage_have_mean_zero_and_unit_variance(footage: Path) -> None:
    spec = read_run_file(footage / "run.yaml")
    basis = learn_basis(spec)
    frames = np.stack(list(drawn_frames(spec.data.train, spec.pca.frames, spec.backbone)))
    features = FrameEncoder(feature_encoder(spec.backbone, basis), HEIGHT, WIDTH)
    features.expect(len(frames))
    found = features(frames)
    assert found.shape == (6, HEIGHT // 8, WIDTH // 8, 12 + CARRIED)
    assert np.abs(found[..., :12].mean((0, 1, 2))).max() < 1e-2
    assert found[..., :12].var((0, 1, 2)).mean() == pytest.approx(1, abs=0.01)
    assert features.engine == "torch on the CPU"
    identity = encoder_identity(spec.backbone, basis)
    assert identity == encoder_identity(spec.backbone, learn_basis(spec))
    assert identity != encoder_identity(read_run_file(footage / "run.yaml").backbone, basis_with(basis, scale=2.0))


def basis_with(basis, **changes: object):
    return type(basis)(**{**basis.__dict__, **changes})


def test_a_basis_that_is_damaged_or_of_another_run_is_named(tmp_path: Path, footage: Path) -> None:
    basis = learn_basis(read_run_file(footage / "run.yaml"))
    run = start_run("head", footage / "run.yaml", tmp_path / "run")
    for content in (b"", basis.to_bytes()[:900], basis_with(basis, std=basis.std[:5]).to_bytes()):
        run.result("pca").write_bytes(content)
        with pytest.raises(
            TrainingError, match=r"basis\.npz: cannot be read \(.+\): create it again with re2pix train pca"
        ):
            read_basis(run)
    for other in ({"layers": ("stage1",)}, {"layers": ("block1",)}, {"cell": 16}):
        with pytest.raises(TrainingError, match=r"basis\.npz: is of another backbone: create it again"):
            feature_encoder(run.spec.backbone, basis_with(basis, **other))


def test_frames_are_drawn_evenly_and_in_equal_shares(tmp_path: Path) -> None:
    entries = [DataEntry(str(write_pictures(tmp_path / name, frames))) for name, frames in (("a", 20), ("b", 4))]
    spec = BackboneSpec("weights.pt", HEIGHT, WIDTH)
    clips = [open_clips(Path(entry.path))[0] for entry in entries]
    expected = [clips[0].frame(index) for index in (2, 7, 12, 17)] + [clips[1].frame(index) for index in range(4)]
    np.testing.assert_array_equal(list(drawn_frames(entries, 8, spec)), expected)


def test_too_many_channels_are_refused(footage: Path) -> None:
    run = write_run(footage / "wide.yaml", pca={"channels": 289, "frames": 2})
    with pytest.raises(TrainingError, match=r"pca\.channels: 289 are requested, but the layers have 288"):
        learn_basis(read_run_file(run))


def test_wrong_weights_are_named(tmp_path: Path, footage: Path) -> None:
    spec = BackboneSpec(str(tmp_path / "weights.pt"), HEIGHT, WIDTH)
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_backbone(spec)
    torch.save({"something.else": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt: has no 'image_encoder\.\.\.\.'"):
        load_backbone(spec)
    torch.save({"image_encoder.neck.0.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt: is not the published mobile_sam\.pt") as raised:
        load_backbone(spec)
    assert "\n" not in str(raised.value)
    with pytest.raises(TrainingError, match=r"there is no layer 'stage9'; there are stage1"):
        load_backbone(BackboneSpec(str(footage / "weights.pt"), HEIGHT, WIDTH, layers=("stage9",)))


class Colours(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 6, 8, 8)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.mix(frames.float().permute(0, 3, 1, 2) / 255).permute(0, 2, 3, 1)


def test_many_frames_go_through_the_engine_that_is_fastest() -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder(Colours(), HEIGHT, WIDTH)
    encoder.expect(10_000)
    frames = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH, 3), np.uint8)
    found = encoder(frames)
    with torch.inference_mode():
        expected = encoder.module(torch.from_numpy(frames)).numpy()
    assert encoder.engine.startswith("openvino")
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.02


def test_an_engine_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FrameEncoder(Colours(), HEIGHT, WIDTH)
    wrong = np.ones((1, HEIGHT // 8, WIDTH // 8, 6), np.float32)
    monkeypatch.setattr(encoder, "_by_openvino", lambda precision: lambda frames: wrong)
    encoder(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))
    assert encoder.engine == "torch on the CPU"
