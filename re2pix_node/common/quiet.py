"""Keeps a log readable: what comes thirty times a second is worth a line in ten seconds."""

import time
from dataclasses import dataclass, field

SECONDS = 10.0
REASONS = 5  # different lines of a kind in that time, where each answers something that somebody asked for


@dataclass
class _Logged:
    until: float  # steady time
    reasons: set[str] = field(default_factory=set)


class Quiet:
    """Remembers which kinds of lines were logged recently."""

    def __init__(self) -> None:
        self._logged: dict[str, _Logged] = {}
        self._forgotten = -SECONDS  # steady time

    def __call__(self, kind: str, reason: str = "") -> bool:
        """Whether a line of this kind was logged recently, with this reason; if not, it counts as logged now.

        rclpy's throttle counts by line of code, so one fault would silence another.
        """
        now = time.monotonic()
        logged = self._logged.get(kind)
        if logged is None or now >= logged.until:
            logged = self._logged[kind] = _Logged(now + SECONDS)
        if reason in logged.reasons or len(logged.reasons) >= REASONS:
            return True
        logged.reasons.add(reason)
        return False

    def forget(self) -> None:
        """Log everything once more, unless this was called recently."""
        now = time.monotonic()
        if now - self._forgotten >= SECONDS:
            self._forgotten = now
            self._logged.clear()
