"""Finds bundles that ship with the package by their names."""

from pathlib import Path

from re2pix_node.common.shipped import shipped

DEFAULT_BUNDLE = "re2pix-nano"


def bundle_folder(given: str | Path) -> Path:
    """The folder itself, or the folder of a shipped bundle of that name in the checkout or the installation."""
    path = Path(given)
    if path.exists() or len(path.parts) != 1:
        return path
    found = shipped(Path("models") / path)
    return found if found and found.is_dir() else path
