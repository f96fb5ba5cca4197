"""The plan against the newest frame wins, on a camera and an engine made of numbers."""

import random
from collections import deque

import pytest

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.pipeline.buffer import FrameBuffer, Timing
from re2pix_node.pipeline.frame_plan import FramePlan

TIMING = Timing(4, *(round(s * NANOSECONDS) for s in (0.18, 0.12, 0.24, 0.03)))
WAITING = 4


class Machine:
    """Counts the forecasts of a camera: `encode` and `forecast` seconds a frame; in some frames, a `hiccup` more."""

    def __init__(self, planned: bool, encode: float, forecast: float, hiccup: float = 0.0) -> None:
        self.plan = FramePlan(TIMING) if planned else None
        self.encode, self.forecast, self.hiccup = encode, forecast, hiccup
        self.buffer: FrameBuffer[None] = FrameBuffer(TIMING)
        self.random = random.Random(0)
        self.forecasts: list[float] = []
        self.contextless: list[float] = []
        self.overtaken = 0
        self.waiting: deque[float] = deque(maxlen=WAITING if planned else 1)

    def run(self, rate: float, seconds: float, late: float = 0.0) -> "Machine":
        """Play a camera; its stamps are `late` seconds off, at most."""
        arrivals = [i / rate + self.random.uniform(-late, late) for i in range(round(rate * seconds))]
        free = 0.0
        while arrivals or self.waiting:
            if not self.waiting or (arrivals and arrivals[0] <= free):
                self.arrive(arrivals.pop(0))
                free = max(free, self.waiting[-1]) if len(self.waiting) == 1 else free
                continue
            free = self.handle(self.waiting.popleft(), free)
        return self

    def arrive(self, at: float) -> None:
        if self.plan and not self.plan.wants(round(at * NANOSECONDS) + NANOSECONDS):
            return
        self.overtaken += len(self.waiting) == self.waiting.maxlen
        self.waiting.append(at)

    def handle(self, at: float, start: float) -> float:
        encode, forecast = (t * self.random.uniform(0.9, 1.1) for t in (self.encode, self.forecast))
        encode += self.hiccup if self.random.random() < 0.03 else 0
        self.buffer.push(round(at * NANOSECONDS) + NANOSECONDS, None)
        behind = self.plan is not None and not self.plan.forecasts(bool(self.waiting))
        has_context = self.buffer.context() is not None
        made = has_context and not behind
        (self.forecasts if made else self.contextless).append(at) if made or not has_context else None
        if self.plan:
            self.plan.took(encode, forecast if made else None)
        return max(start, at) + encode + (forecast if made else 0)


def counts(planned: bool, rate: float, encode: float, forecast: float, hiccup: float = 0.0) -> tuple[float, int]:
    """Forecasts a second, and frames without a context, after the first second and a half."""
    machine = Machine(planned, encode, forecast, hiccup).run(rate, 30)
    return sum(at > 1.5 for at in machine.forecasts) / 28.5, sum(at > 1.5 for at in machine.contextless)


@pytest.mark.parametrize(
    ("rate", "encode", "forecast", "least"),
    [
        (30, 0.024, 0.030, 14.0),  # a 30 Hz camera on two cores: every second frame
        (30, 0.050, 0.080, 7.0),  # a busy machine: every fourth or fifth
        (10, 0.060, 0.080, 4.5),
        (17, 0.040, 0.060, 8.0),
    ],
)
def test_a_machine_that_is_too_slow_forecasts_evenly(rate: float, encode: float, forecast: float, least: float) -> None:
    newest, lost = counts(False, rate, encode, forecast)
    planned, contextless = counts(True, rate, encode, forecast)
    print(f"{rate} Hz: the newest wins {newest:.1f} Hz, {lost} without context; planned {planned:.1f}, {contextless}")
    assert planned >= least
    assert planned >= 0.8 * newest  # a little fewer, but evenly
    assert contextless <= 2


def test_a_hiccup_costs_one_forecast_each_and_no_context() -> None:
    newest, lost = counts(False, 10, 0.025, 0.035, hiccup=0.25)
    planned, contextless = counts(True, 10, 0.025, 0.035, hiccup=0.25)
    print(f"hiccups: newest wins {newest:.1f} Hz, {lost} lost; planned {planned:.1f}, {contextless}")
    assert planned > newest + 0.5
    assert contextless == 0 < lost
