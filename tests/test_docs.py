"""The documents: their links lead somewhere, and the files that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
# Files of this repository as the documents name them: in code spans, by a folder that only we have.
NAMED = re.compile(r"`((?:re2pix_node|tests|docs|config|launch|scripts|requirements)/[\w./{},-]+?)`")
MODULE = re.compile(r"python -m ((?:re2pix_node|tests)[\w.]*)")


def ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The names under which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ +(.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


def spelt_out(name: str) -> list[str]:
    """`a/{b,c}.py` as the two files that it stands for."""
    found = re.search(r"\{([^}]*)\}", name)
    return [name.replace(found[0], part) for part in found[1].split(",")] if found else [name]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{ids(page)} links to {target}: there is no such file"
        assert not anchor or anchor in anchors(file), f"{ids(page)} links to {target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_that_documents_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [name for found in NAMED.findall(text) for name in spelt_out(found)]
    named += [module.replace(".", "/") for module in MODULE.findall(text)]
    for name in named:
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), f"{ids(page)} names {name}: it is not there"


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in LINK.findall(index)}
    missing = [ids(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in linked]
    assert missing == ["docs/README.md"]
