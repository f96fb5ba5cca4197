"""Does the node keep up with a camera, and what does ROS add to the pipeline?"""

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.common.child_process import call
from re2pix_node.common.percentile import percentile
from re2pix_node.common.process_usage import usage_of
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.node_harness import PlayedDrive, Rig, node_parameters, running_node
from re2pix_node.harness.pipeline_baseline import DirectRun, measure
from re2pix_node.pipeline.messages import stamp_of
from re2pix_node.pipeline.model_choice import ModelChoice
from re2pix_node.recordings.camera_frames import Form

PACE, TARGET_P99 = 10.0, 120.0  # Hz, and ms from receipt of the image to forecast published
FAST_PACE, TARGET_ADDED = 30.0, 5.0  # Hz, and ms
FULL_HD = Form("bgr8", (1920, 1080))
ROUNDS = 3  # node and bare pipeline take turns, so that a slow moment of the machine affects both
MODEL_STAGES = ("decode", "fit", "encode", "forecast")
STAGES = ("wait", *MODEL_STAGES, "publish")

Figures = dict[str, Any]


@dataclass
class Play:
    """The messages that were sent to the node and received from it."""

    sent: int = 0
    forecasts: int = 0
    seconds: float = 0.0  # of play
    processor: float = 0.0  # processor seconds of the node in that time
    latencies: list[float] = field(default_factory=list)  # ms from image sent to forecast received

    def on_forecast(self, message: Any) -> None:
        self.forecasts += 1
        self.latencies.append((time.time_ns() - stamp_of(message.header)) / 1e6)


def keeping_up(model: ModelChoice, drive: PlayedDrive, seconds: float) -> Figures:
    """Measure the node with the camera as recorded, at 10 Hz."""
    play = Play()
    with running_node("bench", node_parameters(model, drive.camera.type) | {"preview_rate": 0.0}) as rig:
        horizons = len(read_bundle(model.bundle).manifest.time.horizons)
        _listen(rig, play, horizons)
        _play(rig, play, drive, PACE, round(PACE * seconds))
        figures = _figures(rig, play)
    return {
        "bundle": model.bundle.name,
        "rate_hz": PACE,
        "horizons": horizons,
        **figures,
        "target": {"drops": 0, "p99_ms": TARGET_P99},
        "met": keeps_up(figures),
    }


def keeps_up(figures: Figures) -> bool:
    drops = sum(figures[what] for what in ("lost", "overtaken", "skipped", "not_forecast_from", "undecodable"))
    return bool(drops == 0 and figures["p99_ms"] <= TARGET_P99)


def added(model: ModelChoice, drive: PlayedDrive, frames: int) -> Figures:
    """Measure full-HD frames at 30 Hz, through the node and through the pipeline alone in turns."""
    play = Play()
    share = frames // ROUNDS
    direct = DirectRun(
        drive.path, drive.camera.name, FULL_HD, FAST_PACE, share,
        model.bundle, model.engine, model.precision, model.threads, model.fit,
    )  # fmt: skip
    alone: list[float] = []
    with running_node("bench", node_parameters(model, "Image") | {"preview_rate": 0.0}) as rig:
        _listen(rig, play, len(read_bundle(model.bundle).manifest.time.horizons))
        for _ in range(ROUNDS):
            alone += _measure_alone(direct)
            _play(rig, play, drive, FAST_PACE, share, "--size", "1920x1080", "--as", "bgr8")
        figures = _figures(rig, play)
    return {
        "bundle": model.bundle.name,
        "rate_hz": FAST_PACE,
        **figures,
        "alone_p50_ms": 1e3 * statistics.median(alone),
        "alone_p99_ms": 1e3 * percentile(alone, 0.99),
        **what_ros_adds(figures),
    }


def what_ros_adds(figures: Figures) -> Figures:
    """The time of a frame in the node besides the model's work, and whether it is within the target."""
    model_ms = sum(figures["stages_ms"][stage] for stage in MODEL_STAGES)
    added_ms = figures["p50_ms"] - model_ms
    return {
        "model_ms": model_ms,
        "added_ms": added_ms,
        "target": {"lost": 0, "added_ms": TARGET_ADDED},
        "met": figures["lost"] == 0 and added_ms <= TARGET_ADDED,
    }


