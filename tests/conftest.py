import gc
import os
from pathlib import Path

from tests.support.ros_domain import claim_domain

# Before anything imports rclpy: tests talk only on this machine, and only to themselves.
os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ.setdefault(
    "FASTRTPS_DEFAULT_PROFILES_FILE", str(Path(__file__).resolve().parents[1] / "config" / "fastdds.xml")
)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
# The bundles of tests are our own: trying each in a process first would take minutes. Tests of the trial turn it on.
os.environ["RE2PIX_TRIAL"] = "never"
# Before anything imports torch: what tests compute is small, and threads that wait for each other keep cores busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from re2pix_node.bundle.reader import Bundle, read_bundle
from tests.support.drive_bag import make_drive_bag
from tests.support.shared import made_once
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

# The same examples every time, so that a failure here is a failure everywhere.
settings.register_profile("same", derandomize=True, database=None)
settings.load_profile("same")

# Files that mostly wait and files that mostly compute: in turns, parallel test processes keep the cores busy.
WAITING = ("tests/ros/", "tests/harness/", "tests/examples/", "tests/render/")
COMPUTING = (
    *("tests/training/", "tests/nets/", "tests/evaluation/", "tests/simulator/", "tests/commands/", "tests/bundle/"),
    *("tests/engines/", "tests/bench/", "tests/recordings/"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the short files last, so that no process is left with a long file when the others are done."""

    def file_of(item: pytest.Item) -> str:
        return item.nodeid.partition("::")[0]

    files = list(dict.fromkeys(map(file_of, items)))
    kinds = ([file for file in files if file.startswith(kind)] for kind in (WAITING, COMPUTING))
    place = {file: i / len(kind) for kind in kinds for i, file in enumerate(kind)}
    items.sort(key=lambda item: place.get(file_of(item), 1.0))


def pytest_collection_finish() -> None:
    # All that was imported stays. Tests that collect garbage, and collections by themselves, need not go through it.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; tests that damage a bundle make a copy."""
    path = made_once(tmp_path_factory, "bundles", lambda folder: make_tiny_bundle(folder / "tiny")) / "tiny"
    return read_bundle(path)


@pytest.fixture(scope="session")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, with a render graph."""

    def make(folder: Path) -> None:
        make_tiny_bundle(folder / "tiny", tiny_manifest(render=True))

    return read_bundle(made_once(tmp_path_factory, "drawing-bundles", make) / "tiny")


@pytest.fixture(scope="session")
def drive_bag(tmp_path_factory: pytest.TempPathFactory):
    """Three seconds of the made-up drive at 30 Hz."""
    return made_once(tmp_path_factory, "drives", lambda folder: make_drive_bag(folder / "drive")) / "drive"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run with every step of the training, beside its footage. Tests that change it copy it."""
    from tests.support.made_runs import make_trained_run  # PyTorch takes seconds to import

    return made_once(tmp_path_factory, "trained", make_trained_run) / "run"
