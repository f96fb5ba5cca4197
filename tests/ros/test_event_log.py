"""Lines of the log: each kind of fault once in a while, and again in the next state."""

from re2pix_node.pipeline.buffer import Arrival
from re2pix_node.pipeline.events import Counted, EngineServes, FrameFailed, FramesChanged, StampBroke, StateEntered
from re2pix_node.ros.event_log import EventLog


class Lines(list[str]):
    """A logger whose lines are kept."""

    info = warning = error = list.append


def test_a_kind_of_fault_is_told_once_in_a_while_and_silences_no_other() -> None:
    lines = Lines()
    log = EventLog(lines)
    for _ in range(3):
        log.take(FrameFailed("undecodable", "the JPEG is cut short"))
        log.take(FrameFailed("not finite", "the encoder gave NaN"))
        log.take(StampBroke(10**9, Arrival.JUMPED_BACK))
        log.take(Counted("frames undecodable"))
    assert lines[:2] == ["the JPEG is cut short", "the encoder gave NaN"]
    assert lines[2:] == [f"frame stamped 1.000 s {Arrival.JUMPED_BACK.value}"]
    log.take(StateEntered("active"))
    log.take(FrameFailed("undecodable", "the JPEG is cut short"))
    assert lines[3:] == ["the JPEG is cut short"]


def test_what_happens_seldom_is_always_told() -> None:
    lines = Lines()
    log = EventLog(lines)
    for _ in range(2):
        log.take(FramesChanged("256x128 rgb8", "640x320 rgb8"))
        log.take(EngineServes("openvino fp32 (2025.4.1)", first_choice=False))
    log.take(EngineServes("openvino fp32 (2025.4.1)", first_choice=True, instead=False))
    assert len(lines) == 4
    assert lines[:2] == ["frames change from 256x128 rgb8 to 640x320 rgb8", "continuing with openvino fp32 (2025.4.1)"]
