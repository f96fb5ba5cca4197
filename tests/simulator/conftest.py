"""Short drives that several tests look at; without OpenGL they are skipped, with the reason."""

from pathlib import Path

import pytest

from re2pix_node.simulator.reader import DriveFrame, read_drive
from re2pix_node.simulator.recorder import RecordingPlan, record
from re2pix_node.simulator.renderer import RenderError
from tests.support.shared import made_once

SEED = 9
PLAN = RecordingPlan(seconds=0.6, rate=17, size=(448, 224))
FRAMES = 10


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short drive."""
    name = f"drive_{SEED:05d}"
    try:
        return made_once(tmp_path_factory, "simulated", lambda folder: record(folder / name, SEED, PLAN)) / name
    except RenderError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def frames(simulated: Path) -> list[DriveFrame]:
    return list(read_drive(simulated))
