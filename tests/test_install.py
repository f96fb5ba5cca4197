"""scripts/install.py installs a package if its file is the listed one; scripts/hashes.py lists the files."""

import hashlib
import importlib
import re
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHEEL = "made_up-1.0-py3-none-any.whl"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with requirements of its own, for a machine whose only index is a folder with one wheel."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    module = importlib.import_module("install")
    monkeypatch.setattr(module, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(module, "TOOLS", ())
    monkeypatch.setattr(module, "BUILT", ())
    for name, value in {"NO_INDEX": 1, "FIND_LINKS": tmp_path / "index", "TARGET": tmp_path / "target"}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "constraints.txt").write_text("made-up==1.0\n")
    (tmp_path / "list.txt").write_text("made-up\n")
    make_wheel(tmp_path, "first = 1")
    write_list(tmp_path, WHEEL)
    return module


def make_wheel(folder: Path, code: str) -> None:
    (folder / "index").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "index" / WHEEL, "w") as wheel:
        wheel.writestr("made_up.py", code)
        wheel.writestr("made_up-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
        wheel.writestr("made_up-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("made_up-1.0.dist-info/RECORD", "")


def write_list(folder: Path, name: str) -> None:
    of = hashlib.sha256((folder / "index" / WHEEL).read_bytes()).hexdigest()
    (folder / "sha256.txt").write_text(f"# files\n{of}  {name}\n")


def installed(folder: Path) -> bool:
    return (folder / "target/made_up.py").exists()


def test_a_listed_file_is_installed(script: ModuleType, tmp_path: Path) -> None:
    assert script.main([str(tmp_path / "list.txt")]) == 0
    assert installed(tmp_path)


def test_a_file_that_was_changed_is_not(script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_wheel(tmp_path, "import os  # other code under the same name")
    assert script.main([str(tmp_path / "list.txt")]) == 2
    said = capfd.readouterr().err
    assert "DO NOT MATCH THE HASHES" in said
    assert said.splitlines()[-1] == "setup: pip could not install the packages; its message is above"
    assert not installed(tmp_path)


def test_a_file_that_is_not_listed_is_named(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_list(tmp_path, "made_up-1.1-py3-none-any.whl")
    assert script.main([str(tmp_path / "list.txt")]) == 2
    line = f"setup: {WHEEL} is not in requirements/sha256.txt: scripts/hashes.py writes the list anew"
    assert capfd.readouterr().err.splitlines()[-1] == line
    assert not installed(tmp_path)


def test_every_pinned_package_is_listed() -> None:
    listed = (ROOT / "requirements/sha256.txt").read_text()
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"  ([\w.]+)-\d", listed)}
    lines = (ROOT / "requirements/constraints.txt").read_text().splitlines()
    elsewhere = re.compile(r"sys_platform == '(win32|emscripten)'")
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line and not elsewhere.search(line)}
    pinned = {re.sub(r"[-_.]+", "-", name) for name in pinned if not name.startswith("#")}
    assert {"numpy", "pip", "torch"} <= names
    assert pinned <= names


@pytest.mark.parametrize(
    ("file", "fits"),
    [
        ("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("torch-2.13.0-cp310-cp310-manylinux_2_28_aarch64.whl", True),
        ("torch-2.13.0-cp38-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", True),
        ("torch-2.13.0-py2.py3-none-any.whl", True),
        ("torch-2.13.1-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("torch-2.13.0-cp314-cp314-manylinux_2_28_x86_64.whl", False),
        ("torch-2.13.0-cp313-cp313t-manylinux_2_28_x86_64.whl", False),
        ("torch-2.13.0-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("torch-2.13.0-cp311-cp311-win_amd64.whl", False),
        ("torch-2.13.0.tar.gz", False),
    ],
)
def test_files_for_our_pythons_and_machines_are_listed(file: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    assert importlib.import_module("hashes").fits(file, "torch", "2.13.0") is fits


def test_a_list_written_anew_keeps_what_is_not_from_pypi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    module = importlib.import_module("hashes")
    kept = f"{'0' * 64}  torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    monkeypatch.setattr(module, "LIST", tmp_path / "sha256.txt")
    monkeypatch.setattr(module, "files_of", lambda package: {f"{package[0]}.whl": "1" * 64})
    monkeypatch.setattr(module, "pinned", lambda: iter([("made-up", "1.0")]))
    expected = f"{module.HEAD}{'1' * 64}  made-up.whl\n{kept}\n"
    module.LIST.write_text(f"{module.HEAD}{'2' * 64}  removed.whl\n{kept}\n")
    for _ in range(2):
        module.main()
        assert module.LIST.read_text() == expected
