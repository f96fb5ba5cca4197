import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import EngineError
from re2pix_node.evaluation.model import EvaluatedModel, fit_labels
from re2pix_node.imaging.geometry import fit_frame
from tests.support import drive
from tests.support.worlds import Seer, Sliding, manifest


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_labels_are_cut_as_frames_are(fit: str) -> None:
    # A picture whose values encode their place, and labels equal to its first channel: they must stay equal.
    height, width = 120, 320
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.linspace(5, 250, width)
    frame[..., 1] = np.linspace(5, 250, height)[:, None]
    picture, region = fit_frame(frame, 64, 96, fit)
    for channel in (0, 1):
        labels = fit_labels(frame[..., channel], region, 64, 96)
        inside = labels != 255
        assert inside.mean() > 0.5
        assert (fit == "pad") == (not inside.all())
        assert np.abs(labels[inside].astype(int) - picture[inside][:, channel]).max() <= 4
        if fit == "pad":
            # On the border of the picture the resized frame mixes with nothing: black and uncounted lie together.
            assert picture[~inside].max() == 0


def test_labels_may_be_smaller_than_the_frame() -> None:
    _, region = fit_frame(np.zeros((100, 200, 3), np.uint8), 50, 100, "crop")
    labels = np.repeat([[1, 2, 3, 4]], 2, 0).astype(np.uint8)
    assert fit_labels(labels, region, 2, 4).tolist() == labels.tolist()


def test_the_lent_head_says_of_a_frame_what_the_bundle_says_of_now(tiny: Bundle) -> None:
    engine, _ = open_engine(tiny, "onnxruntime", threads=1)
    model = EvaluatedModel(tiny.manifest, engine)
    seen = [model.see(drive.frame(0.18 * i, 640, 360), i) for i in range(4)]
    outputs = engine.forecast([each.held for each in seen])
    anything = [np.zeros_like(seen[0].held)] * 4
    read = model.read(seen[-1].features, seen[-1].carried, anything)
    np.testing.assert_array_equal(read.labels, outputs.labels[0, 0])
    np.testing.assert_array_equal(read.confidence, outputs.confidence[0, 0])
    predicted = model.read(outputs.features[0, 2], seen[-1].carried, anything)
    assert (predicted.labels == outputs.labels[0, 3]).mean() > 0.999
    assert (predicted.labels != outputs.labels[0, 0]).any()


def test_a_frame_is_encoded_once() -> None:
    model = EvaluatedModel(manifest(), Seer())
    world = Sliding()
    for stamp in (1, 2, 1, 2, 2):
        model.see(world.frame(stamp), stamp)
    assert len(model.seconds["encode"]) == 2
    model.forget(before=2)
    model.see(world.frame(2), 2)
    assert len(model.seconds["encode"]) == 2
    model.forget()
    model.see(world.frame(2), 2)
    assert len(model.seconds["encode"]) == 3


def test_features_that_are_not_finite_are_not_scored() -> None:
    class Broken(Seer):
        def encode(self, frame):
            return super().encode(frame) * np.nan

    with pytest.raises(EngineError, match="the encoder gave features with NaN or infinity"):
        EvaluatedModel(manifest(), Broken()).see(Sliding().frame(0), 0)
