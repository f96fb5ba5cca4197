"""Messages are one printable line, whatever is in the files that they name."""

import pytest

from re2pix_node.common.wording import one_line
from re2pix_node.errors import BagError, BundleError, Re2pixError


@pytest.mark.parametrize("kind", [Re2pixError, BundleError, BagError])
def test_errors_have_one_printable_line(kind: type[Re2pixError]) -> None:
    error = kind("a\nproved: \x1b[2J\ud800 é")
    assert str(error) == one_line(error) == "a\\nproved: \\x1b[2J\\ud800 é"


def test_a_long_message_loses_its_middle() -> None:
    text = str(BundleError("bundle.yaml: " + "x" * 10_000 + ": mend it"))
    assert len(text) == 2000
    assert text.startswith("bundle.yaml: xx")
    assert text.endswith("xx: mend it")
