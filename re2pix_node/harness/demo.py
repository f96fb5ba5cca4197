"""Plays a drive through the real node over ROS 2, as a camera would, and shows the result as table and pictures."""

import bisect
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.common.atomic_write import write_beside
from re2pix_node.common.percentile import percentile
from re2pix_node.errors import ImageError, Re2pixError
from re2pix_node.harness.demo_video import DemoVideo, Panel, VideoMoment
from re2pix_node.harness.node_harness import READY_SECONDS, node_parameters, running_node
from re2pix_node.imaging.decode import Picture, decode
from re2pix_node.pipeline.messages import mask_of, ns_of, stamp_of
from re2pix_node.pipeline.model_choice import ModelChoice
from re2pix_node.pipeline.preview import cut, moment_caption, save_picture
from re2pix_node.pipeline.video import open_video
from re2pix_node.recordings.reader import CameraTopic, Recording
from re2pix_node.ros.render_worker import LOADING

RENDER_RATE = 10.0  # Hz
HELD = 2 * NANOSECONDS  # how long a drawn picture is shown while there is no newer one
STILL = 2 / 3  # of the drive: there the street moves, and the skill curve has its shape


@dataclass
class Seen:
    """The received messages by stamp, and the stamps of all sent frames."""

    sent: list[int] = field(default_factory=list)
    forecasts: dict[int, tuple[Any, int]] = field(default_factory=dict)  # message and arrival time, ns
    masks: dict[tuple[int, int], Picture] = field(default_factory=dict)  # by stamp and horizon
    drawn: dict[int, Picture] = field(default_factory=dict)  # drawn pictures of the last horizon, by stamp
    status: dict[str, str] = field(default_factory=dict)  # the node's diagnostics at the end

    def on_forecast(self, message: Any) -> None:
        self.forecasts[stamp_of(message.header)] = message, time.time_ns()

    def on_mask(self, k: int, message: Any) -> None:
        self.masks[stamp_of(message.header), k] = mask_of(message)

    def on_picture(self, message: Any) -> None:
        self.drawn[stamp_of(message.header)] = decode(message)

    def latency(self, stamp: int) -> float:
        """ms from sending the image to receiving the forecast: a frame's stamp is the time at which it was sent."""
        return (self.forecasts[stamp][1] - stamp) / 1e6


def count_frames(recording: Recording, camera: CameraTopic, seconds: float) -> int:
    times = (frame.received for frame in recording.frames(camera))
    first = next(times, 0)
    end = first + (seconds or float("inf")) * NANOSECONDS
    return sum(1 for _ in itertools.takewhile(lambda received: received <= end, itertools.chain([first], times)))


def play(model: ModelChoice, drive: Path, camera: CameraTopic, frames: int, seconds: float) -> Seen:
    """Play this many frames of the drive through the real node."""
    bundle = read_bundle(model.bundle)
    seen = Seen()
    draws, last = bundle.manifest.render is not None, len(bundle.manifest.time.horizons)
    drawing = {"render_rate": RENDER_RATE} if draws else {}
    with running_node("demo", node_parameters(model, camera.type) | drawing) as rig:
        rig.listen(Forecast, "forecast", seen.on_forecast)
        for k in range(last + 1):
            rig.listen(Image, f"h{k}/segmentation", partial(seen.on_mask, k))
        if draws:
            rig.listen(Image, f"h{last}/image", seen.on_picture)
        rig.wait_until_ready()
        if draws:  # wait for the renderer, because a drive is short
            rig.wait(lambda: rig.status["renderer"] not in ("", LOADING), READY_SECONDS)
        with rig.camera(drive, "--topic", camera.name, "--frames", frames) as player:
            player.finish(2 * seconds + 30)
            rig.settle()
            seen.sent = player.sent()
        seen.status = rig.status
        if not seen.forecasts:
            raise Re2pixError(f"no forecast came back ({rig.said}): run re2pix doctor, and re2pix check {bundle.path}")
    return seen


