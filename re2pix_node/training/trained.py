"""Reads the results of pca, head and forecaster from the folder of a run."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from re2pix_node.common.files import read_file
from re2pix_node.common.limits import ARRAY_BYTES
from re2pix_node.errors import TrainingError
from re2pix_node.footage.label_space import LabelSpace
from re2pix_node.nets.features import FeatureBasis
from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.training.family import family_of
from re2pix_node.training.head import light_head
from re2pix_node.training.run_folder import RunFolder
from re2pix_node.training.stored import read_stored


def read_basis(run: RunFolder) -> FeatureBasis:
    file = run.needed("pca")
    try:
        return FeatureBasis.from_bytes(read_file(file, ARRAY_BYTES))
    except Exception as error:  # a damaged archive can raise any error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TrainingError(
            f"{file}: cannot be read ({reason}): create it again with re2pix train pca ... --force"
        ) from None


def read_head(run: RunFolder) -> tuple[nn.Module, LabelSpace, float]:
    """Read the frozen head, its classes in its own order, and its temperature."""
    file = run.needed("head")
    content = read_stored(file)
    try:
        space = LabelSpace(tuple(content["ids"]), tuple(content["names"]))
        head = light_head(run.spec, len(space.ids))
        head.load_state_dict(content["model"])
        temperature = float(content["temperature"])
        if not 0 < temperature < math.inf:
            raise ValueError(f"its temperature is {temperature:g}, which must be above 0 and finite")
        return head.eval().requires_grad_(False), space, temperature
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(f"{file}: does not fit this run ({' '.join(str(error).split())[:200]})") from None


def read_forecaster(run: RunFolder) -> tuple[Forecaster, Mapping[str, float]]:
    """Read the frozen forecaster, and the figures of its training."""
    file = run.needed("forecaster")
    content = read_stored(file)
    net = family_of(run.spec).net(run.spec)
    try:
        net.load_state_dict(content["model"])
        return net.eval().requires_grad_(False), content["figures"]
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{file}: does not fit this run ({' '.join(str(error).split())[:200]})") from None


def plain_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
