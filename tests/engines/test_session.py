"""Which engine serves, and which follows when it fails."""

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import session
from re2pix_node.engines.session import EngineSession
from re2pix_node.errors import EngineError


def test_a_failed_engine_comes_back_once_and_then_the_next_one(tiny: Bundle) -> None:
    engines = EngineSession(tiny)
    first = engines.start()
    again = engines.replace("it broke")
    assert again is not first
    assert (again.name, again.precision) == (first.name, first.precision)
    follower = engines.replace("it broke again")
    assert (follower.name, follower.precision) != (first.name, first.precision)
    assert f"{first.name} {first.precision}: it broke again" in engines.passed_over


def test_a_failure_much_later_is_a_first_one(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = EngineSession(tiny, "onnxruntime")
    engines.start()
    monkeypatch.setattr(session, "RETRY_AFTER", 0.0)
    for _ in range(3):
        assert engines.replace("it broke").name == "onnxruntime"


def test_the_ladder_ends_with_every_fault_named(tiny: Bundle) -> None:
    engines = EngineSession(tiny, "onnxruntime")
    engines.start()
    engines.replace("it broke")
    with pytest.raises(EngineError, match=r"no engine can run .*it broke; .*it broke for good"):
        engines.replace("it broke for good")
