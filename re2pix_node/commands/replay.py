"""`re2pix replay`: runs a recording through the pipeline into a bag of forecasts."""

import argparse
import sys
from pathlib import Path

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.commands.arguments import add_bundle_arguments
from re2pix_node.common.atomic_write import require_place
from re2pix_node.common.wording import printable
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import Re2pixError
from re2pix_node.pipeline.outputs import output_names, published_kinds
from re2pix_node.recordings.replay import ReplayJob, replay
from re2pix_node.render.renderer import PictureRenderer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recording", type=Path, metavar="IN", help="a rosbag2 folder (MCAP or sqlite3) or an .mcap file"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the rosbag2 folder to write")
    add_bundle_arguments(parser)
    parser.add_argument("--topic", help="the camera topic, if the recording has several")
    parser.add_argument(
        "--outputs",
        help=f"any of {', '.join(published_kinds())} (default: those of the bundle, without features)",
    )
    parser.add_argument("--render", action="store_true", help="also draw each forecast: a picture at every horizon")
    parser.add_argument("--video", type=Path, help="also write a preview video (.webm or .mp4)")
    parser.add_argument("--force", action="store_true", help="replace OUT and the video if they exist")


def run(options: argparse.Namespace) -> int:
    kinds = None if options.outputs is None else [kind.strip() for kind in options.outputs.split(",")]
    for kind in kinds or ():
        if kind not in published_kinds():
            raise Re2pixError(f"there is no output '{kind}': choose from {', '.join(published_kinds())}")
    for path in filter(None, (options.output, options.video)):
        require_place(path, options.force)
    bundle = read_bundle(options.bundle)
    for kind in kinds or ():
        if not output_names(bundle, [kind]):
            raise Re2pixError(f"{bundle.manifest.name} does not give the output '{kind}': leave it out")
    engine, _ = open_engine(bundle, options.engine, options.precision, options.threads)
    renderer = PictureRenderer(bundle, options.threads) if options.render else None
    job = ReplayJob(options.recording, options.output, options.topic, kinds, options.video, options.force)
    done = replay(job, bundle, engine, options.fit, progress=sys.stderr.isatty(), renderer=renderer)
    for note in done.notes:
        print(f"re2pix replay: {printable(note)}", file=sys.stderr)
    rate = done.frames / done.seconds
    print(
        f"{done.frames} frames, {done.forecasts} forecasts, {done.undecodable} undecodable; {rate:.1f} frames a second"
    )
    print(f"engine {engine.name} {engine.precision}{f', pictures by {renderer.name}' if renderer else ''}")
    for written in filter(None, (options.video, options.output)):
        print(written)
    return 0
