"""Lines of the log: each kind of fault once in a while, and again in the next state."""

from re2pix_node.pipeline.buffer import Arrival
from re2pix_node.pipeline.events import (
    Counted,
    Doubt,
    EngineServes,
    FrameFailed,
    FramesChanged,
    RendererTold,
    StampBroke,
    StateEntered,
    TransitionRefused,
)
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
    log.take(StateEntered("inactive"))  # changes all the time
    log.take(FrameFailed("undecodable", "the JPEG is cut short"))
    assert lines[3:] == ["the JPEG is cut short"]


def test_a_camera_that_changes_all_the_time_is_told_once() -> None:
    lines = Lines()
    log = EventLog(lines)
    for i in range(40):
        log.take(FramesChanged(f"{i}x128 rgb8", f"{i + 1}x128 rgb8"))
        log.take(RendererTold("openvino fp32", draws=True))
        log.take(FramesChanged("1x128 rgb8", "1x128 bgr8"))
    assert lines == [
        "frames change from 0x128 rgb8 to 1x128 rgb8",
        "drawing pictures with openvino fp32",
        "frames change from 1x128 rgb8 to 1x128 bgr8",
    ]


def test_what_somebody_asked_for_has_an_answer_but_no_flood_of_them() -> None:
    lines = Lines()
    for event in (TransitionRefused, Doubt):
        log = EventLog(lines)
        lines.clear()
        log.take(StateEntered("configuring"))
        for i in range(40):
            log.take(event("no bundle"))
            log.take(event(f"reason {i}"))
            log.take(StateEntered("unconfigured"))  # each refused transition enters states
        assert lines == ["no bundle", *(f"reason {i}" for i in range(4))]


def test_the_engine_in_use_from_the_start_is_not_told() -> None:
    lines = Lines()
    EventLog(lines).take(EngineServes("openvino fp32 (2025.4.1)", first_choice=True, instead=False))
    assert not lines
