"""The table of outputs, and the README, bags and preview that follow from it; also for a row from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.proof import compare
from re2pix_node.engines.session import open_engine
from re2pix_node.pipeline import outputs
from re2pix_node.pipeline.pipeline import Pipeline
from tests.support.drive import frame
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose forecast graph has an optional output."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "warm", tiny_manifest(warmth=True))


def in_python_with_the_row(code: str) -> str:
    """What code prints in a Python where the row of tests/support/warmth.py is registered."""
    register = "from re2pix_node.pipeline.outputs import register\nfrom tests.support.warmth import WARMTH\n"
    command = [sys.executable, "-c", f"{register}register(WARMTH)\n{code}"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_readme_has_every_row() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in outputs.readme_lines() if line not in lines] == []


def test_a_row_from_outside_is_missed_in_the_readme_and_allowed_by_the_node() -> None:
    code = """
import json
from re2pix_node.pipeline.outputs import readme_lines
from re2pix_node.ros.parameters import page, parameters
(parameter,) = (parameter for parameter in parameters() if parameter.name == "outputs")
print(json.dumps([readme_lines(), parameter.choices, page()]))
"""
    lines, choices, page = json.loads(in_python_with_the_row(code))
    added = "| `~/output/h<k>/warmth` | sensor_msgs/Image 32FC1 | how warm each cell is |"
    assert set(lines) - set((ROOT / "README.md").read_text().splitlines()) == {added}
    assert choices == ["segmentation", "confidence", "features", "warmth", "preview", "camera_info"]
    assert "one of segmentation, confidence, features, warmth, preview, camera_info" in page


def test_two_rows_do_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="there is an output 'features' already"):
        outputs.register(outputs.rows()[2])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_gives_what_the_manifest_names(warm: Bundle, engine: str) -> None:
    pipeline = Pipeline(warm, open_engine(warm, engine, "fp32")[0])
    *_, forecast = (pipeline.observe(frame(i / 10, 256, 128), i * 10**8).forecast for i in range(8))
    assert forecast is not None
    seen = np.concatenate([forecast.observed[None, None], forecast.features], axis=1)
    np.testing.assert_allclose(forecast.optional["warmth"], seen.mean(axis=-1), atol=1e-4)


def test_an_engine_that_computes_it_wrongly_is_not_trusted(warm: Bundle) -> None:
    found = warm.proof()
    assert compare(found, found, warm.manifest.proof, warm.manifest.outputs).passed
    wrong = found | {"forecast.warmth": 1.03 * found["forecast.warmth"]}
    faults = compare(wrong, found, warm.manifest.proof, warm.manifest.outputs).faults
    assert faults == ("warmth's relative L2 0.03 exceeds 0.02",)


def test_replay_records_a_row_from_outside(warm: Bundle, tiny: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = replay(drive_bag, "-o", out, "--bundle", warm.path, "--engine", "onnxruntime", "--video", tmp_path / "v.mp4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v.mp4").is_file()
    images = messages(out, "/re2pix_node/output/h2/warmth")
    assert len(images) == len(messages(out, "/re2pix_node/output/forecast")) > 0
    image = images[-1]
    assert (image.encoding, image.height, image.width, image.step) == ("32FC1", 16, 32, 128)
    assert np.frombuffer(image.data, np.float32).std() > 0
    refused = replay(drive_bag, "-o", tmp_path / "none", "--bundle", tiny.path, "--outputs", "warmth")
    assert refused.returncode == 2
    assert "tiny does not give the output 'warmth': leave it out" in refused.stderr


def replay(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.support.warmth", "replay", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)


def messages(bag: Path, topic: str) -> list:
    """As readers of others find them."""
    (file,) = bag.glob("*.mcap")
    with file.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        return [message for *_, message in reader.iter_decoded_messages(topics=[topic])]
