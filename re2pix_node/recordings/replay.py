"""Runs every frame of a recording through the pipeline, offline. Every run gives the same bytes."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.atomic_write import write_beside
from re2pix_node.common.quiet import Quiet
from re2pix_node.engines.base import Engine
from re2pix_node.errors import EngineError, ImageError, NotFiniteError, Re2pixError
from re2pix_node.imaging.decode import decode
from re2pix_node.pipeline.messages import (
    Circumstances,
    forecast_message,
    header_message,
    image_message,
)
from re2pix_node.pipeline.outputs import IMAGE, output_messages, output_names, recorded_kinds
from re2pix_node.pipeline.pipeline import Forecast, Observation, Pipeline
from re2pix_node.pipeline.preview import Picture, forecast_sheet
from re2pix_node.pipeline.video import VideoWriter, open_video
from re2pix_node.recordings.message_types import bag_types
from re2pix_node.recordings.reader import BagFrame, CameraTopic, Recording, frame_rate, open_recording
from re2pix_node.recordings.writer import BagWriter
from re2pix_node.render.renderer import PictureRenderer

TOPIC = "/re2pix_node/output"


@dataclass(frozen=True)
class Summary:
    """The counts of a finished replay."""

    frames: int
    forecasts: int
    undecodable: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReplayJob:
    """What to replay and what to write."""

    recording: Path
    output: Path
    topic: str | None = None
    kinds: Sequence[str] | None = None  # outputs to write; None: those of the bundle that are usually recorded
    video: Path | None = None
    replace: bool = False


def replay(
    job: ReplayJob,
    bundle: Bundle,
    engine: Engine,
    fit: str | None = None,
    progress: bool = True,
    renderer: PictureRenderer | None = None,
) -> Summary:
    """Write the forecasts of a recording to a rosbag2 MCAP and, on request, a preview video.

    With a renderer, every forecast is drawn at every horizon.
    """
    pipeline = Pipeline(bundle, engine, fit)
    names = output_names(bundle, recorded_kinds(bundle.manifest) if job.kinds is None else job.kinds)
    start = time.perf_counter()
    frames = forecasts = undecodable = 0
    quiet = Quiet()
    without: Counter[str] = Counter()  # frames that led to no forecast, by the reason
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(open_recording(job.recording))
        camera = recording.camera(job.topic)
        writer = stack.enter_context(BagWriter(job.output, job.replace))
        video = stack.enter_context(_video(job, recording, camera)) if job.video else None
        bar = tqdm(recording.frames(camera), "replay", camera.count, unit="frame", disable=not progress)
        for source in stack.enter_context(contextlib.closing(bar)):
            frames += 1
            try:
                picture = decode(source.message)
            except ImageError as error:
                undecodable += 1
                if not quiet("left out"):  # all are counted in the summary
                    bar.write(f"frame {frames} at {source.stamp / NANOSECONDS:.3f} s left out: {error}")
                continue
            observation = pipeline.observe(picture, source.stamp)
            forecast = observation.forecast
            if observation.missing:
                without[observation.missing.value] += 1
            if forecast is not None:
                forecasts += 1
                _write(writer, bundle, engine, forecast, source, names)
                drawn = _drawn(renderer, observation, len(forecast.horizons)) if renderer else {}
                _write_pictures(writer, forecast, source, drawn)
                if video:
                    video.write(forecast_sheet(picture, forecast, bundle.manifest.labels, drawn))
        if not forecasts:
            raise Re2pixError(_why_nothing(job, bundle, frames, without, recording.problem))
    return Summary(frames, forecasts, undecodable, time.perf_counter() - start, _notes(without, recording))


def _write(
    writer: BagWriter, bundle: Bundle, engine: Engine, forecast: Forecast, source: BagFrame, names: Sequence[str]
) -> None:
    types = bag_types()
    made = Circumstances(f"{engine.name} {engine.precision}", source.frame_id)
    # The log time is that of the source frame: played together, a forecast appears with its frame.
    writer.write(f"{TOPIC}/forecast", forecast_message(types, bundle, forecast, names, made), source.received)
    for name, message in output_messages(types, bundle, forecast, names, source.frame_id):
        writer.write(f"{TOPIC}/{name}", message, source.received)


def _drawn(renderer: PictureRenderer, observation: Observation, horizons: int) -> dict[int, Picture]:
    try:
        return {k: renderer.draw(observation.scene(k)) for k in range(1, horizons)}
    except NotFiniteError:  # a node leaves the picture out, a replay has every picture or none
        raise EngineError(
            f"{renderer.name}: render gave a picture with NaN or infinity, of the forecast made at "
            f"{observation.stamp / NANOSECONDS:.3f} s: replay without --render"
        ) from None


def _write_pictures(writer: BagWriter, forecast: Forecast, source: BagFrame, drawn: Mapping[int, Picture]) -> None:
    types = bag_types()
    for k, picture in drawn.items():
        header = header_message(types, forecast.stamp, source.frame_id)
        writer.write(f"{TOPIC}/h{k}/{IMAGE}", image_message(types, picture, header), source.received)


def _why_nothing(job: ReplayJob, bundle: Bundle, frames: int, without: Counter[str], problem: str | None) -> str:
    spec = bundle.manifest.time
    why = ", ".join(f"{count} {what}" for what, count in without.items()) or "none could be decoded"
    return (
        f"{job.recording}: no forecast from {frames} frames ({problem or why}): {bundle.manifest.name} needs "
        f"{spec.context} frames {spec.stride_min:g} to {spec.stride_max:g} s apart, by their header stamps"
    )


def _notes(without: Counter[str], recording: Recording) -> tuple[str, ...]:
    counts = [f"{count} frames without a forecast: {what}" for what, count in sorted(without.items())]
    return (*counts, *([recording.problem] if recording.problem else []))


@contextlib.contextmanager
def _video(job: ReplayJob, recording: Recording, camera: CameraTopic) -> Iterator[VideoWriter]:
    assert job.video is not None
    rate = frame_rate(recording, camera)
    with write_beside(job.video, job.replace) as partial, open_video(partial, rate) as video:
        yield video
