"""A few slots between the executor, which must not wait, and the worker."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Items in order; one that comes when all slots are taken overtakes the oldest."""

    def __init__(self, slots: int = 1) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque(maxlen=slots)
        self._closed = False
        self.overtaken = 0  # items that newer ones pushed out before they were taken

    def put(self, item: T) -> bool:
        """Store an item; return whether it overtook another one that was not taken."""
        with self._changed:
            overtakes = len(self._items) == self._items.maxlen
            self.overtaken += overtakes
            self._items.append(item)
            self._changed.notify()
            return overtakes

    def take(self) -> T | None:
        """Wait for an item; None after the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            return None if self._closed else self._items.popleft()

    def holds_any(self) -> bool:
        """Return True if an item waits."""
        return bool(self._items)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
