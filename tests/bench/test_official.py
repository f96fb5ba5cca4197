"""The published configuration with random weights."""

import sys
from pathlib import Path

import pytest

from re2pix_node.bench.graph_work import graph_work
from re2pix_node.bench.official import SIZES, make_official, official_bundle
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.onnxruntime import RUNTIME as ONNXRUNTIME
from re2pix_node.engines.openvino import RUNTIME as OPENVINO
from re2pix_node.engines.proof import prove
from re2pix_node.errors import Re2pixError

pytestmark = pytest.mark.long  # two exports as wide as the real ones


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A few cells, four blocks, one layer; as wide as the real one."""
    pytest.importorskip("torch")
    return make_official(tmp_path_factory.mktemp("official") / "small", "56x112", blocks=4, layers=1)


def test_engines_agree_on_it(small: Bundle) -> None:
    assert (small.manifest.image.height, small.manifest.image.width) == (56, 112)
    assert prove(ONNXRUNTIME.load(small, "fp32", 2), small).relative_l2 < 1e-5
    for precision in OPENVINO.precisions():
        assert prove(OPENVINO.load(small, precision, 2), small).passed


def test_its_arithmetic_is_that_of_the_published_widths(small: Bundle) -> None:
    encode = graph_work(small.graph("encode"))
    assert encode is not None
    tokens, cells, width = 5 + 32, 32, 768  # a class token and four registers lead
    block = 2 * tokens * (4 + 8) * width**2 + 4 * tokens**2 * width
    edges = 2 * cells * (3 * 14**2 * width + 4 * width * 1152)
    assert encode.flops == pytest.approx(4 * block + edges, rel=0.02)


def test_one_that_was_made_before_takes_no_torch(
    small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Re2pixError, match=r"needs torch: pip install torch, or create it .* copy the folder ") as error:
        official_bundle(SIZES[0])
    folder = Path(str(error.value).rpartition(" ")[2])
    folder.parent.mkdir(parents=True)
    folder.symlink_to(small.path)
    assert official_bundle(SIZES[0]).manifest == small.manifest
