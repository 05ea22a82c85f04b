"""SIGINT and SIGTERM during long work: stored, and raised between steps. Standard library only."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Exception for work that was stopped by SIGINT or SIGTERM and saved. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number


class StopSignal:
    """Context manager that stores SIGINT and SIGTERM in `received`; a second SIGINT raises KeyboardInterrupt.

    A signal that comes after the last `poll` is passed on to the StopSignal around this one, if there is one.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def poll(self) -> None:
        """Raise Interrupted if a signal was received."""
        if self.received is not None:
            raise Interrupted(self.received)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        before = None if self.received is None else self._before.get(signal.Signals(self.received))
        outer = getattr(before, "__self__", None)
        if isinstance(outer, StopSignal) and exception[0] is None:
            outer.received = self.received
