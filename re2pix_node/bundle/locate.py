"""Bundles that come with the package: they can be named instead of giving their folder."""

from pathlib import Path

from re2pix_node.common.shipped import shipped

DEFAULT_BUNDLE = "re2pix-nano"


def bundle_folder(given: str | Path) -> Path:
    """The folder itself; or for the plain name of a bundle that ships, where the checkout or installation has it."""
    path = Path(given)
    if path.exists() or len(path.parts) != 1:
        return path
    found = shipped(Path("models") / path)
    return found if found and found.is_dir() else path
