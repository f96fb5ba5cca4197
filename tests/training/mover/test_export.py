"""From weights to a bundle: what is kept of the bundle before, and that confidences are calibrated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.errors import BundleError
from re2pix_node.nets.backbones.mobilesam import MobileSamEncoder
from re2pix_node.training.mover.export import best_power, export
from re2pix_node.training.mover.learn import SIZE, network
from re2pix_node.training.mover.pack import ENCODER, REAL, UNUSED
from re2pix_node.training.stored import store
from tests.training.mover.worlds import sideways

SHIPPED = Path("models/re2pix-nano")


def test_the_power_makes_confidence_the_share_of_hits() -> None:
    g = torch.Generator().manual_seed(0)
    true = torch.rand(20000, generator=g) * 0.9 + 0.05
    hits = torch.rand(20000, generator=g) < true
    assert best_power(true, hits) == pytest.approx(1, abs=0.05)
    assert best_power(true**0.5, hits) == pytest.approx(2, abs=0.1)  # too sure


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, a pack and a drive of random content, of the sizes that the family is made for."""
    path = tmp_path_factory.mktemp("mover")
    torch.manual_seed(0)
    options = {"flow_width": 16, "flow_depth": 1, "motion_width": 16, "motion_depth": 1, "hidden": 20, "depth": 1}
    net = network(options)
    store(path / "weights.pt", {"model": net.state_dict(), "step": 1, "options": options})
    (path / "pack" / REAL).mkdir(parents=True)
    (path / "pack" / REAL / "street.mp4").touch()
    backbone = {n: t.half() for n, t in MobileSamEncoder().state_dict().items() if not n.startswith(UNUSED)}
    fine, coarse, offset = torch.randn(96, 128, 1, 1), torch.randn(96, 160, 1, 1), torch.zeros(96, 1, 1)
    torch.save({"backbone": backbone, "fine": fine, "coarse": coarse, "offset": offset}, path / "pack" / ENCODER)
    small = sideways(7)
    larger = {
        "pictures": np.zeros((7, *SIZE, 3), np.uint8),
        **{name: np.kron(getattr(small, name), np.ones((7, 7))) for name in ("labels", "depth", "instances")},
    }
    (path / "drives").mkdir()
    as_made = {name: array.astype(getattr(small, name).dtype) for name, array in larger.items()}
    replace(small, **as_made).save(path / "drives" / "000001.npz")
    return path


@pytest.mark.long
def test_a_bundle_of_weights(made: Path, tmp_path: Path) -> None:
    drives = [made / "drives" / "000001.npz"]
    export(made, made / "pack", SHIPPED, drives, "9.0.0", tmp_path / "new")
    new, before = read_bundle(tmp_path / "new"), read_bundle(SHIPPED)
    assert new.manifest.version == "9.0.0"
    assert new.graph("encode") == before.graph("encode")
    assert new.graph("render") == before.graph("render")
    assert "street.mp4" in new.manifest.provenance[-1].source
    learnt = [part.what for part in new.manifest.provenance if "forecaster" in part.what]
    assert learnt == ["flow, forecaster and head"]
    assert new.proof()["forecast.labels"].shape == (1, 4, 112, 224)


def test_other_classes_are_refused(made: Path, tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="class ids"):
        export(made, made / "pack", tiny.path, [], "9.0.0", tmp_path / "new")
    assert not (tmp_path / "new").exists()
