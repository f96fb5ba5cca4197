import os
from pathlib import Path

# Before anything imports rclpy: tests talk on this machine only, and to nobody else on it.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ.setdefault(
    "FASTRTPS_DEFAULT_PROFILES_FILE", str(Path(__file__).resolve().parents[1] / "config" / "fastdds.xml")
)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import pytest
from hypothesis import settings

from re2pix_node.bundle.reader import Bundle
from tests.support.drive_bag import make_drive_bag
from tests.support.tiny_bundle import make_tiny_bundle

# The same examples every time: what fails here fails everywhere.
settings.register_profile("same", derandomize=True, database=None)
settings.load_profile("same")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; tests that damage a bundle make a copy."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def drive_bag(tmp_path_factory: pytest.TempPathFactory):
    """Three seconds of the made-up drive at 30 Hz."""
    path = tmp_path_factory.mktemp("drives") / "drive"
    make_drive_bag(path)
    return path
