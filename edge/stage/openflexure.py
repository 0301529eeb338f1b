"""An OpenFlexure microscope, through its server's Web of Things interface.

The addresses differ between revisions of the server, so they are read from the Thing
Descriptions that it publishes (W3C Web of Things, Thing Description 1.1). An action is
started with POST and then polled at the link with rel 'self' until it has ended.
"""

import http.client
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
from edgecell.files import printable

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
_LONGEST_WORDS = 200


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
        host, port = _host_and_port(address)
        if not host or not port:
            raise InputError(
                f"'{printable(public_address(address))}' is not a stage; give "
                f"{SCHEME}://HOST or {SCHEME}://HOST:PORT"
            )
        self._root = f"http://{host}:{port}/"
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
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise StageError(
                f"the stage did not report a valid position: {_short(said)}"
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
        said = _table(self._ask(self._links[name], values))
        links = _tables(said.get("links"))
        own = [link.get("href", "") for link in links if link.get("rel") == "self"]
        if not own:
            raise StageError(
                f"the microscope's answer to {name} has no link to the running action"
            )
        running = _joined(self._root, own[0])
        end = time.monotonic() + _LONGEST_ACTION_S
        while said.get("status") not in ("completed", "error", "cancelled"):
            if time.monotonic() > end:
                raise StageError(
                    f"{name} has not ended after {_LONGEST_ACTION_S:.0f} seconds"
                )
            self._sleep(_POLL_S)
            said = _table(self._ask(running))
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
                said = answer.read(_LARGEST_ANSWER)
        except urllib.error.HTTPError as e:
            e.close()
            raise StageError(f"{address} answers {e.code} {_short(e.reason)}") from e
        except (OSError, ValueError, http.client.HTTPException) as e:
            why = getattr(e, "reason", e)  # of an URLError
            raise StageError(
                f"the microscope at {self._root} is lost: {_short(why)}"
            ) from e
        try:
            return json.loads(said)
        except (ValueError, RecursionError) as e:
            raise StageError(
                f"{address} does not answer in JSON; is it an OpenFlexure microscope?"
            ) from e


def _host_and_port(address: str) -> tuple[str, int]:
    """What a stage's address names, as URLs have it; '' or 0 if it does not."""
    try:
        parts = urlsplit(address)
        port = _PORT if parts.port is None else parts.port
    except ValueError:
        return "", 0
    host = parts.hostname or ""
    if parts.scheme != SCHEME or any(c.isspace() or not c.isprintable() for c in host):
        return "", 0
    return f"[{host}]" if ":" in host else host, port


def _table(said: Any) -> dict[str, Any]:
    """A JSON object; an empty one in place of anything else."""
    return said if isinstance(said, dict) else {}


def _tables(said: Any) -> list[dict[str, Any]]:
    """The objects of a JSON array."""
    entries = said if isinstance(said, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _short(said: object) -> str:
    """What a server or an error says, in one line."""
    return printable(" ".join(str(said).split()))[:_LONGEST_WORDS]


def _joined(base: Any, path: Any) -> str:
    """An address that a server gave.

    Raises:
        StageError: it is none of a web server's: urllib would open files, too.
    """
    try:
        address = urljoin(str(base), str(path))
        if urlsplit(address).scheme in ("http", "https"):
            return address
    except ValueError:
        pass
    raise StageError(f"the microscope gives an unusable address: {_short(path)}")


def _read_links(thing: dict[str, Any], root: str, links: dict[str, str]) -> None:
    """Adds what a thing offers of position, move_relative, fast_autofocus and camera.

    The stream is not in the description of its thing: it lies below the thing's own
    address.
    """
    base = thing.get("base", root)
    for kind in ("properties", "actions"):
        for name, offered in _table(thing.get(kind)).items():
            forms = _tables(_table(offered).get("forms"))
            if forms and name in ("position", "move_relative", "fast_autofocus"):
                links[name] = _joined(base, forms[0].get("href", ""))
    named = f"{thing.get('id', '')} {thing.get('title', '')}".lower()
    if "camera" in named:
        path = str(thing.get("path") or "camera/")
        links["camera"] = _joined(base, f"{path.strip('/')}/mjpeg_stream")


def _reason(invocation: dict[str, Any]) -> str:
    """Why an action failed, in the server's words."""
    error = _table(invocation.get("error"))
    said = [error.get(key) for key in ("detail", "message", "title")]
    said += [entry.get("message") for entry in _tables(invocation.get("log"))[-1:]]
    return _short(next(filter(None, said), "no reason given"))
