"""Runs the callbacks of a node so that nothing that arrives over ROS can end it."""

from collections.abc import Callable
from typing import Any

from rclpy.executors import (
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)


class SurvivingExecutor(SingleThreadedExecutor):  # type: ignore[misc]
    """An executor in which an error costs only the callback that raised it; `told` gets its source and the error."""

    def __init__(self, told: Callable[[str, Exception], None]) -> None:
        super().__init__()
        self._told = told

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return
        handler()
        error = handler.exception()
        if error is None:
            return
        if not self.context.ok():  # a signal has shut ROS down while the callback was running
            raise ExternalShutdownException
        _release(entity)
        self._told(_name(entity), error)


def _release(entity: Any) -> None:
    """Let callbacks run again after an error in taking a message: rclpy then keeps the callback group occupied."""
    group = getattr(entity, "callback_group", None)
    if group is None or not entity._executor_event:
        return
    entity._executor_event = False
    group.ending_execution(entity)


def _name(entity: Any) -> str:
    """The topic or service of the callback, or what else it is."""
    for attribute in ("topic_name", "srv_name"):
        if name := getattr(entity, attribute, ""):
            return str(name)
    return f"a {type(entity).__name__.lower()}"
