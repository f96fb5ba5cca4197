"""An engine from outside: one file and one registry line, and everything that names engines knows it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import registry
from tests.support.ros_node import ROOT

ABACUS = """
import dataclasses

from re2pix_node.engines import onnxruntime
from re2pix_node.engines.base import load_host_engine
from re2pix_node.engines.registry import EngineEntry, register

def load(bundle, precision, threads):
    def load_graph(data):
        return onnxruntime.load_graph(data, precision, threads)

    return load_host_engine("abacus", precision, "1.0", bundle, load_graph)

RUNTIME = dataclasses.replace(onnxruntime.RUNTIME, name="abacus", version=lambda: "1.0", load=load)
__version__ = "1.0"

register(EngineEntry("abacus", __name__, "for those who have time"))
"""

# What a user sees in a process where it has been imported.
LOOK = """
import argparse, contextlib, io, json, pathlib, sys

import abacus

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.commands import check, doctor, replay
from re2pix_node.engines.session import open_engine
from re2pix_node.ros.parameters import complaint, page, parameters

bundle = pathlib.Path(sys.argv[1])
parser = argparse.ArgumentParser()
replay.add_arguments(parser)
checked = io.StringIO()
with contextlib.redirect_stdout(checked):
    check.run(argparse.Namespace(bundle=bundle, threads=1))
parameter = next(parameter for parameter in parameters() if parameter.name == "engine")
print(json.dumps({
    "auto": open_engine(read_bundle(bundle))[0].name,
    "parameter": complaint(parameter, "abacus"),
    "page": page(),
    "help": " ".join(parser.format_help().split()),
    "check": checked.getvalue(),
    "doctor": [f"{finding.topic} {finding.found}" for finding in doctor.run_doctor()],
}))
"""


def test_an_engine_from_outside_is_one_file_and_one_line(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "abacus.py").write_text(ABACUS)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", LOOK, str(tiny.path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout.splitlines()[-1])
    assert seen["auto"] == "abacus"
    assert seen["parameter"] is None
    assert "one of auto, abacus, tensorrt, openvino, onnxruntime" in seen["page"]
    assert "--engine ENGINE auto (default), abacus, tensorrt, openvino or onnxruntime" in seen["help"]
    assert "abacus fp32: proved" in seen["check"]
    assert "abacus 1.0" in seen["doctor"]


def test_two_engines_do_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="there is an engine 'openvino' already"):
        registry.register(registry.EngineEntry("openvino", "elsewhere", "for no one"))


def test_every_engine_is_called_what_its_entry_says() -> None:
    assert [entry.name for entry in registry.entries()] == [runtime.name for runtime in registry.runtimes()]
