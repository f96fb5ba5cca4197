"""What the node says of its own health."""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from re2pix_node.percentile import percentile

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class Health:
    """Counts and times, written by the executor and the worker, read by the diagnostics timer."""

    state: str = "loading the bundle"
    fatal: str = ""  # why there will be no forecasts
    engine: str = ""
    passed_over: tuple[str, ...] = ()
    last_error: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
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

    def latency(self, seconds: float) -> None:
        with self._lock:
            self._latencies.append(seconds)

    def status(self, name: str, overtaken: int) -> DiagnosticStatus:
        """The state since the last call, as one message."""
        with self._lock:
            now = time.monotonic()
            period, self._asked = max(now - self._asked, 1e-6), now
            recent, self._recent = self._recent, Counter()
            latencies = [1e3 * seconds for seconds in self._latencies]
            counts = Counter(self.counts)
        values = {
            "engine": self.engine,
            "engines passed over": "; ".join(self.passed_over),
            "frames received": str(counts["received"]),
            "forecasts published": str(counts["published"]),
            "frames overtaken": str(overtaken),
            "frames undecodable": str(counts["undecodable"]),
            "frames repeated": str(counts["repeated"]),
            "frames without context": str(counts["no context"]),
            "errors": str(counts["errors"]),
            "input rate (Hz)": f"{recent['received'] / period:.1f}",
            "output rate (Hz)": f"{recent['published'] / period:.1f}",
            "last error": self.last_error,
        }
        if latencies:
            values["latency p50 (ms)"] = f"{percentile(latencies, 0.5):.1f}"
            values["latency p99 (ms)"] = f"{percentile(latencies, 0.99):.1f}"
        level, message = self._judge(recent)
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=f"{name}: forecast", message=message, hardware_id="", values=pairs)

    def _judge(self, recent: Counter[str]) -> tuple[bytes, str]:
        if self.fatal:
            return ERROR, self.fatal
        if recent["errors"]:
            return ERROR if not recent["published"] else WARN, self.last_error
        if self.state != "running":
            return OK, self.state
        if not recent["received"]:
            return WARN, "no frames arrive: is the camera running, and ~/input/image remapped to its topic?"
        if not recent["published"]:
            return WARN, "frames arrive, but give no evenly spaced context yet: see the counts"
        return OK, "forecasting"
