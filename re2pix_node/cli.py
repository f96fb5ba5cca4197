"""The `re2pix` command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from re2pix_node import __version__
from re2pix_node.errors import Re2pixError

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; what is wrong with its input is one line and exit code 2."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        code = run(options)
        sys.stdout.flush()
        return code
    except Re2pixError as error:
        print(f"re2pix {options.command}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"re2pix {options.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left, as `head` does. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("re2pix", description="Forecasts what a vehicle's camera is about to see.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="play a drive through the real node over ROS 2, and show what comes back")
    _add_bundle(demo)
    demo.add_argument("--drive", type=Path, required=True, help="a recording with a camera topic")
    demo.add_argument("--out", type=Path, default=Path("re2pix-demo"), help="folder for the video and the still")
    demo.add_argument("--seconds", type=float, default=0.0, help="play only so much of the drive (0: all of it)")
    demo.set_defaults(run=_demo)

    replay = commands.add_parser("replay", help="run every frame of a recording, offline, into a bag of forecasts")
    replay.add_argument(
        "recording", type=Path, metavar="IN", help="a rosbag2 folder (MCAP or sqlite3) or an .mcap file"
    )
    replay.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the rosbag2 folder to write")
    _add_bundle(replay)
    replay.add_argument("--topic", help="the camera topic, where the recording has several")
    replay.add_argument("--outputs", default="segmentation,confidence", help="of segmentation, confidence, features")
    replay.add_argument("--video", type=Path, help="also write a preview video (.webm or .mp4)")
    replay.add_argument("--force", action="store_true", help="replace OUT and the video where they exist")
    replay.set_defaults(run=_replay)

    check = commands.add_parser("check", help="check a bundle and prove every engine of this machine against it")
    check.add_argument("bundle", type=Path)
    check.add_argument("--threads", type=int, default=0, help="threads of an engine (0: every core)")
    check.set_defaults(run=_check)

    bench = commands.add_parser("bench", help="time a bundle on every engine of this machine")
    bench.add_argument("--bundle", type=Path, required=True)
    bench.add_argument("--threads", type=int, default=0, help="threads of an engine (0: every core)")
    bench.add_argument("--runs", type=int, default=100, help="measured runs of each graph")
    bench.add_argument("--json", type=Path, help="also write the figures to this file")
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser("doctor", help="what this machine can run, what is missing, and how to add it")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="the folder of a model bundle")
    parser.add_argument("--engine", default="auto", help="auto (default), openvino or onnxruntime")
    parser.add_argument("--precision", default="auto", help="auto (default), bf16 or fp32")
    parser.add_argument("--threads", type=int, default=0, help="threads of the engine (0: every core)")
    parser.add_argument("--fit", help="crop, stretch or pad frames to fit the model (default: as the bundle says)")


# The commands import what they need, and nothing of it is imported above: `re2pix doctor` runs where half is missing.


def _demo(options: argparse.Namespace) -> int:
    from re2pix_node.demo import run_demo

    return run_demo(options)


def _replay(options: argparse.Namespace) -> int:
    from re2pix_node.bundle import read_bundle
    from re2pix_node.engines import open_engine
    from re2pix_node.messages import KINDS
    from re2pix_node.replay import Job, replay

    kinds = [kind.strip() for kind in options.outputs.split(",")]
    for kind in kinds:
        if kind not in KINDS:
            raise Re2pixError(f"there is no output '{kind}': choose of {', '.join(KINDS)}")
    bundle = read_bundle(options.bundle)
    engine, _ = open_engine(bundle, options.engine, options.precision, options.threads)
    job = Job(options.recording, options.output, options.topic, kinds, options.video, options.force)
    done = replay(job, bundle, engine, options.fit, progress=sys.stderr.isatty())
    for note in done.notes:
        print(f"re2pix replay: {note}", file=sys.stderr)
    rate = done.frames / done.seconds
    print(
        f"{done.frames} frames, {done.forecasts} forecasts, {done.undecodable} undecodable; {rate:.1f} frames a second"
    )
    print(f"engine {engine.name} {engine.precision}")
    for written in filter(None, (options.video, options.output)):
        print(written)
    return 0


def _check(options: argparse.Namespace) -> int:
    from re2pix_node.check import run_check

    return run_check(options.bundle, options.threads)


def _bench(options: argparse.Namespace) -> int:
    from re2pix_node.bench import run_bench

    return run_bench(options.bundle, options.threads, options.runs, options.json)


def _doctor(options: argparse.Namespace) -> int:
    from re2pix_node.doctor import main as doctor

    return doctor()


if __name__ == "__main__":
    sys.exit(main())
