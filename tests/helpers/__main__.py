"""python -m tests.helpers FOLDER: makes the tiny bundle and the made-up drive there, unless they are there."""

import sys
from pathlib import Path

from tests.helpers.drive_bag import make_drive_bag
from tests.helpers.tiny_bundle import make_tiny_bundle

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
make_tiny_bundle(folder / "tiny", replace=True)
if not (folder / "drive").exists():
    make_drive_bag(folder / "drive", seconds=12, rate=30)
