"""The faults that are reported for forecasts with wrong times."""

from collections.abc import Callable
from typing import Any

import pytest

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.pipeline.forecast_check import StampCheck
from re2pix_node.pipeline.messages import Circumstances, duration_message, forecast_message, time_message
from re2pix_node.pipeline.pipeline import Forecast, Pipeline
from re2pix_node.ros.message_types import ros_types
from tests.support import drive

# A camera whose stamps are no round numbers.
SENT = [NANOSECONDS + i * NANOSECONDS // 17 + 3 * i for i in range(20)]
NOW = 10 * NANOSECONDS


@pytest.fixture(scope="module")
def forecasts(tiny: Bundle) -> list[Forecast]:
    pipeline = Pipeline(tiny, open_engine(tiny, "onnxruntime", "auto", 1)[0])
    made = (pipeline.observe(drive.frame(stamp / NANOSECONDS, 256, 128), stamp).forecast for stamp in SENT)
    return [forecast for forecast in made if forecast]


def message(tiny: Bundle, forecast: Forecast) -> Any:
    return forecast_message(ros_types(), tiny, forecast, [], Circumstances("onnxruntime fp32", "camera"))


def faults(tiny: Bundle, messages: list[Any], now: int = NOW) -> list[str]:
    check = StampCheck(tiny.manifest.time)
    return [fault for item in messages for fault in check.faults(item, now, SENT.__contains__)]


def test_good_forecasts_have_no_faults(tiny: Bundle, forecasts: list[Forecast]) -> None:
    assert len(forecasts) == len(SENT) - 9
    assert faults(tiny, [message(tiny, forecast) for forecast in forecasts]) == []


def stamped(ns: int) -> Callable[[Any], None]:
    def change(item: Any) -> None:
        item.header.stamp = time_message(ros_types(), ns)

    return change


def spaced(ns: int) -> Callable[[Any], None]:
    def change(item: Any) -> None:
        item.spacing = duration_message(ros_types(), ns)

    return change


def swap_context(item: Any) -> None:
    item.context_stamps = item.context_stamps[::-1]


def shift_context(item: Any) -> None:
    item.context_stamps[1].nanosec += 1


def shorten_context(item: Any) -> None:
    item.context_stamps = item.context_stamps[1:]


def shift_horizon(item: Any) -> None:
    item.horizons[2].nanosec += 1


def shift_predicted(item: Any) -> None:
    item.predicted_stamps[3].nanosec += 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (stamped(SENT[-1] + 5), "its stamp was never sent"),
        (stamped(SENT[-1] + 5), "its predicted stamps are not its stamp and horizons"),
        (swap_context, "its context does not end at its stamp"),
        (swap_context, "its context is not in order"),
        (shift_context, "its context has stamps that were never sent"),
        (shorten_context, "its context is not as long as the bundle's"),
        (spaced(130_000_000), "its context is not evenly spaced"),
        (spaced(100_000_000), "its spacing is not one of the bundle"),
        (shift_horizon, "its horizons are not the bundle's, times its spacing"),
        (shift_predicted, "its predicted stamps are not its stamp and horizons"),
    ],
)
def test_each_fault_is_named(
    tiny: Bundle, forecasts: list[Forecast], change: Callable[[Any], None], expected: str
) -> None:
    item = message(tiny, forecasts[-1])
    change(item)
    assert expected in faults(tiny, [item])


def test_the_future_and_repetitions_are_faults(tiny: Bundle, forecasts: list[Forecast]) -> None:
    first, second = (message(tiny, forecast) for forecast in forecasts[:2])
    assert faults(tiny, [first], now=forecasts[0].stamp - 1) == ["its stamp lies in the future"]
    assert faults(tiny, [second, first]) == ["its stamp is not after that of the forecast before"]
    assert faults(tiny, [first, first]) == ["its stamp is not after that of the forecast before"]
