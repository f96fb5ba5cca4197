"""Every graph that ships is read and built by TensorRT-RTX, which needs no GPU for that; nothing is run."""

import argparse
import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.commands import build as build_command
from re2pix_node.engines.cache import EngineCache, EngineKey
from re2pix_node.engines.tensorrt.bindings import RTX
from re2pix_node.engines.tensorrt.building import EngineBuild, EngineJob
from re2pix_node.engines.tensorrt.cuda import Device
from re2pix_node.engines.tensorrt.engine import BUILDER, engine_jobs
from re2pix_node.errors import EngineError, Re2pixError

if platform.machine() != "x86_64":
    pytest.skip(f"there is no TensorRT-RTX for {platform.machine()}", allow_module_level=True)
if not RTX.installed:
    pytest.skip("TensorRT-RTX is not installed (requirements/test.txt)", allow_module_level=True)

MODELS = Path(__file__).resolve().parents[3] / "models"
SHIPPED = sorted(manifest.parent.name for manifest in MODELS.glob("*/bundle.yaml"))
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "re2pix/engines"


@pytest.mark.parametrize(
    ("capability", "precision"),
    [
        ("8.6", "fp16"),
        *(
            pytest.param(*other, marks=pytest.mark.long)
            for other in (("8.6", "fp32"), ("8.9", "fp16"), ("8.9", "bf16"))
        ),
    ],
)
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_bundles_build(folder: Path, name: str, capability: str, precision: str) -> None:
    bundle = read_bundle(MODELS / name)
    jobs = engine_jobs(bundle, precision, RTX, Device("any", capability, "any"))
    paths = EngineBuild(EngineCache(), jobs).result()
    assert [path.parent for path in paths] == [folder] * 2
    for job, path in zip(jobs, paths, strict=True):
        weights = job.graph.stat().st_size
        assert path.stat().st_size > (0.9 if precision == "fp32" else 0.5) * weights


@pytest.mark.long
@pytest.mark.parametrize("graph", ["encode", "forecast"])
def test_the_official_configuration_builds(folder: Path, tmp_path: Path, graph: str) -> None:
    """At its full width, on its full grid, over all horizons; OFFICIAL_LAYERS=12 is also as deep."""
    official = pytest.importorskip("tests.support.official_graphs", reason="exporting it takes torch")
    path = tmp_path / f"{graph}.onnx"
    official.write_official_graph(path, graph)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    library = f"{RTX.title} {RTX.load().__version__}"
    jobs = [
        EngineJob(EngineKey(sha256, library, "any", capability, "any", precision, BUILDER), graph, RTX.module, path)
        for capability, precision in (("8.6", "fp16"), ("8.9", "bf16"))
    ]
    for engine in EngineBuild(EngineCache(), jobs).result():
        assert engine.stat().st_size > 0.4 * path.stat().st_size
        engine.unlink()


def build(*words: str) -> int:
    parser = argparse.ArgumentParser()
    build_command.add_arguments(parser)
    return build_command.run(parser.parse_args(words))


def printed_engines(lines: Sequence[str]) -> list[Path]:
    return [Path(line.split(": ")[1].split(",")[0]) for line in lines if ".engine" in line]


def test_the_command_builds_for_another_gpu_once(
    folder: Path, tiny: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(str(tiny.path), "--target", "sm89", "--precision", "bf16") == 0
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "building tiny encode bf16, tiny forecast bf16; this can take minutes"
    engines = printed_engines(first)
    assert len(engines) == 2
    assert all(path.is_file() and path.parent == folder for path in engines)
    told = json.loads(engines[0].with_suffix(".json").read_text())
    assert (told["key"]["capability"], told["key"]["precision"], told["key"]["gpu"]) == ("8.9", "bf16", "any")
    made = [path.stat().st_mtime_ns for path in engines]
    assert build(str(tiny.path), "--target", "8.9", "--precision", "bf16") == 0
    again = capsys.readouterr().out.splitlines()
    assert printed_engines(again) == engines
    assert not any("building" in line for line in again)
    assert [path.stat().st_mtime_ns for path in engines] == made
    assert build(str(tiny.path), "--target", "sm_89", "--precision", "bf16", "--force") == 0
    assert [path.stat().st_mtime_ns for path in engines] > made


def test_a_gpu_that_it_does_not_build_for_is_named(folder: Path, tiny: Bundle) -> None:
    with pytest.raises(EngineError, match=r"TensorRT-RTX 1\.\S+ builds for SM75, .*SM89, SM120.*, not for SM53"):
        build(str(tiny.path), "--target", "sm53")


@pytest.mark.parametrize("target", ["ada", "8", "sm", "8.6.1", "-1"])
def test_a_target_that_is_none_is_refused(tiny: Bundle, target: str) -> None:
    with pytest.raises(Re2pixError, match=r"not a compute capability: give one as sm86 or 8\.6"):
        build(str(tiny.path), f"--target={target}")


def test_without_tensorrt_rtx_there_is_no_target(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        EngineError, match=r"--target needs TensorRT-RTX, which is not installed.*pip install tensorrt-rtx"
    ):
        build(str(tiny.path), "--target", "sm86")
