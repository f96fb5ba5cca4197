"""`re2pix bench-node`: does the node keep up with a camera, and how much time does ROS add to the pipeline?"""

import argparse
import dataclasses
import json
import platform
from pathlib import Path

from re2pix_node.bundle.locate import bundle_folder
from re2pix_node.commands.arguments import add_bundle_arguments, model_choice
from re2pix_node.common.atomic_write import require_place, write_beside
from re2pix_node.common.cpu import cpu_model
from re2pix_node.errors import Re2pixError
from re2pix_node.harness import render_bench
from re2pix_node.harness.node_bench import FAST_PACE, PACE, ROUNDS, added, added_text, keeping_up, keeping_up_text
from re2pix_node.harness.node_harness import PlayedDrive
from re2pix_node.recordings.reader import frame_rate, open_recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_arguments(parser)
    parser.add_argument("--drive", type=Path, required=True, help="a recording with a camera topic")
    parser.add_argument("--topic", help="the camera topic, if the recording has several")
    parser.add_argument(
        "--fast",
        type=bundle_folder,
        metavar="B",
        help=f"a bundle that keeps up with {FAST_PACE:.0f} Hz here, to see what ROS adds (default: as --bundle)",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help=f"at {PACE:.0f} Hz (default: 60)")
    parser.add_argument("--frames", type=int, default=900, help=f"at {FAST_PACE:.0f} Hz (default: 900)")
    parser.add_argument(
        "--render",
        type=float,
        metavar="HZ",
        help="instead measure the effect of drawing pictures of N forecasts a second on the forecasts: off and on in "
        f"turns for --seconds, at {PACE:.0f} Hz",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def run(options: argparse.Namespace) -> int:
    if options.seconds <= 0 or options.frames < ROUNDS:
        raise Re2pixError(f"--seconds must be above 0 and --frames at least {ROUNDS}")
    if options.render is not None and not 0 < options.render <= 60:
        raise Re2pixError(f"--render must lie above 0 and up to 60 Hz, is {options.render:g}")
    if options.json:
        require_place(options.json)
    model = model_choice(options)
    with open_recording(options.drive) as recording:
        camera = recording.camera(options.topic)
        drive = PlayedDrive(options.drive, camera, frame_rate(recording, camera))
    print(f"{cpu_model()}; milliseconds, median (p99)", flush=True)
    rows = {}
    if options.render:
        rows["rendering"] = render_bench.measure(model, drive, PACE, options.render, options.seconds)
        print(render_bench.text(rows["rendering"]))
    else:
        rows["keeping_up"] = keeping_up(model, drive, options.seconds)
        print(keeping_up_text(rows["keeping_up"]), flush=True)
        fast = dataclasses.replace(model, bundle=options.fast or options.bundle)
        rows["ros"] = added(fast, drive, options.frames)
        print(added_text(rows["ros"]))
    if options.json:
        figures = {"cpu": cpu_model(), "system": platform.platform(), **rows}
        with write_beside(options.json, replace=True) as partial:
            partial.write_text(json.dumps(figures, indent=1) + "\n")
        print(options.json)
    return 0
