"""The interface of a family of forecasters: a folder here with a module `family`, and its networks in nets/.

`forecaster.family` of a run file names the folder, or, by its dotted name, a module elsewhere. A family may train
on its own data, and decides what its graph computes and how labels are read from it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from re2pix_node.common.parts import find_part
from re2pix_node.errors import TrainingError
from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.training.loop import TrainingTask
from re2pix_node.training.run_file import FAMILIES, RunFile
from re2pix_node.training.run_folder import RunFolder


@dataclass(frozen=True)
class ForecasterTraining:
    task: TrainingTask
    net: Forecaster  # the part of the task's model that a run keeps
    note: str  # the footage of the task's figures, in words


@dataclass(frozen=True)
class Family:
    net: Callable[[RunFile], Forecaster]  # a new network; TrainingError for unknown options in forecaster.model
    # The task's figures must have `of copying` and one for each horizon, h1 ..: SmoothL1 of features divided by that of
    # copying the newest frame. Most families call forecast_task.forecaster_training.
    training: Callable[[RunFolder], ForecasterTraining]
    # From a trained forecaster and the head: a module like nets.forecaster.HeadReader. Export and calibration call it.
    reader: Callable[[Forecaster, nn.Module], nn.Module]


def family_of(spec: RunFile) -> Family:
    try:
        return find_part(FAMILIES, spec.forecaster.family, "FAMILY", Family, "family")
    except ValueError as error:
        raise TrainingError(f"{spec.name}: forecaster.family {error}") from None
