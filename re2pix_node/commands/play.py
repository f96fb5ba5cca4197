"""`re2pix play`: publishes one camera of a recording on a ROS topic in real time, as a camera would."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from re2pix_node.common.wording import printable
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.player import Pace, Player, end_on_signals, open_lines
from re2pix_node.recordings.camera_frames import ENCODINGS, CameraFrames, Form, parse_size
from re2pix_node.recordings.reader import open_recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, help="a rosbag2 folder (MCAP or sqlite3) or an .mcap file")
    parser.add_argument("--topic", help="the camera topic, if the recording has several")
    parser.add_argument("--to", metavar="TOPIC", help="the topic to publish on (default: as recorded)")
    parser.add_argument("--rate", type=float, default=1.0, help="2 plays twice as fast (default: 1, real time)")
    parser.add_argument("--as", dest="encoding", choices=ENCODINGS, help="convert frames (default: as recorded)")
    parser.add_argument("--size", type=parse_size, metavar="WxH", help="resize frames (default: as recorded)")
    parser.add_argument("--frames", type=int, default=0, help="stop after this many frames (0: at the end)")
    parser.add_argument("--loop", action="store_true", help="start again at the end; recorded stamps then jump back")
    parser.add_argument("--restamp", action="store_true", help="stamp frames with the time at which they are sent")
    parser.add_argument("--clock", action="store_true", help="publish /clock, for nodes with use_sim_time")
    parser.add_argument("--wait", action="store_true", help="start when a subscriber appears")
    parser.add_argument("--stamps", type=Path, metavar="FILE", help="write the sent stamps (ns), one per line")


def run(options: argparse.Namespace) -> int:
    if not options.rate > 0:
        raise Re2pixError(f"--rate must be above 0, is {options.rate:g}")
    if options.frames < 0:
        raise Re2pixError(f"--frames must be 0, for all of them, or more, is {options.frames}")
    if options.clock and options.restamp:
        raise Re2pixError("--clock publishes the time of the recording, --restamp uses the present: choose one of them")
    end_on_signals()
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(open_recording(options.recording))
        camera = recording.camera(options.topic)
        form = Form(options.encoding, options.size)
        stamps = stack.enter_context(open_lines(options.stamps)) if options.stamps else None
        frames = CameraFrames(recording, camera, form)
        pace = Pace(options.rate, options.frames, options.loop, options.restamp, options.clock, options.wait)
        player = stack.enter_context(Player(form.message_type(camera), options.to or camera.name, pace, stamps))
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end --loop
            player.play(frames)
    if recording.problem:
        print(f"re2pix play: {printable(recording.problem)}", file=sys.stderr)
    print(json.dumps({"frames": player.sent, "undecodable": frames.undecodable, "late_s": round(player.late, 3)}))
    return 0
