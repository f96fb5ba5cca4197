"""python -m tests.support FOLDER: makes the tiny bundle."""

import sys
from pathlib import Path

from tests.support.tiny_bundle import make_tiny_bundle

path = Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
make_tiny_bundle(path, replace=True)
