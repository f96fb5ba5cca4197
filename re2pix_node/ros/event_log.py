"""Writes events to the log."""

from typing import Any

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.quiet import Quiet
from re2pix_node.common.wording import printable
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


class PrintableLogger:
    """A logger in whose lines names from files and messages cannot look like other lines."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def info(self, message: str) -> None:
        self._logger.info(printable(message))

    def warning(self, message: str) -> None:
        self._logger.warning(printable(message))

    def error(self, message: str) -> None:
        self._logger.error(printable(message))

    def fatal(self, message: str) -> None:
        self._logger.fatal(printable(message))


class EventLog:
    """Writes events to a logger. Any thread may call it."""

    def __init__(self, logger: Any) -> None:
        self._logger = PrintableLogger(logger)
        self._quiet = Quiet()

    def take(self, event: Event) -> None:
        if isinstance(event, StateEntered):
            self._quiet.forget()  # a fault that is still there is worth a line in the next state
        self._take_of_frames(event)
        self._take_of_engines(event)

    def _take_of_frames(self, event: Event) -> None:
        match event:
            case FrameFailed(kind, message) if not self._quiet(kind):
                self._logger.error(message)
            case StampBroke(stamp, arrival) if not self._quiet(arrival.name):
                self._logger.warning(f"frame stamped {stamp / NANOSECONDS:.3f} s {arrival.value}")
            case FramesChanged(before, after) if not self._quiet(_change(before, after)):
                self._logger.info(f"frames change from {before} to {after}")
            case Doubt(message) if not self._quiet("doubt", message):
                self._logger.warning(message)
            case InputRefused(source, why) if not self._quiet(f"input {source}"):
                self._logger.warning(why)
            case RendererTold(text, draws) if draws and not self._quiet("drawing"):
                self._logger.info(f"drawing pictures with {text}")
            case PictureFailed(message) if not self._quiet("picture"):
                self._logger.error(f"a picture is lost: {message}")

    def _take_of_engines(self, event: Event) -> None:
        # An engine that throws twice in a minute is passed over: only so many lines can come.
        match event:
            case EngineServes(title, _, instead) if instead:
                self._logger.warning(f"continuing with {title}")
            case EngineFailed(fault):
                self._logger.error(f"{fault}; reloading an engine")
            case EngineRejected(title, fault):
                self._logger.warning(f"{title} is passed over, the engine in use stays: {fault}")
            case EngineLost(why):
                self._logger.fatal(why)
            case TransitionRefused(why) if not self._quiet("refused", why):
                self._logger.error(why)


def _change(before: str, after: str) -> str:
    """The kind of a change from "256x128 rgb8", say: of the size, or only of the encoding."""
    return "encoding changes" if before.split()[:1] == after.split()[:1] else "size changes"
