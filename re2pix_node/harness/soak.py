"""Runs the real node for hours on a looping drive: its resources must not grow, and no stamp may be wrong."""

import csv
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.common.process_usage import usage_of
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.node_harness import Camera, Rig, node_parameters, running_node
from re2pix_node.harness.player import open_lines
from re2pix_node.pipeline.forecast_check import StampCheck
from re2pix_node.pipeline.model_choice import ModelChoice
from re2pix_node.recordings.reader import CameraTopic

SAMPLE_SECONDS = 10.0
FLAT = 0.02  # share by which resident memory may vary
MIB = 1 << 20


@dataclass(frozen=True)
class UsageSample:
    """The node at one moment."""

    seconds: float
    resident: int  # bytes
    held: int  # bytes of it; see process_usage.py
    threads: int
    handles: int
    forecasts: int
    wrong: int


@dataclass
class ForecastListener:
    """Listens to forecasts and checks them."""

    check: StampCheck
    camera: Camera | None = None
    forecasts: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def on_forecast(self, message: Any) -> None:
        self.forecasts += 1
        assert self.camera, "there is a forecast before there was a camera"
        self.wrong.update(self.check.faults(message, time.time_ns(), self.camera.has_sent))


@dataclass(frozen=True)
class Watched:
    """The samples and the final state of a run."""

    samples: list[UsageSample]
    wrong: Counter[str]
    sent: int
    status: Mapping[str, str]  # the node's diagnostics at the end


def watch_node(
    model: ModelChoice, drive: Path, topic: CameraTopic, speed: float, seconds: float, log: Path | None
) -> Watched:
    """Play the drive to the real node in a loop, and take a sample of the node every few seconds."""
    bundle = read_bundle(model.bundle)
    with ExitStack() as stack:
        lines = stack.enter_context(open_lines(log)) if log else None
        rig = stack.enter_context(running_node("soak", node_parameters(model, topic.type)))
        words = ("--topic", topic.name, "--loop", "--rate", speed)
        ear = ForecastListener(StampCheck(bundle.manifest.time))
        rig.listen(Forecast, "forecast", ear.on_forecast)
        for k in range(len(bundle.manifest.time.horizons) + 1):
            rig.listen(Image, f"h{k}/segmentation", lambda mask: None)
        rig.wait_until_ready()
        with rig.camera(drive, *words) as camera:
            ear.camera = camera
            samples = _watch(rig, camera, ear, seconds, lines)
            rig.settle()
            sent = len(camera.sent())
        return Watched(samples, ear.wrong, sent, rig.status)


def _watch(rig: Rig, camera: Camera, ear: ForecastListener, seconds: float, log: TextIO | None) -> list[UsageSample]:
    """Take samples until the time is over; print a line every minute."""
    every = min(SAMPLE_SECONDS, seconds / 20)
    samples: list[UsageSample] = []
    if log:
        csv.writer(log).writerow(column.name for column in fields(UsageSample))
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        if rig.wait(lambda: camera.process.poll() is not None, min(every, seconds - passed)):
            raise Re2pixError("the camera ended; its messages are above")
        samples.append(_sample(rig, ear, time.monotonic() - start))
        if log:
            csv.writer(log).writerow(astuple(samples[-1]))
        if len(samples) == 1 or samples[-1].seconds // 60 > samples[-2].seconds // 60:
            print(_line(samples[-1]), flush=True)
    return samples


def _sample(rig: Rig, ear: ForecastListener, seconds: float) -> UsageSample:
    usage = usage_of(rig.process.pid)
    counts = (usage.threads, usage.handles, ear.forecasts, ear.wrong.total())
    return UsageSample(round(seconds, 1), usage.resident, usage.held, *counts)


def _line(sample: UsageSample) -> str:
    minutes, seconds = divmod(round(sample.seconds), 60)
    return (
        f"{minutes:4d}:{seconds:02d}  {sample.resident / MIB:8.1f} MiB ({sample.held / MIB:.1f} without files)  "
        f"{sample.threads} threads  {sample.handles} handles  {sample.forecasts} forecasts  {sample.wrong} wrong"
    )


def verdict(samples: Sequence[UsageSample], wrong: Mapping[str, int], seconds: float) -> list[str]:
    """The list of faults; empty if all is well. The time in which the node warms up does not count."""
    warm_up = max(0.2 * seconds, min(60.0, seconds / 2))
    warm = [sample for sample in samples if sample.seconds >= warm_up]
    faults = [f"wrong in {count} forecasts: {fault}" for fault, count in wrong.items()]
    faults += _stalls(warm)
    low, high = min(sample.resident for sample in warm), max(sample.resident for sample in warm)
    spread = (high - low) / low
    # For information: where memory is short, the kernel drops pages of files and no others.
    without = [sample.held / MIB for sample in warm]
    print(
        f"resident memory after {warm_up:.0f} s: {low / MIB:.1f} to {high / MIB:.1f} MiB, {100 * spread:.2f}% apart; "
        f"without pages of files {min(without):.1f} to {max(without):.1f} MiB"
    )
    if spread > FLAT:
        faults.append(f"memory varies by {100 * spread:.1f}%, more than {100 * FLAT:.0f}%")
    for what in ("threads", "handles"):
        before, after = _ends([getattr(sample, what) for sample in warm])
        print(f"{what}: {before} at first, {after} at last")
        if after > before:
            faults.append(f"{what} grow from {before} to {after}")
    return faults


def _stalls(warm: Sequence[UsageSample]) -> list[str]:
    return [
        f"no forecast between {before.seconds:.0f} and {after.seconds:.0f} s"
        for before, after in itertools.pairwise(warm)
        if after.forecasts == before.forecasts
    ]


def _ends(counts: Sequence[int]) -> tuple[int, int]:
    """The typical count in the first and in the last third: a handle that is open for a moment is not growth."""
    third = max(1, len(counts) // 3)
    return statistics.median_high(counts[:third]), statistics.median_low(counts[-third:])
