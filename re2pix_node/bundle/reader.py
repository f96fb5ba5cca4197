"""Reads and checks a bundle, a folder with a manifest, ONNX graphs and a proof. Nothing in it is executed."""

import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import MANIFEST, UNLABELLED, FileEntry, Manifest, parse_manifest
from re2pix_node.bundle.onnx_check import check_onnx
from re2pix_node.common.archives import open_archive
from re2pix_node.common.files import read_file, read_text
from re2pix_node.common.limits import GRAPH_BYTES, PROOF_BYTES, TEXT_BYTES, Limit
from re2pix_node.errors import BundleError


@dataclass(frozen=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a graph, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def signatures(manifest: Manifest) -> dict[str, Signature]:
    """The inputs and outputs that each graph of such a bundle must have."""
    cells = manifest.features
    masks = (manifest.samples, len(manifest.time.horizons) + 1, manifest.labels.height, manifest.labels.width)
    frame = Tensor("uint8", (1, manifest.image.height, manifest.image.width, 3))
    seen = Tensor(cells.dtype, (1, cells.height, cells.width, cells.channels + cells.carried))
    horizons = len(manifest.time.horizons)
    noise = {"noise": Tensor("float32", (manifest.samples, manifest.noise))} if manifest.noise else {}
    predicted = Tensor(cells.dtype, (manifest.samples, horizons, cells.height, cells.width, cells.channels))
    optional = {
        output.name: Tensor(output.dtype, (manifest.samples, horizons + 1, *output.shape))
        for output in manifest.outputs
    }
    return {
        "encode": Signature({"frame": frame}, {"features": seen}),
        "forecast": Signature(
            {f"context_{i}": seen for i in range(manifest.time.context)} | noise,
            {"features": predicted, "labels": Tensor("uint8", masks), "confidence": Tensor("uint8", masks)} | optional,
        ),
    }


def render_signature(manifest: Manifest) -> Signature:
    """The inputs and outputs of the render graph: one horizon of a forecast, its frame and context, to a picture."""
    assert manifest.render is not None
    graphs, cells = signatures(manifest), manifest.features
    context = {name: tensor for name, tensor in graphs["forecast"].inputs.items() if name.startswith("context_")}
    return Signature(
        {
            "features": Tensor(cells.dtype, (1, cells.height, cells.width, cells.channels)),
            "frame": graphs["encode"].inputs["frame"],
            "horizon": Tensor("float32", (1,)),
            "noise": Tensor("float32", (1, manifest.render.noise)),
            **context,
        },
        {"image": Tensor("float32", graphs["encode"].inputs["frame"].shape)},
    )


def draw_noise(manifest: Manifest, *seed: int) -> NDArray[np.float32] | None:
    """The input `noise` of a stochastic forecast graph, equal for equal seeds; None for a deterministic graph."""
    if not manifest.noise:
        return None
    return np.random.default_rng(seed).standard_normal((manifest.samples, manifest.noise), np.float32)


@dataclass(frozen=True)
class Bundle:
    path: Path
    manifest: Manifest

    @property
    def basis(self) -> str:
        """Identity of the feature space: features of the same encode graph can be compared."""
        return self.manifest.graphs.encode.sha256

    def graph(self, name: str) -> bytes:
        """The ONNX bytes of a graph, checked against the manifest at every read."""
        entry: FileEntry | None = self.manifest.render if name == "render" else getattr(self.manifest.graphs, name)
        assert entry is not None
        data = _read_checked(self.path, entry, GRAPH_BYTES)
        check_onnx(data, f"{self.path / entry.file}")
        return data

    def proof(self) -> dict[str, NDArray[np.generic]]:
        """Reference inputs and outputs of every graph, as `<graph>.<tensor>`."""
        spec = self.manifest.proof
        data = _read_checked(self.path, FileEntry(spec.file, spec.sha256), PROOF_BYTES)
        arrays = _load_proof(self.path / spec.file, data, proof_tensors(self.manifest))
        _check_values(self.path / spec.file, arrays, self.manifest)
        return arrays


def sampled_tensors(manifest: Manifest) -> list[str]:
    """The arrays that a proof may shorten to a sample: they are compared as vectors and are no graph's input."""
    return ["encode.features", "forecast.features", *(f"forecast.{output.name}" for output in manifest.outputs)]


def proof_tensors(manifest: Manifest) -> dict[str, Tensor]:
    """The arrays of the proof."""
    tensors = {
        f"{graph}.{name}": tensor
        for graph, signature in signatures(manifest).items()
        for name, tensor in (signature.inputs | signature.outputs).items()
    }
    every = manifest.proof.every
    if every > 1:
        for name in sampled_tensors(manifest):
            tensors[name] = Tensor(tensors[name].dtype, (-(-math.prod(tensors[name].shape) // every),))
    if manifest.render:
        # The proof's picture shows the last horizon of the proof's forecast. If the proof has only a sample of that, it
        # stores the picture's features separately. All other inputs are already there.
        inputs = render_signature(manifest).inputs
        tensors |= {f"render.{name}": inputs[name] for name in (("noise",) if every == 1 else ("features", "noise"))}
        tensors["render.image"] = tensors["encode.frame"]
    return tensors


def read_bundle(path: Path) -> Bundle:
    """Read the bundle in the folder `path` and check every file; BundleError names the fault."""
    bundle = Bundle(path, read_manifest(path))
    bundle.graph("encode")
    bundle.graph("forecast")
    if bundle.manifest.render:
        bundle.graph("render")
    bundle.proof()
    return bundle


def read_manifest(path: Path) -> Manifest:
    manifest = path / MANIFEST
    if not path.is_dir():
        raise BundleError(
            f"{path}: there is no such folder: give the folder of a bundle, the one with {MANIFEST} in it"
        )
    try:
        text = read_text(manifest, TEXT_BYTES)
    except FileNotFoundError:
        raise BundleError(f"{path}: {MANIFEST} is missing: this folder is not a bundle") from None
    except OSError as error:
        raise BundleError(f"{manifest}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BundleError(f"{manifest}: cannot be read: {error}") from None
    return parse_manifest(text, str(manifest))


def _read_checked(folder: Path, entry: FileEntry, limit: Limit) -> bytes:
    try:
        data = read_file(folder / entry.file, limit)
    except FileNotFoundError:
        raise BundleError(f"{folder}: {entry.file} is missing: copy the bundle again, whole") from None
    except OSError as error:
        raise BundleError(f"{folder / entry.file}: cannot be read: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise BundleError(
            f"{folder / entry.file}: wrong sha256 {found[:12]}..., the manifest says {entry.sha256[:12]}...: "
            "the file was damaged or replaced, copy the bundle again"
        )
    return data


def _load_proof(path: Path, data: bytes, expected: dict[str, Tensor]) -> dict[str, NDArray[np.generic]]:
    try:
        with open_archive(io.BytesIO(data)) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        _check_proof_names(path, set(sizes), set(expected))
        # The archive could unpack to more than the memory: check the sizes in its directory first.
        for name, tensor in expected.items():
            wanted = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
            if not wanted <= sizes[name] <= wanted + 4096:
                raise BundleError(f"{path}: '{name}' has {sizes[name]} bytes, {tensor} needs {wanted}")
        if sum(sizes.values()) > PROOF_BYTES.value:
            whole = PROOF_BYTES.amount(sum(sizes.values()))
            raise BundleError(f"{path}: the manifest asks for a proof of {whole}, {PROOF_BYTES}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in expected}
    except BundleError:
        raise
    except Exception as error:  # a damaged archive can raise any error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BundleError(f"{path}: not a readable .npz of plain arrays: {reason}") from None
    for name, tensor in expected.items():
        found = Tensor(str(loaded[name].dtype), loaded[name].shape)
        if found != tensor:
            raise BundleError(f"{path}: '{name}' is {found}, the manifest asks for {tensor}")
    return loaded


def _check_values(path: Path, arrays: dict[str, NDArray[np.generic]], manifest: Manifest) -> None:
    """References that no engine can be compared with would switch the proof off."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"{path}: '{name}' has NaN or infinity, which no engine can reproduce: export again")
    known = [*(c.id for c in manifest.labels.classes), UNLABELLED]
    strange = set(np.unique(arrays["forecast.labels"])) - set(known)
    if strange:
        raise BundleError(f"{path}: 'forecast.labels' has the class {min(strange)}, which the manifest does not name")


def _check_proof_names(path: Path, found: set[str], expected: set[str]) -> None:
    if found != expected:
        odd = sorted(found ^ expected)[0]
        raise BundleError(f"{path}: the array '{odd}' is {'missing' if odd in expected else 'unknown'}")
