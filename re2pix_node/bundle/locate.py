"""Bundles that come with the package: they can be named instead of giving their folder."""

import os
from pathlib import Path

DEFAULT_BUNDLE = "re2pix-nano"


def bundle_folder(given: str | Path) -> Path:
    """The folder itself; or for the plain name of a bundle that ships, where the checkout or installation has it."""
    path = Path(given)
    if path.exists() or len(path.parts) != 1:
        return path
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    homes = [Path(__file__).resolve().parents[2], *(Path(prefix) / "share/re2pix_node" for prefix in prefixes)]
    found = (home / "models" / path for home in homes)
    return next((folder for folder in found if folder.is_dir()), path)
