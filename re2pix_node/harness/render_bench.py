"""`re2pix bench-node --render`: do pictures slow down forecasts? Compares both in turns, within one run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.common.percentile import percentile
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.node_harness import PlayedDrive, Rig, node_parameters, running_node
from re2pix_node.pipeline.messages import ns_of, stamp_of
from re2pix_node.pipeline.model_choice import ModelChoice

TURN, DISCARDED = 5.0, 1.0  # s of each turn, and seconds at its start that do not count
FIRST_SECONDS = 120.0  # for the renderer to load and to draw its first picture
WITHIN = 0.1  # maximum share by which the rate and the p99 of forecasts may be worse

Figures = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    drawing: bool
    first: int  # stamps (ns) of frames that count
    last: int

    def holds(self, stamp: int) -> bool:
        return self.first <= stamp < self.last


@dataclass
class AgeListener:
    """ms from image sent to forecast published, by stamp: measured by the node, so our listening does not count."""

    ages: dict[int, float] = field(default_factory=dict)

    def on_forecast(self, message: Any) -> None:
        self.ages[stamp_of(message.header)] = ns_of(message.age) / 1e6


def measure(model: ModelChoice, drive: PlayedDrive, pace: float, render_rate: float, seconds: float) -> Figures:
    """Measure this many seconds of the drive with frames at `pace` (Hz)."""
    bundle = read_bundle(model.bundle)
    if bundle.manifest.render is None:
        raise Re2pixError(f"{bundle.path}: has no render graph: --render measures bundles that have one")
    ear = AgeListener()
    horizons = len(bundle.manifest.time.horizons)
    with running_node("bench", node_parameters(model, drive.camera.type) | {"preview_rate": 0.0}) as rig:
        rig.listen(Forecast, "forecast", ear.on_forecast)
        for k in range(1, horizons + 1):
            rig.listen(Image, f"h{k}/segmentation", lambda mask: None)
            rig.listen(Image, f"h{k}/image", lambda picture: None)
        rig.wait_until_ready()
        words = ("--topic", drive.camera.name, "--rate", pace / drive.rate, "--loop")
        with rig.camera(drive.path, *words) as camera:
            _draw_the_first(rig, render_rate)
            before = _rest(rig)
            turns = _take_turns(rig, render_rate, max(1, round(seconds / TURN / 2)))
            told = _rest(rig)
            sent = camera.sent()
    off, on = (_column([turn for turn in turns if turn.drawing is drawing], sent, ear) for drawing in (False, True))
    counted = ("pictures drawn", "pictures late", "pictures overtaken", "picture errors")
    pictures = {name: int(told[name]) - int(before[name]) for name in counted}
    return {
        "bundle": model.bundle.name,
        "engine": told["engine"],
        "renderer": told["renderer"],
        "camera_hz": pace,
        "render_rate_hz": render_rate,
        "turn_s": TURN,
        "horizons": horizons,
        "off": off,
        "on": on,
        "ratio": {name: on[name] / off[name] for name in ("p50_ms", "p99_ms", "rate_hz")},
        "pictures": pictures,
        "render_p50_ms": float(told["render p50 (ms)"]),
        "render_p99_ms": float(told["render p99 (ms)"]),
        "target": {"worse_by": WITHIN},
        "met": go_unnoticed(off, on, pictures["picture errors"]),
    }


def go_unnoticed(off: Figures, on: Figures, errors: int) -> bool:
    """Return True if forecasts are as good while pictures are drawn as while none are."""
    as_often = on["rate_hz"] >= (1 - WITHIN) * off["rate_hz"]
    as_soon = on["p99_ms"] <= (1 + WITHIN) * off["p99_ms"]
    return bool(as_often and as_soon and errors == 0)


def _draw_the_first(rig: Rig, rate: float) -> None:
    """Wait for the first picture: loading the renderer takes seconds and is not measured."""
    rig.set_parameter("render_rate", rate)

    def count(*names: str) -> int:
        return sum(int(rig.status.get(name, 0)) for name in names)

    drawn = rig.wait(lambda: count("pictures drawn", "pictures late", "picture errors") > 0, FIRST_SECONDS)
    if not drawn or count("picture errors"):
        why = rig.status.get("renderer") or "it is still loading"
        raise Re2pixError(f"no picture within {FIRST_SECONDS:.0f} s ({why}): run re2pix check")


def _rest(rig: Rig) -> dict[str, str]:
    """Stop drawing and return the node's final diagnostics."""
    rig.set_parameter("render_rate", 0.0)
    rig.settle()
    return rig.status


def _take_turns(rig: Rig, rate: float, rounds: int) -> list[Turn]:
    turns = []
    for drawing in (False, True) * rounds:
        rig.set_parameter("render_rate", rate if drawing else 0.0)
        first = time.time_ns() + round(DISCARDED * NANOSECONDS)
        rig.wait(lambda: False, TURN)
        turns.append(Turn(drawing, first, time.time_ns()))
    return turns


def _column(turns: Sequence[Turn], sent: Sequence[int], ear: AgeListener) -> Figures:
    frames = [stamp for stamp in sent if any(turn.holds(stamp) for turn in turns)]
    ages = [ear.ages[stamp] for stamp in frames if stamp in ear.ages]
    if not ages:
        raise Re2pixError("no forecast came back in a turn: does this machine keep up with the camera?")
    return {
        "frames": len(frames),
        "forecasts": len(ages),
        "overtaken_or_lost": len(frames) - len(ages),
        "rate_hz": len(ages) * NANOSECONDS / sum(turn.last - turn.first for turn in turns),
        "p50_ms": percentile(ages, 0.5),
        "p99_ms": percentile(ages, 0.99),
    }


def text(row: Figures) -> str:
    off, on, pictures = row["off"], row["on"], row["pictures"]
    times = f"{row['render_p50_ms']:.0f} ({row['render_p99_ms']:.0f})"
    lost = f"{pictures['picture errors']} errors, {pictures['pictures overtaken']} forecasts overtaken"
    judged = f"rate and p99 within {row['target']['worse_by']:.0%}"
    lines = [
        f"{row['bundle']} on {row['engine']}, camera at {row['camera_hz']:.0f} Hz, {row['horizons']} horizons heard",
        f"pictures by {row['renderer']}, of {row['render_rate_hz']:g} forecasts a second at the most; "
        f"off and on in turns of {row['turn_s']:.0f} s",
        f"  {'':<40} {'off':>9} {'on':>9} {'ratio':>9}",
    ]
    for name, key in (("p50", "p50_ms"), ("p99", "p99_ms")):
        title = f"image sent to forecast published, {name}"
        lines.append(f"  {title:<40} {off[key]:9.1f} {on[key]:9.1f} {row['ratio'][key]:9.2f}")
    lines += [
        f"  {'forecasts a second':<40} {off['rate_hz']:9.2f} {on['rate_hz']:9.2f} {row['ratio']['rate_hz']:9.2f}",
        f"  {'frames':<40} {off['frames']:9} {on['frames']:9}",
        f"  {'overtaken, or lost on the way':<40} {off['overtaken_or_lost']:9} {on['overtaken_or_lost']:9}",
        f"  pictures: {pictures['pictures drawn']} drawn, {pictures['pictures late']} late, {lost}; {times} each",
        f"  {judged:<40} {'PASS' if row['met'] else 'NOT MET'}",
    ]
    return "\n".join(lines)
