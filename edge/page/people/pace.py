"""How often somebody may try to sign in."""

import threading
import time
from collections.abc import Callable

_FREE_TRIES = 5
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 300.0
_FORGOTTEN_S = 3600.0
_MOST_KNOWN = 1000


class Pace:
    """Makes each further wrong try wait twice as long as the one before.

    Tries are counted by name and by address, so that neither one name can be tried
    from many places nor many names from one. A good try forgets them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts without any attempts.

        Args:
            clock: seconds, monotonic.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}

    def wait_s(self, *keys: str) -> float:
        """Seconds until the next try is accepted; 0 if that is now.

        Args:
            keys: the name and the address that try.
        """
        now = self._clock()
        with self._lock:
            return max(0.0, *(self._until(key) - now for key in keys))

    def _until(self, key: str) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < _FREE_TRIES:
            return float("-inf")
        doubled = min(count - _FREE_TRIES, 10)
        return last + min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**doubled)

    def failed(self, *keys: str) -> None:
        """Records a wrong try."""
        now = self._clock()
        with self._lock:
            for key, (_, last) in list(self._failures.items()):
                if now - last > _FORGOTTEN_S:
                    del self._failures[key]
            while len(self._failures) > _MOST_KNOWN:
                del self._failures[next(iter(self._failures))]
            for key in keys:
                count, _ = self._failures.pop(key, (0, 0.0))
                self._failures[key] = (count + 1, now)

    def succeeded(self, *keys: str) -> None:
        """Forgets the wrong tries."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)
