import shutil
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle


@pytest.fixture
def copy(tiny: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return Path(shutil.copytree(tiny.path, tmp_path / "copy"))
