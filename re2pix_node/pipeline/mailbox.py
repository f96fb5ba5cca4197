"""One slot between the executor, which must not wait, and the worker, which takes the newest item."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.overtaken = 0  # items that a newer one replaced before they were taken

    def put(self, item: T) -> bool:
        """Store an item; return whether it replaced another one that was not taken."""
        with self._changed:
            overtakes = self._item is not None
            self.overtaken += overtakes
            self._item = item
            self._changed.notify()
            return overtakes

    def take(self) -> T | None:
        """Wait for an item; None after the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