def table(seen: Seen) -> str:
    told = seen.status
    stamps = sorted(seen.forecasts)
    latencies = [seen.latency(stamp) for stamp in stamps]
    seconds = (stamps[-1] - stamps[0]) / NANOSECONDS or 1.0
    lost = len(seen.sent) - int(told["frames received"])
    skipped = f"{told['frames skipped']} skipped, {told['forecasts skipped']} not forecast from"
    overtaken, undecodable = told["frames overtaken"], told["frames undecodable"]
    inside = f"{told.get('latency p50 (ms)', '?')} / {told.get('latency p99 (ms)', '?')} ms"
    rows = {
        "engine": told["engine"],
        "frames in": f"{len(seen.sent)} sent, {told['frames received']} received",
        "forecasts out": f"{len(stamps)} ({told['frames without context']} frames had no context yet)",
        "rate": f"{(len(stamps) - 1) / seconds:.1f} Hz",
        "latency p50": f"{percentile(latencies, 0.5):.1f} ms from sending the image to receiving the forecast",
        "latency p99": f"{percentile(latencies, 0.99):.1f} ms",
        "in the node": f"{inside} (p50 / p99) from receipt of the image to forecast published",
        "drops": f"{overtaken} overtaken, {skipped}, {lost} lost on the way, {undecodable} undecodable",
        "skill": _skill_text([message for message, _ in seen.forecasts.values()]),
    }
    if told["renderer"]:
        counts = f"{told['pictures drawn']} drawn, {told['pictures late']} late, {told['picture errors']} errors"
        rows["pictures"] = f"{counts}, {told.get('render p50 (ms)', '?')} ms each (p50): {told['renderer']}"
    return "\n".join(f"  {name:<14} {value}" for name, value in rows.items())


def _skill_text(forecasts: list[Any]) -> str:
    """The median over the drive for each horizon."""
    parts = []
    for k, horizon in enumerate(_horizons(forecasts), start=1):
        measured = [message.skill[k] for message in forecasts if math.isfinite(message.skill[k])]
        skill = f"{statistics.median(measured):+.2f}" if measured else "not measured"
        parts.append(f"{skill} {horizon} ahead")
    return ", ".join(parts) + " (live, median; 0: no better than assuming that nothing changes)"


def _horizons(forecasts: list[Any]) -> list[str]:
    """Names of the horizons after the first. They depend on the spacing of frames, which may change."""
    count = len(forecasts[0].horizons)
    medians = (statistics.median(ns_of(message.horizons[k]) for message in forecasts) for k in range(1, count))
    return [f"{horizon / NANOSECONDS:.2f} s" for horizon in medians]


def write_pictures(
    out: Path, bundle: Bundle, seen: Seen, recording: Recording, camera: CameraTopic, rate: float
) -> None:
    video_path, still_path = out / "demo.webm", out / "demo.png"
    stamps = sorted(seen.forecasts)
    forecasts = [seen.forecasts[stamp][0] for stamp in stamps]
    shape = forecasts[0].region.height / forecasts[0].region.width
    moments = [_moment(seen, stamp) for stamp in stamps]
    drawing = DemoVideo(bundle.manifest.labels, _horizons(forecasts), moments, shape, pictures=bool(seen.drawn))
    footage = _Footage(recording, camera, drawing)
    with write_beside(video_path, replace=True) as partial_path, open_video(partial_path, rate) as video:
        for i, stamp in enumerate(stamps):
            shown = _drawn_before(seen, stamp)
            footage.forget_before(seen.sent.index(stamp if shown is None else shown))
            below = [] if shown is None else _panels_of_picture(seen, footage, shown, drawing)
            sheet = drawing.draw(i, _panels(seen, footage, stamp), _notes(seen, stamp), below)
            for _ in range(_shown_for(seen, stamps, i)):
                video.write(sheet)
            if i == round((len(stamps) - 1) * STILL):
                save_picture(still_path, sheet)
    print(f"still {still_path}")
    print(f"video {video_path}")


def _shown_for(seen: Seen, stamps: list[int], i: int) -> int:
    """For how many camera frames each forecast is the newest: the video runs at the camera's rate."""
    after = seen.sent.index(stamps[i + 1]) if i + 1 < len(stamps) else len(seen.sent)
    return after - seen.sent.index(stamps[i])


