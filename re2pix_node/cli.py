"""The `re2pix` command."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from re2pix_node import __version__
from re2pix_node.common.address_space import require_address_space
from re2pix_node.common.ending import DEBUG, AskedToEndError, report, stopped_by_signals
from re2pix_node.common.wording import PrintableStream, printable
from re2pix_node.errors import BAD_INPUT, Re2pixError

# Each module has add_arguments(parser) and run(options) -> exit code. Only the requested one is imported, so that
# `re2pix doctor` runs where the requirements of the others are missing.
COMMANDS = {
    "demo": ("re2pix_node.commands.demo", "play a drive through the real node over ROS 2, and show the result"),
    "play": ("re2pix_node.commands.play", "publish a camera of a recording on a ROS topic, as a camera would"),
    "replay": ("re2pix_node.commands.replay", "run every frame of a recording, offline, into a bag of forecasts"),
    "build": ("re2pix_node.commands.build", "build a bundle's engines for a GPU ahead of time"),
    "check": ("re2pix_node.commands.check", "check a bundle, and prove every engine of this machine against it"),
    "bench": ("re2pix_node.commands.bench", "time a bundle on every engine of this machine"),
    "bench-node": (
        "re2pix_node.commands.bench_node",
        "time the real node over ROS 2, and the time that ROS adds to the pipeline",
    ),
    "soak": (
        "re2pix_node.commands.soak",
        "run the real node for hours, and watch its memory, threads, handles and stamps",
    ),
    "simulate": ("re2pix_node.commands.simulate", "record drives through made-up streets, with exact labels"),
    "evaluate": ("re2pix_node.commands.evaluate", "score a bundle against baselines, on footage with a known future"),
    "evaluate-pictures": ("re2pix_node.commands.evaluate_pictures", "score the pictures of a trained run"),
    "import": ("re2pix_node.commands.import_checkpoint", "turn a published checkpoint into a bundle"),
    "pack": ("re2pix_node.commands.pack", "write what a training on another machine needs into one folder"),
    "train": ("re2pix_node.commands.train", "learn features, a head or a forecaster from footage"),
    "export": ("re2pix_node.commands.export", "make a bundle of a trained run"),
    "doctor": ("re2pix_node.commands.doctor", "list what this machine can run, what is missing, and how to add it"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. A fault in its input gives one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--debug"]:
        os.environ[DEBUG] = "1"
        words = words[1:]
    command = words[0] if words else ""
    try:
        with stopped_by_signals(), contextlib.redirect_stdout(PrintableStream(sys.stdout)):
            if command != "doctor":  # which says what is wrong with this machine
                require_address_space()
            options = _parser(command).parse_args(words)
            code = int(options.run(options))
            sys.stdout.flush()
            return code
    except Re2pixError as error:
        print(f"re2pix {command}: {printable(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        print(f"re2pix {command}: needs {error.name}, which is not installed: run re2pix doctor", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        print(f"re2pix {command}: stopped", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, AskedToEndError) else signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has closed it, as `head` does. Buffered output must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return report(f"re2pix {command}", error)


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("re2pix", description="Forecasts what a vehicle's camera is about to see.")
    parser.add_argument("--debug", action="store_true", help="show tracebacks; the first word")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == asked:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
