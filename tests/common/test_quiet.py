import time

import pytest

from re2pix_node.common.quiet import REASONS, SECONDS, Quiet


def test_a_line_of_a_kind_is_worth_saying_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    quiet = Quiet()
    assert [quiet("a"), quiet("a"), quiet("b")] == [False, True, False]
    now += SECONDS - 0.01
    assert quiet("a")
    now += 0.02
    assert [quiet("a"), quiet("a")] == [False, True]


def test_reasons_are_told_apart_but_not_without_end() -> None:
    quiet = Quiet()
    said = [i for i in range(50) if not quiet("refused", f"reason {i % 20}")]
    assert said == list(range(REASONS))


def test_it_forgets_but_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    quiet = Quiet()
    said = 0
    for _ in range(300):
        now += 0.1
        quiet.forget()
        said += not quiet("a")
    assert said <= 6  # in 30 s
