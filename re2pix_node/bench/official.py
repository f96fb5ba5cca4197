"""The published configuration of DINO-Foresight with random weights, kept as a bundle: as fast as the real one."""

import importlib
import importlib.util
from pathlib import Path

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.engines.cache import cache_folder
from re2pix_node.errors import Re2pixError

SIZES = ("224x448", "448x896")  # height x width of the pictures
NEEDED = ("torch", "onnx", "onnxscript")
PATCH = 14  # pixels of a picture along one side of a feature cell
VERSION = 1  # increase it when the graphs change


def official_bundle(size: str) -> Bundle:
    """The bundle from the cache; if it is not there, it is created, which needs PyTorch."""
    path = cache_folder().with_name("official") / f"official-{size}-{VERSION}"
    if path.exists():
        return read_bundle(path)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Re2pixError(
            f"--official {size}: creating it needs {', '.join(missing)}: pip install {' '.join(missing)}, "
            f"or create it on another machine and copy the folder {path}"
        )
    print(f"official-{size}: creating it with random weights, once: this takes minutes and 10 GB of memory", flush=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Re2pixError(f"{path.parent}: cannot be created ({error.strerror}): set XDG_CACHE_HOME") from None
    return make_official(path, size)


def make_official(path: Path, size: str, blocks: int = 12, layers: int = 12) -> Bundle:
    """Create it. Tests use fewer blocks of the encoder (a multiple of 4) and fewer layers of the forecaster."""
    height, width = (int(number) for number in size.split("x"))
    # By name, as cli.py does: strict typing ends where torch begins.
    maker = importlib.import_module("re2pix_node.nets.dino_foresight.official")
    bundle: Bundle = maker.write_official_bundle(path, (height // PATCH, width // PATCH), blocks, layers)
    return bundle
