"""Ending on Ctrl-C and SIGTERM."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_stop(stop: Callable[[], object]) -> Iterator[None]:
    """Calls a function at the first Ctrl-C or SIGTERM; the next one breaks off.

    Args:
        stop: called on the main thread between two instructions; it may raise.
    """
    before: dict[int, Any] = {}

    def handle(number: int, _: object) -> None:
        signal.signal(number, before[number])
        stop()

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
