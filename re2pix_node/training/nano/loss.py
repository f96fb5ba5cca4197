"""The loss of the small forecaster."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import build
from re2pix_node.errors import BundleError, TrainingError
from re2pix_node.nets.features import CARRIED, SUB
from re2pix_node.nets.light_head import agreement_loss
from re2pix_node.nets.nano.forecaster import NanoForecaster, NanoOptions
from re2pix_node.nets.warp import warp
from re2pix_node.training.forecast_task import BETA, ForecasterLoss, from_run
from re2pix_node.training.run_file import RunFile


def nano_options(spec: RunFile) -> NanoOptions:
    if not spec.backbone.picture:
        raise TrainingError(f"{spec.name}: backbone.picture: the forecaster sees motion in the picture: set it to true")
    try:
        return build(NanoOptions, {**spec.forecaster.model, **from_run(spec)}, "forecaster.model", spec.name)
    except BundleError as error:
        raise TrainingError(str(error)) from None


class NanoLoss(ForecasterLoss):
    """The distance of features from the true future, of the forecast and of the warped features alone."""

    def __init__(self, spec: RunFile, head: nn.Module | None) -> None:
        super().__init__(NanoForecaster(nano_options(spec)))
        self._motion, self._agreement = spec.forecaster.motion, spec.forecaster.agreement
        self._head = [head] if head is not None else []  # in a list, so that it is not trained

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[n, T + K, h, w, channels + carried]"""
        o = self.net.options
        context, truth = frames[:, : o.context], frames[:, o.context :]
        said, displacements = self.net(context)
        future = truth[..., : o.channels].float()
        loss = functional.smooth_l1_loss(said.float(), future, beta=BETA)
        figures = {"features": loss.detach()}
        if self._motion:
            moved = _moved(context[:, -1], displacements)
            motion = functional.smooth_l1_loss(moved, truth.float(), beta=BETA)
            figures["motion"] = motion.detach()
            loss = loss + self._motion * motion
        for head in self._head:
            agreement = agreement_loss(head.to(said.device), said.flatten(0, 1), future.flatten(0, 1))
            figures["agreement"] = agreement.detach()
            loss = loss + self._agreement * agreement
        return loss, figures


def _moved(newest: Tensor, displacements: Tensor) -> Tensor:
    """Move [n, h, w, C + carried] along [n, K, 2, h, w] -> [n, K, h, w, C + carried]; the picture by pixels."""
    planes = newest.permute(0, 3, 1, 2).float()
    channels = planes.shape[1] - CARRIED
    grey = functional.pixel_shuffle(planes[:, channels:], SUB)
    moved = []
    for displacement in displacements.float().unbind(1):
        fine = functional.interpolate(displacement, scale_factor=float(SUB), mode="bilinear") * SUB
        picture = functional.pixel_unshuffle(warp(grey, fine), SUB)
        moved.append(torch.cat([warp(planes[:, :channels], displacement), picture], 1))
    return torch.stack(moved, 1).permute(0, 1, 3, 4, 2)
