"""Thins frames out to a rate, by their stamps."""

from re2pix_node.bundle.manifest import NANOSECONDS


class RateLimit:
    """Takes every n-th frame of an even camera: contexts want even spacing more than the last bit of rate."""

    def __init__(self) -> None:
        self._last: int | None = None  # stamp of the newest frame taken

    def takes(self, stamp: int, rate: float) -> bool:
        """Whether a frame is to be used. `rate` is in frames a second; 0 takes every frame."""
        if rate > 0 and self._last is not None and stamp > self._last:
            period = NANOSECONDS / rate
            # A camera's stamps jitter: the frame that is meant may come a little early.
            if stamp - self._last < period - period / 10:
                return False
        self._last = stamp
        return True
