"""Where the files lie that ship with the package: in a checkout, below a sourced workspace, or where pip put them."""

import os
import sys
from pathlib import Path


def shipped(relative: str | Path) -> Path | None:
    """The file or folder of that name in a checkout; None where nothing of that name was shipped."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    checkout = Path(__file__).resolve().parents[2]
    homes = [checkout, *(Path(prefix) / "share/re2pix_node" for prefix in prefixes)]
    return next((home / relative for home in homes if (home / relative).exists()), None)
