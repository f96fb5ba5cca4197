"""OpenVINO looks up no host, starts no process and writes nothing into the home folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import probes

ROOT = Path(__file__).resolve().parents[2]
CI = ("CI", "TF_BUILD", "JENKINS_URL")  # where OpenVINO sees one of these, it sends nothing anyway
# Reports, on the last line, each event of Python that reaches for the network, another process, or the home folder.
TRACER = """
import atexit, json, os, sys
NETWORK = ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "http.client.connect", "urllib.Request")
PROCESSES = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen")
seen = []
def look(event, words):
    at_home = event in ("open", "os.mkdir") and os.environ["HOME"] in str(words[0])
    if event in NETWORK or event in PROCESSES or at_home:
        seen.append(f"{event} {words}")
sys.addaudithook(look)
atexit.register(lambda: print("\\n" + json.dumps(seen)))
"""
NODE = """
import rclpy
rclpy.init(args=["--ros-args", "-p", "autostart:=false", "-p", "engine:=openvino", "-p", f"bundle:={sys.argv[1]}"])
from re2pix_node.ros.node import Re2pixNode
node = Re2pixNode()
node.trigger_configure()
assert node._state == "inactive"
assert "openvino_telemetry" in sys.modules
assert node.stop()
node.destroy_node()
rclpy.shutdown()
"""
REPLAY = """
from re2pix_node.cli import main
words = ["replay", sys.argv[2], "-o", sys.argv[3], "--bundle", sys.argv[1], "--engine", "openvino"]
assert main(words) == 0
assert "openvino_telemetry" in sys.modules
"""
TRAINING = """
from re2pix_node.training.frame_encoder import openvino
openvino.load_graph(open(f"{sys.argv[1]}/encode.onnx", "rb").read(), "fp32", 2)
assert "openvino_telemetry" in sys.modules
"""


@pytest.mark.parametrize("code", [NODE, REPLAY, TRAINING, probes.OPENVINO], ids=["node", "replay", "train", "doctor"])
def test_nothing_is_told(code: str, tiny: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in CI}
    path = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
    words = map(str, [tiny.path, drive_bag, tmp_path / "out"])
    done = subprocess.run(
        [sys.executable, "-c", TRACER + code, *words],
        env={**kept, "HOME": str(home), "ROS_LOG_DIR": str(tmp_path), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert not list(home.iterdir())