def _moment(seen: Seen, stamp: int) -> VideoMoment:
    message, _ = seen.forecasts[stamp]
    return VideoMoment((stamp - seen.sent[0]) / NANOSECONDS, tuple(message.skill)[1:], seen.latency(stamp))


def _panels(seen: Seen, footage: "_Footage", stamp: int) -> list[Panel]:
    """The camera, the masks of now, and each forecast over the frame that the camera later saw at that moment."""
    message, _ = seen.forecasts[stamp]
    now = seen.sent.index(stamp)
    panels = [Panel("camera", footage.picture(now, message.region))]
    spacing = ns_of(message.spacing)
    for k, predicted in enumerate(message.predicted_stamps):
        moment = ns_of(predicted)
        i = _nearest(seen.sent, moment)
        came = abs(seen.sent[i] - moment) < spacing // 2
        caption = f"{_caption(message, k)}{', over the true frame' if k and came else ''}"
        panels.append(Panel(caption, footage.picture(i, message.region) if came else None, seen.masks.get((stamp, k))))
    return panels


def _drawn_before(seen: Seen, stamp: int) -> int | None:
    """The newest recent forecast that has a drawn picture: not every forecast has one."""
    return max((at for at in seen.drawn if stamp - HELD < at <= stamp and at in seen.forecasts), default=None)


def _panels_of_picture(seen: Seen, footage: "_Footage", stamp: int, drawing: DemoVideo) -> list[Panel]:
    """A forecast's newest frame, the frame that came at its last horizon, and the picture drawn for that moment."""
    message, _ = seen.forecasts[stamp]
    moment = ns_of(message.predicted_stamps[-1])
    now, then = (f"{(at - seen.sent[0]) / NANOSECONDS:.2f} s" for at in (stamp, moment))
    panels = [Panel(f"camera at {now}", footage.picture(seen.sent.index(stamp), message.region))]
    i = _nearest(seen.sent, moment)
    came = abs(seen.sent[i] - moment) < ns_of(message.spacing) // 2
    panels.append(Panel(f"camera at {then}", footage.picture(i, message.region) if came else None))
    panels.append(Panel(f"drawn at {now}: expected at {then}", drawing.shrink(seen.drawn[stamp])))
    return panels


def _notes(seen: Seen, stamp: int) -> list[str]:
    message, _ = seen.forecasts[stamp]
    spacing = ns_of(message.spacing) / NANOSECONDS
    return [f"{message.bundle} {message.bundle_version} on {message.engine}", f"looks at frames {spacing:.3f} s apart"]


def _caption(message: Any, k: int) -> str:
    return moment_caption(ns_of(message.horizons[k]))


def _nearest(stamps: list[int], stamp: int) -> int:
    """The index of the nearest stamp."""
    i = bisect.bisect_left(stamps, stamp)
    if i in (0, len(stamps)):
        return min(i, len(stamps) - 1)
    return i if stamps[i] - stamp < stamp - stamps[i - 1] else i - 1


class _Footage:
    """The sent pictures by their number, read once from start to end; only a few are held."""

    def __init__(self, recording: Recording, camera: CameraTopic, drawing: DemoVideo) -> None:
        self._pictures: Iterator[Picture | None] = (_decoded(frame.message) for frame in recording.frames(camera))
        self._held: dict[int, Picture | None] = {}
        self._read = 0
        self._drawing = drawing

    def picture(self, i: int, region: Any) -> Picture | None:
        """The region of a picture; None if the picture cannot be decoded."""
        while self._read <= i:
            picture = next(self._pictures)
            covered = None if picture is None else cut(picture, region.x, region.y, region.width, region.height)
            self._held[self._read] = None if covered is None else self._drawing.shrink(covered)
            self._read += 1
        return self._held[i]

    def forget_before(self, i: int) -> None:
        for old in [held for held in self._held if held < i]:
            del self._held[old]


def _decoded(message: Any) -> Picture | None:
    try:
        return decode(message)
    except ImageError:
        return None
