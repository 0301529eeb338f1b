"""Ending on Ctrl-C, SIGTERM and a terminal that hangs up."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS = [int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name)]


@contextmanager
def on_stop(stop: Callable[[], object]) -> Iterator[None]:
    """Calls a function at the first Ctrl-C, SIGTERM or SIGHUP; the next one aborts.

    SIGHUP comes when the terminal or the connection to it is closed; under nohup it is
    ignored, and stays so. Shells also ignore SIGINT for what a script starts in the
    background, but there it is sent on purpose.

    Args:
        stop: called on the main thread between two instructions; it may raise.
    """
    before: dict[int, Any] = {}

    def handle(number: int, _: object) -> None:
        signal.signal(number, before[number])
        stop()

    for number in _SIGNALS:
        hangs_up = number == getattr(signal, "SIGHUP", None)
        if not (hangs_up and signal.getsignal(number) == signal.SIG_IGN):
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Keeps the first Ctrl-C until the context ends; the next one interrupts at once.

    For imports: a package of C++ that is interrupted says that it is not installed or
    fails to start, and Python's own machinery may swallow the interrupt.
    """
    before = signal.getsignal(signal.SIGINT)
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or not callable(before):  # ignored, or of another language
        yield
        return
    came = False

    def remember(number: int, _: object) -> None:
        nonlocal came
        came = True
        signal.signal(number, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
