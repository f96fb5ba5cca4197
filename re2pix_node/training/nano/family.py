"""The small forecaster as a family, for training and export."""

from re2pix_node.nets.forecaster import HeadReader
from re2pix_node.nets.nano.forecaster import NanoForecaster
from re2pix_node.training.family import Family, ForecasterTraining
from re2pix_node.training.forecast_task import forecaster_training
from re2pix_node.training.nano.loss import NanoLoss, nano_options
from re2pix_node.training.run_file import RunFile
from re2pix_node.training.run_folder import RunFolder
from re2pix_node.training.trained import read_head


def nano_net(spec: RunFile) -> NanoForecaster:
    return NanoForecaster(nano_options(spec))


def nano_training(run: RunFolder) -> ForecasterTraining:
    # First, so that a fault is reported before hours of footage are encoded.
    nano_options(run.spec)
    head = read_head(run)[0] if run.spec.forecaster.agreement else None
    return forecaster_training(run, lambda: NanoLoss(run.spec, head))


FAMILY = Family(nano_net, nano_training, HeadReader)
