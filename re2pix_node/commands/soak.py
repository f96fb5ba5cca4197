"""`re2pix soak`: runs the node for hours on a looping drive: its resources must not grow, no stamp may be wrong."""

import argparse
from pathlib import Path

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.commands.arguments import add_bundle_arguments, model_choice
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.soak import verdict, watch_node
from re2pix_node.recordings.reader import frame_rate, open_recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_arguments(parser)
    parser.add_argument("--drive", type=Path, required=True, help="a recording with a camera topic; it is looped")
    parser.add_argument("--topic", help="the camera topic, if the recording has several")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (default: an hour)")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second (default: 10)")
    parser.add_argument("--log", type=Path, metavar="CSV", help="also write every sample to this file, as it is taken")


def run(options: argparse.Namespace) -> int:
    if not (options.seconds > 0 and options.rate > 0):
        raise Re2pixError(f"--seconds and --rate must be above 0, are {options.seconds:g} and {options.rate:g}")
    read_bundle(options.bundle)  # report a fault of the bundle before anything starts
    with open_recording(options.drive) as recording:
        topic = recording.camera(options.topic)
        speed = options.rate / frame_rate(recording, topic)
    done = watch_node(model_choice(options), options.drive, topic, speed, options.seconds, options.log)
    status = done.status
    print(f"frames: {done.sent} sent, {status['frames received']} received, {status['frames overtaken']} overtaken")
    faults = verdict(done.samples, done.wrong, options.seconds)
    for fault in faults:
        print(f"soak: {fault}")
    print("soak: " + ("failed" if faults else "passed"))
    return 1 if faults else 0
