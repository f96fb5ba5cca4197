"""An encoder takes ten seconds to export, and the runs of tests share one: its graph is made once."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import onnx
import pytest
from torch import Tensor, nn

from re2pix_node.nets import onnx_export
from tests.support.shared import made_once


@contextlib.contextmanager
def encoder_exported_once(factory: pytest.TempPathFactory) -> Iterator[None]:
    """In this block an encoder with the same weights, for the same inputs, is exported only the first time."""
    export = onnx_export.exported

    def exported(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
        if list(inputs) != ["frame"]:
            return export(module, inputs, outputs)
        digest = hashlib.sha256(f"{module} {inputs['frame'].shape} {outputs}".encode())
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        name = f"encoder-{digest.hexdigest()[:16]}"
        folder = made_once(factory, name, lambda made: onnx.save(export(module, inputs, outputs), made / "encode.onnx"))
        return onnx.load(folder / "encode.onnx")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "exported", exported)
        yield
