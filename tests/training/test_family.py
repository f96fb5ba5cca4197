"""A family of forecasters is found by its name, and one from outside is trained and exported like ours."""

import textwrap
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.cli import main
from re2pix_node.common.parts import known_parts
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import TrainingError
from re2pix_node.training.family import family_of
from re2pix_node.training.nano.family import FAMILY
from re2pix_node.training.run_file import FAMILIES, read_run_file
from tests.support.exported_once import encoder_exported_once
from tests.support.made_runs import HEIGHT, WIDTH, make_footage, run_fields, write_run

# Features go on as they last changed, a learnt share of it. Labels are the mean of two opinions: of the head on the
# forecast, and of the head on the newest frame.
OUTSIDE = """
    from dataclasses import dataclass

    import torch
    from torch import nn
    from torch.nn import functional

    from re2pix_node.bundle.manifest import build
    from re2pix_node.nets.forecaster import FeatureForecast, Forecaster, ForecasterOptions, ReadForecast
    from re2pix_node.training.family import Family
    from re2pix_node.training.forecast_task import ForecasterLoss, forecaster_training, from_run


    @dataclass(frozen=True)
    class DriftOptions(ForecasterOptions):
        share: float = 0.5


    class Drift(Forecaster):
        def __init__(self, options):
            super().__init__()
            self.options = options
            self.share = nn.Parameter(torch.full((len(options.horizons), 1), options.share))

        def forward(self, context):
            features = context[..., : self.options.channels]
            now, before = features[:, -1], features[:, -2]
            shares = self.share.view(1, -1, 1, 1, 1)
            return FeatureForecast(now[:, None] + shares * (now - before)[:, None])


    class DriftLoss(ForecasterLoss):
        def forward(self, frames):
            o = self.net.options
            said = self.net(frames[:, : o.context]).features
            loss = functional.smooth_l1_loss(said, frames[:, o.context :, ..., : o.channels])
            return loss, {"features": loss.detach()}


    class TwoOpinions(nn.Module):
        def __init__(self, net, head):
            super().__init__()
            self.net, self.head = net, head

        def forward(self, *context):
            features = self.net(torch.stack(context, 1)).features
            now = self.head(context[-1][..., : self.net.options.channels])
            then = self.head(features[0])
            return ReadForecast(features, torch.cat([now, (now + then) / 2]))


    def net(spec):
        return Drift(build(DriftOptions, {**spec.forecaster.model, **from_run(spec)}, "forecaster.model", spec.name))


    FAMILY = Family(net, lambda run: forecaster_training(run, lambda: DriftLoss(net(run.spec))), TwoOpinions)
"""


def test_ours_are_found_in_their_folders(tmp_path: Path) -> None:
    assert known_parts(FAMILIES, "family") == ["nano"]
    assert family_of(read_run_file(write_run(tmp_path / "run.yaml"))) is FAMILY


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("nanno", r"forecaster: family must be nano or the dotted name of a module, is 'nanno'"),
        ("no.such", "small: forecaster.family 'no.such' cannot be imported: No module named 'no'"),
        ("json.tool", "small: forecaster.family 'json.tool' must be a module with a Family named FAMILY"),
    ],
)
def test_an_unknown_one_is_named_with_those_that_are_known(tmp_path: Path, family: str, message: str) -> None:
    fields = {**run_fields()["forecaster"], "family": family}
    with pytest.raises(TrainingError, match=message):
        family_of(read_run_file(write_run(tmp_path / "run.yaml", forecaster=fields)))


@pytest.mark.long  # trains and exports
def test_one_from_outside_is_trained_and_exported(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "lab_of_drift").mkdir()
    (tmp_path / "lab_of_drift/drift.py").write_text(textwrap.dedent(OUTSIDE))
    monkeypatch.syspath_prepend(str(tmp_path))
    make_footage(tmp_path)
    quick = {"steps": 2, "batch": 4, "val_every": 2, "val_batches": 2}
    forecaster = {**quick, "family": "lab_of_drift.drift", "model": {"share": 0.25}}
    head = {**run_fields()["head"], **quick}
    run, folder = str(write_run(tmp_path / "run.yaml", forecaster=forecaster, head=head)), str(tmp_path / "run")
    for step in ("pca", "head", "forecaster"):
        assert main(["train", step, run, "-o", folder]) == 0
    with encoder_exported_once(tmp_path_factory):
        assert main(["export", folder, "-o", str(tmp_path / "bundle"), "--licence", "MIT"]) == 0
    bundle = read_bundle(tmp_path / "bundle")
    engine = open_engine(bundle, "onnxruntime")[0]  # its proof was PyTorch's
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, HEIGHT, WIDTH, 3), np.uint8)
    context = [engine.encode(frame) for frame in frames]
    before, now = (engine.fetch(held)[0][..., :12] for held in context[-2:])
    found = engine.forecast(context, None).features[0]
    for features in found:  # two steps of learning hardly change the share
        np.testing.assert_allclose(features, now + 0.25 * (now - before), atol=0.05 * np.abs(now - before).max())
    # What it cannot do is said by the step that needs it.
    capsys.readouterr()
    assert main(["train", "renderer", run, "-o", folder]) == 2
    assert "forecaster.family: 'lab_of_drift.drift' finds no motion" in capsys.readouterr().err
