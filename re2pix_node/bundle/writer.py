"""Writes bundles for every exporter. Needs the `onnx` package, which the run time does not."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import MANIFEST, FileEntry, Graphs, Manifest, manifest_text
from re2pix_node.bundle.reader import Bundle, proof_tensors, read_bundle
from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import BundleError

if TYPE_CHECKING:
    import onnx

OPSET_MAX = 20  # newest opset that TensorRT 10.3 (JetPack 6) parses


def write_bundle(
    path: Path,
    manifest: Manifest,
    graphs: "Mapping[str, onnx.ModelProto]",
    proof: Mapping[str, NDArray[Any]],
    replace: bool = False,
) -> Bundle:
    """Write a bundle and read it back. This fills in the hashes of `manifest` and replaces any old ones."""
    encoded = {name: _serialized(name, model) for name, model in graphs.items()}
    archive = io.BytesIO()
    np.savez_compressed(archive, **{name: np.asarray(proof[name]) for name in proof_tensors(manifest)})  # type: ignore[arg-type]
    proof_bytes = archive.getvalue()
    entries = {name: FileEntry(f"{name}.onnx", _sha256(data)) for name, data in encoded.items()}
    manifest = dataclasses.replace(
        manifest,
        graphs=Graphs(entries["encode"], entries["forecast"]),
        render=manifest.render and dataclasses.replace(manifest.render, **dataclasses.asdict(entries["render"])),
        proof=dataclasses.replace(manifest.proof, file="proof.npz", sha256=_sha256(proof_bytes)),
    )
    with write_beside(path, replace, BundleError) as partial:
        partial.mkdir()
        for name, data in encoded.items():
            (partial / f"{name}.onnx").write_bytes(data)
        (partial / "proof.npz").write_bytes(proof_bytes)
        (partial / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
        read_bundle(partial)
    return Bundle(path, manifest)


def _serialized(name: str, model: "onnx.ModelProto") -> bytes:
    import onnx

    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            raise BundleError(
                f"{name}: operators of the domain '{opset.domain}' run in one engine only: export without them"
            )
        if opset.version > OPSET_MAX:
            raise BundleError(f"{name}: opset {opset.version} is newer than {OPSET_MAX}, which TensorRT 10.3 reads")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise BundleError(f"{name}: has weights in another file: a graph of a bundle is one file")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"{name}: not a valid ONNX graph: {str(error).splitlines()[0]}") from None
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
