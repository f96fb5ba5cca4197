"""Writes bundles for every exporter. Needs the `onnx` package, which the run time does not."""

import dataclasses
import hashlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import MANIFEST, FileEntry, Graphs, Manifest, manifest_text
from re2pix_node.bundle.reader import Bundle, proof_tensors, read_bundle, sampled_tensors
from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import BundleError

if TYPE_CHECKING:
    import onnx

OPSET_MAX = 20  # newest opset that TensorRT 10.3 (JetPack 6) parses
WEIGHTS_MIN = 1024  # elements; a smaller tensor is not worth a Cast


def write_bundle(
    path: Path,
    manifest: Manifest,
    graphs: "Mapping[str, onnx.ModelProto]",
    proof: Mapping[str, NDArray[Any]],
    replace: bool = False,
) -> Bundle:
    """Write a bundle and read it back. This fills in the hashes of `manifest` and replaces any old ones.

    `proof` has all values, or those of another bundle's proof; the file has every n-th value of the features
    (`manifest.proof.every`).
    """
    encoded = {name: _serialized(name, model) for name, model in graphs.items()}
    tensors = proof_tensors(manifest)
    held = {name: np.asarray(proof[name]) for name in tensors}
    for name in sampled_tensors(manifest):
        if held[name].shape != tensors[name].shape:
            held[name] = held[name].ravel()[:: manifest.proof.every]
    archive = io.BytesIO()
    np.savez_compressed(archive, **held)  # type: ignore[arg-type]
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
    _store_in_half(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"{name}: not a valid ONNX graph: {str(error).splitlines()[0]}") from None
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _store_in_half(model: "onnx.ModelProto") -> None:
    """Store weights that float16 holds exactly as float16, followed by a Cast, which engines fold when they load."""
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < WEIGHTS_MIN:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves, values):
            casts.append(onnx.helper.make_node("Cast", [f"{tensor.name}.stored"], [tensor.name], to=tensor.data_type))
            tensor.CopyFrom(onnx.numpy_helper.from_array(halves, f"{tensor.name}.stored"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