def _measure_alone(direct: DirectRun) -> list[float]:
    # In its own process, without ROS.
    times = call(measure, direct)
    if not times:
        raise Re2pixError(f"{direct.drive}: {direct.frames} frames at {direct.rate:g} Hz give no forecast: send more")
    return times


def _listen(rig: Rig, play: Play, horizons: int) -> None:
    rig.listen(Forecast, "forecast", play.on_forecast)
    for k in range(1, horizons + 1):
        rig.listen(Image, f"h{k}/segmentation", lambda mask: None)
    rig.wait_until_ready()


def _play(rig: Rig, play: Play, drive: PlayedDrive, rate: float, frames: int, *options: object) -> None:
    """Play the drive once more and add the results."""
    words = ("--topic", drive.camera.name, "--rate", rate / drive.rate, "--frames", frames, "--loop", *options)
    before, start = usage_of(rig.process.pid).processor, time.monotonic()
    with rig.camera(drive.path, *words) as camera:
        camera.finish(2 * frames / rate + 30)
        play.processor += usage_of(rig.process.pid).processor - before
        play.seconds += time.monotonic() - start
        rig.settle()
        play.sent += len(camera.sent())


def _figures(rig: Rig, play: Play) -> Figures:
    told = rig.status
    if not play.latencies:
        raise Re2pixError(f"no forecast came back ({rig.said}): run re2pix doctor")
    return {
        "engine": told["engine"],
        "sent": play.sent,
        "received": int(told["frames received"]),
        "lost": play.sent - int(told["frames received"]),
        "overtaken": int(told["frames overtaken"]),
        "skipped": int(told["frames skipped"]),
        "not_forecast_from": int(told["forecasts skipped"]),
        "undecodable": int(told["frames undecodable"]),
        "without_context": int(told["frames without context"]),
        "forecasts": play.forecasts,
        "p50_ms": float(told["latency p50 (ms)"]),
        "p99_ms": float(told["latency p99 (ms)"]),
        "stages_ms": {stage: float(told[f"{stage} p50 (ms)"]) for stage in STAGES},
        "sent_to_received_p50_ms": percentile(play.latencies, 0.5),
        "sent_to_received_p99_ms": percentile(play.latencies, 0.99),
        "cores": play.processor / play.seconds,
    }


def keeping_up_text(row: Figures) -> str:
    title = f"{row['bundle']} on {row['engine']}, camera at {row['rate_hz']:.0f} Hz, {row['horizons']} horizons heard"
    return _table(title, {**_rows(row), f"no drops, p99 at most {TARGET_P99:.0f}": _judged(row)})


def added_text(row: Figures) -> str:
    title = f"{row['bundle']} on {row['engine']}, 1920x1080 bgr8 at {row['rate_hz']:.0f} Hz, in turns with no ROS"
    alone = f"{row['alone_p50_ms']:.1f} ({row['alone_p99_ms']:.1f})"
    rows = {
        **_rows(row),
        "stages of that": ", ".join(f"{stage} {value:.1f}" for stage, value in row["stages_ms"].items()),
        "pipeline alone": f"{alone}; receipt to published is {row['p50_ms'] / row['alone_p50_ms']:.2f} times that",
        "what ROS adds": f"{row['added_ms']:.1f} to the {row['model_ms']:.1f} of {', '.join(MODEL_STAGES)}",
        f"none lost, at most {TARGET_ADDED:.0f} added": _judged(row),
    }
    return _table(title, rows)


def _rows(row: Figures) -> dict[str, str]:
    end_to_end = f"{row['sent_to_received_p50_ms']:.1f} ({row['sent_to_received_p99_ms']:.1f})"
    return {
        "frames": f"{row['sent']} sent, {row['received']} received, {row['lost']} lost on the way",
        "of those received": f"{row['forecasts']} forecasts, {row['without_context']} without context, "
        f"{row['overtaken']} overtaken, {row['undecodable']} undecodable",
        "left out by plan": f"{row['skipped']} skipped, {row['not_forecast_from']} not forecast from",
        "receipt to published": f"{row['p50_ms']:.1f} ({row['p99_ms']:.1f})",
        "image sent, forecast received": end_to_end,
        "the node takes": f"{row['cores']:.2f} cores",
    }


def _table(title: str, rows: dict[str, str]) -> str:
    return "\n".join([title, *(f"  {name:<32} {value}" for name, value in rows.items())])


def _judged(row: Figures) -> str:
    return "PASS" if row["met"] else "NOT MET"
