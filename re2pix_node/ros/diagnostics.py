"""Reduces events to the status that the node publishes on /diagnostics."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from re2pix_node.common.percentile import percentile
from re2pix_node.pipeline.events import (
    Configuring,
    Counted,
    DrawingEnded,
    EngineFailed,
    EngineLost,
    EngineReleased,
    EngineServes,
    EnginesTold,
    Event,
    FrameFailed,
    FrameReceived,
    InputRefused,
    PictureFailed,
    RendererTold,
    SkillMeasured,
    StagesTook,
    StateEntered,
    TransitionRefused,
)

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

ACTIVE = "active"
TOTAL = "latency"  # from receipt of the image to its forecast published
STAGES = (TOTAL, "wait", "decode", "fit", "encode", "forecast", "publish", "render")
# The names of the counts in diagnostics.
COUNTS = (
    "frames received",
    "forecasts published",
    "frames too old",
    "frames over max_rate",
    "frames undecodable",
    "frames repeated",
    "frames unstamped",
    "frames without context",
    "errors",
    "engine restarts",
    "pictures drawn",
    "pictures late",
    "picture errors",
    "frames overtaken",
    "frames skipped",
    "forecasts skipped",
    "pictures overtaken",
    "inputs refused",
)
# Frames this old (s) at arrival suggest that clocks disagree, or that a bag is played without use_sim_time.
OLD_FRAMES = 1.0
# Frames this far in the future (s): more than synchronised clocks differ.
FUTURE_FRAMES = -0.1


@dataclass
class Facts:
    """Everything known since the node was last configured."""

    state: str = "unconfigured"
    fatal: str = ""  # reason why there will be no forecasts
    engine: str = ""
    first_choice: bool = True  # whether the engine is the one that start-up chose
    passed_over: tuple[str, ...] = ()
    building: str = ""  # a better engine and its progress
    last_error: str = ""
    renderer: str = ""  # the renderer, or the reason why there is none
    skill: Sequence[float] = ()  # by horizon; the first is now
    counts: Counter[str] = field(default_factory=Counter)
    picture_fault: str = ""
    picture_fault_until: float = 0.0  # steady time
    seconds: dict[str, deque[float]] = field(default_factory=lambda: {stage: deque(maxlen=1000) for stage in STAGES})
    ages: list[float] = field(default_factory=list)  # ages of frames since the last status
    recent: Counter[str] = field(default_factory=Counter)  # counts since the last status

    def count(self, what: str) -> None:
        self.counts[what] += 1
        self.recent[what] += 1

    def error(self, message: str) -> None:
        self.last_error = message
        self.count("errors")


def _take_of_frames(facts: Facts, event: Event) -> None:
    match event:
        case Counted(what):
            facts.count(what)
        case FrameReceived(age):
            facts.count("frames received")
            facts.ages.append(age)
        case FrameFailed(_, message):
            facts.error(message)
        case StagesTook(seconds):
            for stage, value in seconds.items():
                facts.seconds[stage].append(value)
        case InputRefused(_, why):
            facts.last_error = why
            facts.count("inputs refused")
        case SkillMeasured(values):
            facts.skill = values


def _take_of_engines(facts: Facts, event: Event) -> None:
    match event:
        case EngineServes(title, first_choice):
            facts.engine, facts.first_choice = title, first_choice
        case EngineReleased():
            facts.engine = facts.building = ""
        case EngineFailed(fault):
            facts.error(fault)
            facts.count("engine restarts")
        case EnginesTold(passed_over, building):
            facts.passed_over, facts.building = passed_over, building
        case EngineLost(why) | TransitionRefused(why):
            facts.fatal = why
        case StateEntered(state):
            facts.state = state
            facts.fatal = "" if state == ACTIVE else facts.fatal


def _take_of_pictures(facts: Facts, event: Event) -> None:
    match event:
        case RendererTold(text):
            facts.renderer = text
        case PictureFailed(message, seconds):
            facts.count("picture errors")
            facts.picture_fault, facts.picture_fault_until = message, time.monotonic() + seconds
        case DrawingEnded():
            facts.renderer, facts.picture_fault_until = "", 0.0


class Health:
    """Reduces events to a status. Executor and workers send events, a timer asks for the status."""

    def __init__(self) -> None:
        self._facts = Facts()
        self._asked = time.monotonic()
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Configuring):
                self._facts = Facts()
            _take_of_frames(self._facts, event)
            _take_of_engines(self._facts, event)
            _take_of_pictures(self._facts, event)

    def status(self, name: str) -> DiagnosticStatus:
        """The state since the last call, as one message."""
        with self._lock:
            now = time.monotonic()
            period, self._asked = max(now - self._asked, 1e-6), now
            facts = replace(self._facts, counts=Counter(self._facts.counts))
            recent, self._facts.recent = facts.recent, Counter()
            ages, self._facts.ages = sorted(facts.ages), []
            stages = {stage: [1e3 * value for value in values] for stage, values in facts.seconds.items() if values}
        age = ages[len(ages) // 2] if ages else math.nan
        values = {
            "state": facts.state,
            "engine": facts.engine,
            "engines passed over": "; ".join(facts.passed_over),
            "engine being built": facts.building,
            **{what: str(facts.counts[what]) for what in COUNTS},
            "renderer": facts.renderer,
            "input rate (Hz)": f"{recent['frames received'] / period:.1f}",
            "input age (ms)": f"{1e3 * age:.1f}",
            "output rate (Hz)": f"{recent['forecasts published'] / period:.1f}",
            "last error": facts.last_error,
        }
        for stage, times in stages.items():
            values[f"{stage} p50 (ms)"] = f"{percentile(times, 0.5):.1f}"
            values[f"{stage} p99 (ms)"] = f"{percentile(times, 0.99):.1f}"
            values[f"{stage} max (ms)"] = f"{max(times):.1f}"
        skill = list(facts.skill)
        for k, value in enumerate(skill[1:], 1):
            values[f"skill h{k}"] = f"{value:.3f}"
        level, message = _judged(facts, recent, age)
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=f"{name}: forecast", message=message, hardware_id="", values=pairs)


def _judged(facts: Facts, recent: Counter[str], age: float) -> tuple[bytes, str]:
    """The worst level and its message. WARN: forecasts are fewer or worse than they should be; ERROR: none come."""
    if facts.fatal:
        return ERROR, facts.fatal
    if facts.state != ACTIVE:
        return OK, f"{facts.state}: {facts.building}" if facts.building else facts.state
    if recent["errors"]:
        return WARN if recent["forecasts published"] else ERROR, facts.last_error
    if not recent["frames received"]:
        return WARN, "no frames arrive: is the camera running, and ~/input/image remapped to its topic?"
    if recent["frames unstamped"] and not recent["forecasts published"]:
        return (
            ERROR,
            "frames arrive without a stamp: nothing can be forecast from them, the camera driver must stamp",
        )
    if not recent["forecasts published"]:
        return (
            WARN,
            "frames arrive, but none leads to a forecast (no evenly spaced context, or too old): see the counts",
        )
    return _judged_forecasts(facts, age)


def _judged_forecasts(facts: Facts, age: float) -> tuple[bytes, str]:
    warnings = list(_warnings(facts, age))
    return (WARN, "; ".join(warnings)) if warnings else (OK, "forecasting")


def _warnings(facts: Facts, age: float) -> Iterator[str]:
    """All faults while forecasts come: one of them may cause another."""
    worse = [f"h{k}" for k, value in enumerate(facts.skill) if value < 0]
    if worse:
        yield f"forecasts are worse than assuming that nothing changes: live skill below zero at {', '.join(worse)}"
    if age > OLD_FRAMES:
        yield f"frames are {age:.1f} s old when they arrive: do the clocks agree, is use_sim_time missing?"
    if age < FUTURE_FRAMES:
        yield f"frames are stamped {-age:.1f} s in the future of this node's clock: do the clocks agree?"
    if time.monotonic() < facts.picture_fault_until:
        yield f"no picture: {facts.picture_fault}"
    if not facts.first_choice:
        reason = facts.passed_over[-1] if facts.passed_over else ""
        yield f"forecasting with {facts.engine}, the first choice failed: {reason}"
