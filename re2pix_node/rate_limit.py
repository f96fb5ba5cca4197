"""Thins frames out to a rate, by their stamps."""

from re2pix_node.manifest import NANOSECONDS


class RateLimit:
    """Takes so many frames a second, evenly, whatever the camera's rate."""

    def __init__(self) -> None:
        self._last: int | None = None  # stamp of the newest frame taken
        self._due = 0  # when the next one is wanted

    def takes(self, stamp: int, rate: float) -> bool:
        """Whether a frame is to be used. `rate` is in frames a second; 0 takes every frame."""
        if rate <= 0:
            self._last = None
            return True
        period = round(NANOSECONDS / rate)
        if self._last is None or stamp < self._last:  # the first, or a bag that loops
            self._due = stamp
        # A camera's stamps jitter: the frame that is meant may come a little before it is due.
        if stamp < self._due - period // 8:
            return False
        self._last = stamp
        # Counted on from when it was due, or the rate would fall below what is asked for; anew after a gap.
        self._due = (self._due if stamp - self._due < period else stamp) + period
        return True
