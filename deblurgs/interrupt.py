"""Ctrl-C in two steps: the first asks a long loop to stop after its present step, the second stops at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = b"\nfinishing the present step; Ctrl-C again stops at once\n"


@dataclass
class StopRequest:
    """Truthy questions for a loop: `if stop.requested: break`."""

    requested: bool = False

    def __call__(self) -> bool:
        return self.requested


@contextmanager
def stop_on_first_interrupt() -> Iterator[StopRequest]:
    """While it is open the first SIGINT or SIGTERM only sets `requested`; the second raises KeyboardInterrupt.

    A signal that is ignored stays ignored (background jobs of a shell). Outside the main thread, where Python allows no
    signal handlers, nothing changes.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        os.write(2, _NOTICE)  # not print: the signal may have come in the middle of one

    before = {n: signal.getsignal(n) for n in _SIGNALS}
    caught = [n for n in _SIGNALS if before[n] is not signal.SIG_IGN and before[n] is not None]
    for number in caught:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number in caught:
            signal.signal(number, before[number])
