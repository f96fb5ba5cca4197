"""Installs requirement lists into the Python that runs this, by versions and hashes that are all pinned.

.venv/bin/python scripts/install.py requirements/runtime.txt ...

pip decides which packages this machine needs (PyTorch needs a dozen more where there is a GPU), within the versions of
constraints.txt. What it chose must be a file of sha256.txt, and is installed by that hash. No package is built, but
those of BUILT.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
TOOLS = ("pip", "setuptools")
BUILT = ("empy",)  # PyPI has only their sources
WHEELS = ("--only-binary", ":all:")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")


class InstallError(Exception):
    """What is wrong, in a line."""


def hashes() -> dict[str, str]:
    lines = (REQUIREMENTS / "sha256.txt").read_text().splitlines()
    return {name: of for of, _, name in (line.partition("  ") for line in lines if not line.startswith("#"))}


def only(package: str, known: dict[str, str]) -> str:
    """The requirement of a package of which there is one file, for every machine."""
    (file,) = (name for name in known if name.startswith(f"{package}-"))
    version = file.removesuffix(".tar.gz").split("-")[1]
    return f"{package}=={version} --hash=sha256:{known[file]}"


def chosen(lists: Iterable[str], folder: Path, known: dict[str, str]) -> list[str]:
    """The requirements that pip would install here, each with its hash."""
    report = folder / "report.json"
    words = [word for name in lists for word in ("-r", name)]
    pip("install", "--dry-run", "--report", report, *WHEELS, "-c", REQUIREMENTS / "constraints.txt", *words)
    found = []
    for item in json.loads(report.read_text())["install"]:
        file = unquote(urlsplit(item["download_info"]["url"]).path).rpartition("/")[2]
        if file not in known:
            raise InstallError(f"{file} is not in requirements/sha256.txt: scripts/hashes.py writes the list anew")
        found.append(f"{item['metadata']['name']}=={item['metadata']['version']} --hash=sha256:{known[file]}")
    return found


def install(requirements: Iterable[str], folder: Path, *options: str) -> None:
    lines = folder / "locked.txt"
    lines.write_text("\n".join(requirements))
    if lines.stat().st_size:
        pip("install", "--require-hashes", "--no-deps", *options, "-r", lines)


def pip(command: str, *words: object) -> None:
    if subprocess.run([*PIP, command, "--progress-bar", "off", *map(str, words)], check=False).returncode:
        raise InstallError("pip could not install the packages; its message is above")


def main(lists: list[str]) -> int:
    known = hashes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            install((only(package, known) for package in TOOLS), folder, *WHEELS)
            install((only(package, known) for package in BUILT), folder, "--no-build-isolation")
            install(chosen(lists, folder, known), folder, *WHEELS)
        except InstallError as error:
            print(f"setup: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
