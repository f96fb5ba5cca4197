"""Writes events to the log."""

import time
from typing import Any

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.pipeline.events import (
    Doubt,
    EngineFailed,
    EngineLost,
    EngineRejected,
    EngineServes,
    Event,
    FrameFailed,
    FramesChanged,
    InputRefused,
    PictureFailed,
    RendererTold,
    StampBroke,
    StateEntered,
    TransitionRefused,
)

# Time (s) without another log line of the same kind: a camera sends the same fault thirty times a second.
QUIET = 10.0


class EventLog:
    """Writes events to a logger. Any thread may call it."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._quiet_until: dict[str, float] = {}  # by kind of fault, steady time

    def take(self, event: Event) -> None:
        if isinstance(event, StateEntered):  # a fault that is still there is worth a line in each state
            self._quiet_until.clear()
        self._take_of_frames(event)
        self._take_of_engines(event)

    def _take_of_frames(self, event: Event) -> None:
        match event:
            case FrameFailed(kind, message) if not self._quiet(kind):
                self._logger.error(message)
            case StampBroke(stamp, arrival) if not self._quiet(arrival.name):
                self._logger.warning(f"frame stamped {stamp / NANOSECONDS:.3f} s {arrival.value}")
            case FramesChanged(before, after):
                self._logger.info(f"frames change from {before} to {after}")
            case Doubt(message, again) if again or not self._quiet("doubt"):
                self._logger.warning(message)
            case InputRefused(source, why) if not self._quiet(f"input {source}"):
                self._logger.warning(why)
            case RendererTold(text, draws) if draws:
                self._logger.info(f"drawing pictures with {text}")
            case PictureFailed(message) if not self._quiet("picture"):
                self._logger.error(f"a picture is lost: {message}")

    def _take_of_engines(self, event: Event) -> None:
        match event:
            case EngineServes(title, _, instead) if instead:
                self._logger.warning(f"continuing with {title}")
            case EngineFailed(fault):
                self._logger.error(f"{fault}; reloading an engine")
            case EngineRejected(title, fault):
                self._logger.warning(f"{title} is passed over, the engine in use stays: {fault}")
            case EngineLost(why):
                self._logger.fatal(why)
            case TransitionRefused(why):
                self._logger.error(why)

    def _quiet(self, kind: str) -> bool:
        """Whether this kind of fault was logged recently. rclpy's throttle counts by line of code, so one fault would
        silence another."""
        now = time.monotonic()
        if now < self._quiet_until.get(kind, 0.0):
            return True
        self._quiet_until[kind] = now + QUIET
        return False
