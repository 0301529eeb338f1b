"""An OpenFlexure microscope, through its server's Web of Things interface.

The addresses differ between revisions of the server, so they are read from the Thing
Descriptions that it publishes (W3C Web of Things, Thing Description 1.1). An action is
started with POST and then polled at the link with rel 'self' until it has ended.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

from edgecell.edge.sources.secrets import public_address
from edgecell.edge.stage.base import LimitReachedError, Position, StageError
from edgecell.errors import InputError

SCHEME = "openflexure"
_PORT = 5000
_DESCRIPTIONS = ("thing_descriptions/", "api/v3/thing_descriptions/")
_TIMEOUT_S = 10.0
_LONGEST_ACTION_S = 60.0
_POLL_S = 0.05
_FOCUS_RANGE = 2000
"""Steps of z that the autofocus searches: what the server's own page asks for."""

_LIMIT_WORDS = ("limit", "range", "endstop")
_LARGEST_ANSWER = 4 << 20


class OpenFlexure:
    """An OpenFlexure microscope.

    Attributes:
        camera: address of its Motion JPEG stream.
    """

    def __init__(
        self, address: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Reads the address; the server is first contacted when the stage is entered.

        Args:
            address: 'openflexure://HOST[:PORT]'.
            sleep: waits for seconds.

        Raises:
            InputError: it is no such address.
        """
        parts = urlsplit(address)
        try:
            port = parts.port or _PORT
        except ValueError:
            port = 0
        if parts.scheme != SCHEME or not parts.hostname or not port:
            raise InputError(
                f"'{public_address(address)}' is not a stage; give {SCHEME}://HOST or "
                f"{SCHEME}://HOST:PORT"
            )
        self._root = f"http://{parts.hostname}:{port}/"
        self._sleep = sleep
        self._links: dict[str, str] = {}
        self.camera = ""

    def __enter__(self) -> "OpenFlexure":
        """Reads where the server keeps the stage and the camera.

        Raises:
            StageError: it doesn't answer, or has no stage or camera.
        """
        self._links = {}
        for things in self._descriptions():
            _read_links(things, self._root, self._links)
        missing = {"position", "move_relative", "camera"} - set(self._links)
        if missing:
            raise StageError(
                f"the server at {self._root} has no {', '.join(sorted(missing))}; is "
                "it an OpenFlexure microscope?"
            )
        self.camera = self._links["camera"]
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def position(self) -> Position:
        """Where the stage is; see `Stage.position`."""
        said = self._ask(self._links["position"])
        try:
            return Position(int(said["x"]), int(said["y"]), int(said["z"]))
        except (KeyError, TypeError, ValueError) as e:
            raise StageError(
                f"the stage did not report a valid position: {said}"
            ) from e

    def move_to(self, place: Position) -> None:
        """Moves to a place; see `Stage.move_to`."""
        way = place - self.position()
        if way != Position(0, 0, 0):
            self._act("move_relative", {"x": way.x, "y": way.y, "z": way.z})

    def focus(self) -> None:
        """Runs the server's own autofocus; see `Stage.focus`."""
        if "fast_autofocus" not in self._links:
            raise StageError("the microscope has no autofocus")
        self._act("fast_autofocus", {"dz": _FOCUS_RANGE})

    def _descriptions(self) -> list[dict[str, Any]]:
        """The server's Thing Descriptions."""
        error: StageError | None = None
        for path in _DESCRIPTIONS:
            try:
                said = self._ask(urljoin(self._root, path))
            except StageError as e:
                error = error or e
                continue
            if isinstance(said, dict):
                return [t for t in said.values() if isinstance(t, dict)]
            error = StageError(
                f"the server at {self._root} does not describe what it can do"
            )
        assert error is not None
        raise error

    def _act(self, name: str, values: dict[str, int]) -> None:
        """Runs an action to its end."""
        said = self._ask(self._links[name], values)
        links = said.get("links", []) if isinstance(said, dict) else []
        own = [link["href"] for link in links if link.get("rel") == "self"]
        if not own:
            raise StageError(
                f"the microscope's answer to {name} has no link to the running action"
            )
        end = time.monotonic() + _LONGEST_ACTION_S
        while said.get("status") not in ("completed", "error", "cancelled"):
            if time.monotonic() > end:
                raise StageError(
                    f"{name} has not ended after {_LONGEST_ACTION_S:.0f} seconds"
                )
            self._sleep(_POLL_S)
            said = self._ask(urljoin(self._root, own[0]))
        if said["status"] != "completed":
            reason = _reason(said)
            if any(word in reason.lower() for word in _LIMIT_WORDS):
                raise LimitReachedError(f"the stage can't go there: {reason}")
            raise StageError(f"{name} failed: {reason}")

    def _ask(self, address: str, values: dict[str, int] | None = None) -> Any:
        """Sends GET, or POST with values; returns the answer's JSON."""
        body = None if values is None else json.dumps(values).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read(_LARGEST_ANSWER))
        except urllib.error.HTTPError as e:
            raise StageError(f"{address} answers {e.code} {e.reason}") from e
        except (OSError, ValueError) as e:
            raise StageError(f"the microscope at {self._root} is lost: {e}") from e


def _read_links(thing: dict[str, Any], root: str, links: dict[str, str]) -> None:
    """Adds what a thing offers of position, move_relative, fast_autofocus and camera.

    The stream is not in the description of its thing: it lies below the thing's own
    address.
    """
    base = thing.get("base", root)
    for kind in ("properties", "actions"):
        for name, offered in (thing.get(kind) or {}).items():
            forms = offered.get("forms") or [{}]
            if name in ("position", "move_relative", "fast_autofocus"):
                links[name] = urljoin(base, forms[0].get("href", ""))
    named = f"{thing.get('id', '')} {thing.get('title', '')}".lower()
    if "camera" in named:
        path = str(thing.get("path") or "camera/")
        links["camera"] = urljoin(base, f"{path.strip('/')}/mjpeg_stream")


def _reason(invocation: dict[str, Any]) -> str:
    """Why an action failed, in the server's words."""
    error = invocation.get("error") or {}
    said = [error.get(key) for key in ("detail", "message", "title")]
    said += [entry.get("message") for entry in (invocation.get("log") or [])[-1:]]
    return " ".join(str(next(filter(None, said), "no reason given")).split())
