"""What the node says of its own health."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from re2pix_node.common.percentile import percentile

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

ACTIVE = "active"
LOADING = "being loaded"  # the renderer
TOTAL = "latency"  # from receipt of the image to its forecast published
STAGES = (TOTAL, "wait", "decode", "fit", "encode", "forecast", "publish", "render")
# What is counted, as diagnostics name it.
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
)
# Frames this old (s) when they arrive point to clocks that disagree, or to a bag played without use_sim_time.
OLD_FRAMES = 1.0
# Frames from the future: beyond what synchronised clocks differ by.
FUTURE_FRAMES = -0.1


@dataclass
class Health:
    """Counts and times, written by the executor and the workers, read by the diagnostics timer."""

    state: str = "unconfigured"
    fatal: str = ""  # why there will be no forecasts
    engine: str = ""
    first_choice: bool = True  # whether the engine is the one that start-up chose
    passed_over: tuple[str, ...] = ()
    building: str = ""  # a better engine, and how far it is
    last_error: str = ""
    renderer: str = ""  # what draws pictures, or why nothing does
    skill: Sequence[float] = ()  # by horizon, the first of which is now
    counts: Counter[str] = field(default_factory=Counter)
    _picture_fault: str = ""
    _picture_fault_until: float = 0.0  # steady time
    _seconds: dict[str, deque[float]] = field(default_factory=lambda: {stage: deque(maxlen=1000) for stage in STAGES})
    _ages: list[float] = field(default_factory=list)
    _recent: Counter[str] = field(default_factory=Counter)
    _asked: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1
            self._recent[what] += 1

    def error(self, message: str) -> None:
        self.last_error = message
        self.count("errors")

    def picture_error(self, message: str, seconds: float) -> None:
        """Pictures are lost; to be warned of for so long."""
        self.count("picture errors")
        with self._lock:
            self._picture_fault, self._picture_fault_until = message, time.monotonic() + seconds

    def drawing_ends(self) -> None:
        """Nothing is to be told of the renderer any more."""
        with self._lock:
            self.renderer, self._picture_fault_until = "", 0.0

    def received(self, age: float) -> None:
        """A frame came in, `age` seconds after its stamp."""
        self.count("frames received")
        with self._lock:
            self._ages.append(age)

    def took(self, seconds: Mapping[str, float]) -> None:
        """The time that each stage of a frame took."""
        with self._lock:
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def status(self, name: str, overtaken: int, pictures_overtaken: int) -> DiagnosticStatus:
        """The state since the last call, as one message. Overtaken are frames, and forecasts to be drawn."""
        with self._lock:
            now = time.monotonic()
            period, self._asked = max(now - self._asked, 1e-6), now
            recent, self._recent = self._recent, Counter()
            ages, self._ages = sorted(self._ages), []
            stages = {stage: [1e3 * value for value in values] for stage, values in self._seconds.items() if values}
            counts = Counter(self.counts)
        age = ages[len(ages) // 2] if ages else math.nan
        values = {
            "state": self.state,
            "engine": self.engine,
            "engines passed over": "; ".join(self.passed_over),
            "engine being built": self.building,
            **{what: str(counts[what]) for what in COUNTS},
            "frames overtaken": str(overtaken),
            "pictures overtaken": str(pictures_overtaken),
            "renderer": self.renderer,
            "input rate (Hz)": f"{recent['frames received'] / period:.1f}",
            "input age (ms)": f"{1e3 * age:.1f}",
            "output rate (Hz)": f"{recent['forecasts published'] / period:.1f}",
            "last error": self.last_error,
        }
        for stage, times in stages.items():
            values[f"{stage} p50 (ms)"] = f"{percentile(times, 0.5):.1f}"
            values[f"{stage} p99 (ms)"] = f"{percentile(times, 0.99):.1f}"
            values[f"{stage} max (ms)"] = f"{max(times):.1f}"
        skill = list(self.skill)
        for k, value in enumerate(skill[1:], 1):
            values[f"skill h{k}"] = f"{value:.3f}"
        level, message = self._judge(recent, age, skill)
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=f"{name}: forecast", message=message, hardware_id="", values=pairs)

    def _judge(self, recent: Counter[str], age: float, skill: Sequence[float]) -> tuple[bytes, str]:
        """The worst there is to say. WARN: forecasts are fewer or worse than they should be; ERROR: there are none."""
        if self.fatal:
            return ERROR, self.fatal
        if self.state != ACTIVE:
            return OK, f"{self.state}: {self.building}" if self.building else self.state
        if recent["errors"]:
            return WARN if recent["forecasts published"] else ERROR, self.last_error
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
        return self._judge_forecasts(age, skill)

    def _judge_forecasts(self, age: float, skill: Sequence[float]) -> tuple[bytes, str]:
        warnings = list(self._warnings(age, skill))
        return (WARN, "; ".join(warnings)) if warnings else (OK, "forecasting")

    def _warnings(self, age: float, skill: Sequence[float]) -> Iterator[str]:
        """What is wrong although forecasts come. All of it: the one may be the cause of the other."""
        worse = [f"h{k}" for k, value in enumerate(skill) if value < 0]
        if worse:
            yield f"forecasts are worse than assuming that nothing changes: live skill below zero at {', '.join(worse)}"
        if age > OLD_FRAMES:
            yield f"frames are {age:.1f} s old when they arrive: do the clocks agree, is use_sim_time missing?"
        if age < FUTURE_FRAMES:
            yield f"frames are stamped {-age:.1f} s in the future of this node's clock: do the clocks agree?"
        if time.monotonic() < self._picture_fault_until:
            yield f"no picture: {self._picture_fault}"
        if not self.first_choice:
            yield f"forecasting with {self.engine}, a spare: {self.passed_over[-1] if self.passed_over else ''}"
