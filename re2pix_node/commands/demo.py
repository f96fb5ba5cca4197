"""`re2pix demo`: plays a drive through the real node over ROS 2, as a camera would, and shows the result."""

import argparse
from pathlib import Path

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.commands.arguments import add_bundle_arguments, model_choice
from re2pix_node.common.atomic_write import require_place
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.demo import count_frames, play, table, write_pictures
from re2pix_node.recordings.reader import frame_rate, open_recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_arguments(parser)
    parser.add_argument("--drive", type=Path, required=True, help="a recording with a camera topic")
    parser.add_argument("--topic", help="the camera topic, if the recording has several")
    parser.add_argument("--out", type=Path, default=Path("re2pix-demo"), help="folder for the video and the still")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the drive to play (default: 60; 0: all)")


def run(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    require_place(options.out / "demo.webm")
    bundle = read_bundle(options.bundle)
    with open_recording(options.drive) as recording:
        camera = recording.camera(options.topic)
        rate = frame_rate(recording, camera)
        frames = count_frames(recording, camera, options.seconds)
        if frames < 2:
            raise Re2pixError(f"{options.drive}: has {frames} frames, a demo needs a drive of some seconds")
        print(f"playing {frames} frames of {options.drive} at {rate:.1f} Hz through the node", flush=True)
        seen = play(model_choice(options), options.drive, camera, frames, frames / rate)
        print(f"{table(seen)}\ndrawing the video", flush=True)
        write_pictures(options.out, bundle, seen, recording, camera, rate)
    return 0
