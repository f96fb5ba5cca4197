"""docs/compatibility.md says which messages and bundles this version has; a change to them must pass by that page."""

import re
from pathlib import Path

from re2pix_node.bundle.manifest import SCHEMA
from re2pix_node.recordings.writer import message_types

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/compatibility.md").read_text()


def test_the_page_has_the_type_hash_of_every_message() -> None:
    written = dict(re.findall(r"^\| (\w+) \| [\d.]+ \| `(RIHS01_\w+)` \|$", PAGE, re.MULTILINE))
    names = [file.stem for file in (ROOT / "ros2_ws/src/re2pix_msgs/msg").glob("*.msg")]
    assert written == {name: message_types().hash_rihs01(f"re2pix_msgs/msg/{name}") for name in names}


def test_the_page_names_the_schema_of_bundles() -> None:
    assert re.findall(r"this version reads schema (\d+)", PAGE) == [str(SCHEMA)]
