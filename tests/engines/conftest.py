import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from re2pix_node.engines.tensorrt import cuda
from tests.support.host_gpu import FOLDER, HostCuda, compile_host_libcuda


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return compile_host_libcuda(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCuda]:
    """Use the libcuda over host memory; a test must free all memory at its end."""
    monkeypatch.setattr(cuda, "LIBRARY", str(library))
    host = HostCuda(library)
    gc.collect()
    before = host.live
    yield host
    gc.collect()
    assert host.live == before


@pytest.fixture
def host_tensorrt(gpu: HostCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Use the stand-in for TensorRT; return the folder of its engines."""
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(FOLDER / "host_tensorrt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache/re2pix/engines"
    sys.modules.pop("tensorrt", None)
