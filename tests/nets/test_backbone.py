"""A backbone is one file, in this package or outside, found by the name in the run file."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import CheckpointError, TrainingError
from re2pix_node.nets.backbone import backbone_kind
from re2pix_node.nets.features import raw_features
from re2pix_node.training.frame_encoder import feature_encoder, load_backbone
from re2pix_node.training.pca import learn_basis
from re2pix_node.training.run_file import read_run_file
from tests.support import small_checkpoints
from tests.support.made_runs import HEIGHT, WIDTH, run_fields, write_pictures, write_run

OUTSIDE = """
    from torch import nn

    from re2pix_node.nets.backbone import Backbone, BackboneKind, Layer
    from re2pix_node.nets.checkpoints import filled, read_checkpoint


    class Patches(Backbone):
        gives = {"patches": Layer(20, 16)}

        def __init__(self, cut):
            super().__init__((128.0, 128.0, 128.0), (64.0, 64.0, 64.0))
            self.cut = cut

        def see(self, planes):
            return {"patches": self.cut(planes)}

        def glance(self, planes):
            return [self.cut(planes)]


    def load(path):
        return Patches(filled(lambda: nn.Conv2d(3, 20, 16, 16), read_checkpoint(path).tensors, path))


    BACKBONE = BackboneKind("patches of a lab", "a drawer of that lab", "MIT", 16, load)
"""


def fields_with(**backbone: object) -> dict:
    return {**run_fields()["backbone"], "weights": "weights.pt", **backbone}


def test_one_from_outside_is_named_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_of_patches").mkdir()
    (tmp_path / "lab_of_patches/patches.py").write_text(textwrap.dedent(OUTSIDE))
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    torch.save({"weight": torch.randn(20, 3, 16, 16) / 28, "bias": torch.zeros(20)}, tmp_path / "weights.pt")
    write_pictures(tmp_path / "drive")
    backbone = fields_with(kind="lab_of_patches.patches", layers=["patches"])
    spec = read_run_file(write_run(tmp_path / "run.yaml", backbone=backbone))
    basis = learn_basis(spec)
    frames = torch.randint(0, 256, (1, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    with torch.inference_mode():
        features = feature_encoder(spec.backbone, basis)(frames)[..., :12].numpy()
        raw = raw_features(load_backbone(spec.backbone), frames, ("patches",), 8).numpy()
    assert features.shape == (1, HEIGHT // 8, WIDTH // 8, 12)
    expected = (raw - basis.mean) / basis.std @ basis.components.T * basis.scale
    np.testing.assert_allclose(features, expected, atol=1e-3)


def test_dinov2_makes_features_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(small_checkpoints.vit_tensors(), tmp_path / "weights.pt")
    write_pictures(tmp_path / "drive")
    backbone = fields_with(kind="dinov2", height=56, width=112, layers=["block1", "block3"], cell=28)
    spec = read_run_file(write_run(tmp_path / "run.yaml", backbone=backbone))
    basis = learn_basis(spec)
    with torch.inference_mode():
        features = feature_encoder(spec.backbone, basis)(torch.zeros(1, 56, 112, 3, dtype=torch.uint8))
    assert features.shape == (1, 2, 4, 12 + 16)
    assert basis.components.shape == (12, 2 * small_checkpoints.VIT)
    uneven = write_run(tmp_path / "uneven.yaml", backbone={**backbone, "cell": 8})
    with pytest.raises(TrainingError, match=r"backbone\.cell: 'block1' has 14 pixels a cell: must be .*, is 8"):
        load_backbone(read_run_file(uneven).backbone)


@pytest.mark.parametrize("kind", ["dinov2", "mobilesam"])
def test_foreign_weights_are_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    torch.save({"something.else": torch.zeros(2)}, file := tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt: ") as raised:
        backbone_kind(kind).load(file)
    assert "\n" not in str(raised.value)
