import os
import threading
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.common import decoder_stderr
from re2pix_node.common.decoder_stderr import decoders_quiet, stderr_in_place
from re2pix_node.common.quiet import Quiet
from re2pix_node.errors import ImageError
from re2pix_node.imaging.decode import decode_compressed
from tests.imaging.test_compressed_images import compressed


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_stderr, "_quiet", Quiet())


def damaged(kind: str) -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = bytearray(cv2.imencode(kind, picture)[1].tobytes())
    data[700:760] = bytes(range(60))
    return bytes(data)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_damaged_images_say_one_line(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    message = compressed(damaged(kind))
    for _ in range(20):
        with nullcontext() if kind == ".jpg" else pytest.raises(ImageError):
            decode_compressed(message)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "Corrupt JPEG data" in said or "libpng error" in said


def test_lines_of_others_come_all_and_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        with decoders_quiet():
            os.write(2, f"[INFO] [node]: line {i}\nlibpng warning: odd\nTraceback {i}".encode())
        os.write(2, b"\n")
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "libpng" not in line] == [
        text.format(i) for i in range(3) for text in ("[INFO] [node]: line {}", "Traceback {}")
    ]
    assert sum("libpng" in line for line in lines) == 1


def test_stderr_comes_back_after_an_error_and_is_in_place_for_processes(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in range(200):
            with pytest.raises(ValueError, match="odd"), decoders_quiet():
                raise ValueError("odd")

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        with stderr_in_place():
            assert "re2pix" not in str(Path("/proc/self/fd/2").readlink())
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"


def test_a_process_without_stderr_decodes_as_well() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with decoders_quiet():
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)
