"""Writes requirements/sha256.txt: the hash of every file that an installation may take from PyPI.

python scripts/hashes.py        # after a change of a version in constraints.txt, tools.txt or ros-*.txt
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from install import BUILT, REQUIREMENTS

LIST = REQUIREMENTS / "sha256.txt"
PYTHONS = range(10, 14)  # Python 3.x
HEAD = """\
# What scripts/install.py may install: the files of PyPI that fit Linux on x86_64 and aarch64, by scripts/hashes.py.
# A file with + in its name is not from PyPI: it is PyTorch's build for machines without a GPU.
"""


def pinned() -> Iterator[tuple[str, str]]:
    """Name and version of every package."""
    for name in ("constraints", "tools", "ros-pypi", "ros-sourced"):
        path = REQUIREMENTS / f"{name}.txt"
        yield from re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)


def files_of(package: tuple[str, str]) -> dict[str, str]:
    """Hashes by file name."""
    name, version = package
    form = {"Accept": "application/vnd.pypi.simple.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(f"https://pypi.org/simple/{name}/", headers=form)) as answer:
        listed = json.load(answer)["files"]
    return {file["filename"]: file["hashes"]["sha256"] for file in listed if fits(file["filename"], name, version)}


def fits(file: str, name: str, version: str) -> bool:
    if not file.endswith(".whl"):
        return name in BUILT and file == f"{name}-{version}.tar.gz"
    _, of, *_, python, abi, platform = file.removesuffix(".whl").split("-")
    return of == version and fits_python(python, abi) and fits_platform(platform)


def fits_python(python: str, abi: str) -> bool:
    if "py3" in python.split("."):
        return True
    minor = re.fullmatch(r"cp3(\d+)", python)
    if minor is None or abi.endswith("t"):  # another Python, or one without its global lock
        return False
    return int(minor[1]) <= PYTHONS[-1] if abi == "abi3" else int(minor[1]) in PYTHONS


def fits_platform(platform: str) -> bool:
    return platform == "any" or bool(re.search(r"(many)?linux.*_(x86_64|aarch64)", platform) and "musl" not in platform)


def main() -> None:
    kept = [line for line in LIST.read_text().splitlines() if "+" in line and not line.startswith("#")]
    with ThreadPoolExecutor(8) as pool:
        found = {name: of for files in pool.map(files_of, sorted(set(pinned()))) for name, of in files.items()}
    lines = [f"{of}  {name}" for name, of in found.items()]
    LIST.write_text(HEAD + "\n".join(sorted(lines + kept, key=lambda line: line.partition("  ")[2].lower())) + "\n")
    print(f"{LIST}: {len(lines) + len(kept)} files")


if __name__ == "__main__":
    main()
