"""`re2pix bench` on a simulated GPU: its messages while engines are built, and its calls to the driver."""

import json
import subprocess
from pathlib import Path

import pytest

from re2pix_node.bench import measure
from re2pix_node.bench.products import Products, write_products
from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import main
from re2pix_node.engines.cache import EngineCache
from re2pix_node.engines.tensorrt.bindings import RTX
from re2pix_node.engines.tensorrt.building import EngineBuild
from re2pix_node.engines.tensorrt.cuda import Device
from re2pix_node.engines.tensorrt.engine import ANY, engine_jobs
from tests.support.host_gpu import FOLDER

MEMORY = """#include "{source}"
int cuMemGetInfo_v2(size_t *free, size_t *total) {{
    if (!current) return 201;
    *total = (size_t)1 << 40, *free = *total;
    for (int i = 0; i < BLOCKS; i++) *free -= blocks[i].host ? blocks[i].size : 0;
    return 0;
}}
"""


@pytest.fixture
def measurable(host_tensorrt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """libcuda also for the engine's own process, and one that tells of its memory."""
    source = tmp_path / "libcuda.c"
    source.write_text(MEMORY.format(source=FOLDER / "host_libcuda.c"))
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", source, "-o", tmp_path / "libcuda.so.1"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setattr(measure, "FOR_GPU", Products(512, 2))  # the real one takes a GPU
    monkeypatch.setattr(measure, "FOR_CPU", Products(256, 2))  # the real one is measured in tests/bench
    return host_tensorrt


def test_what_is_not_built_yet_is_built_in_plain_sight(
    measurable: Path, tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--bundle", str(tiny.path), "--runs", "2", "--engine", "tensorrt", "--precision", "fp32"]
    assert main([*words, "--json", str(tmp_path / "row.json")]) == 0
    said = capsys.readouterr().out
    assert "tensorrt fp32: building tiny, once; this can take minutes" in said
    told = json.loads((tmp_path / "row.json").read_text())
    assert told["machine"]["gpu"] == {"name": "Host GPU", "capability": "8.6", "driver": "(CUDA 12.6)"}
    [row] = told["bundles"][0]["engines"]
    features = 4 * 16 * 32 * 16
    assert 5 * features <= row["memory_bytes"]["gpu"] < 100 * features  # what the engine holds, and not the copies
    assert " GPU\n" in said
    assert row["roof"]["copied_bytes_per_second"] > 1e8
    assert row["end_to_end"]["share"] > 0

    assert main(words) == 0
    assert "building" not in capsys.readouterr().out


def test_a_build_that_fails_is_a_reason_and_no_more(
    measurable: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOST_TENSORRT", "refuse")
    assert main(["bench", "--bundle", str(tiny.path), "--runs", "1", "--precision", "fp32"]) == 0
    said = capsys.readouterr().out
    assert "Not measured: tiny encode fp32: " in said
    assert "onnxruntime fp32" in said


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_tensorrt_rtx_builds_the_products(tmp_path: Path, precision: str) -> None:
    if not RTX.installed:
        pytest.skip("TensorRT-RTX is not installed")
    products = write_products(tmp_path / "products", Products(256, 3))
    jobs = engine_jobs(products, precision, RTX, Device(ANY, "8.6", ANY))
    engines = EngineBuild(EngineCache(tmp_path / "cache"), jobs).result(120)
    half = 1 if precision == "fp32" else 2
    assert engines[0].stat().st_size > 4 * 256**2 / half
