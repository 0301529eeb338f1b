"""Silence for C++ libraries that write to standard error whatever Python says."""

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere for as long as the context is open.

    One at a time over all threads: two that overlap would restore each other's
    silence. Errors are not lost, since libraries raise them as exceptions.
    """
    with _lock, open(os.devnull, "wb") as null:
        saved = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
