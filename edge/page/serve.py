"""Serves the page: on its own, or on a thread beside the loop."""

import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from edgecell.edge.page.people.guard import Door
from edgecell.errors import InputError, OutputError

_STREAMS_END_S = 1
"""An open stream would otherwise keep the server from ending."""

_START_S = 10.0


@dataclass(frozen=True)
class Tls:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Loads both, before the page is announced.

        Raises:
            InputError: they can't be read, or don't belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        advice = "'edgecell service certificate' makes both"
        for path in (self.certificate, self.key):
            try:
                path.open("rb").close()
            except OSError as e:
                raise InputError(f"{path} cannot be read: {e.strerror}") from e
        try:
            context.load_verify_locations(self.certificate)
        except ssl.SSLError as e:
            raise InputError(
                f"{self.certificate} is not a certificate (PEM); {advice}"
            ) from e
        try:
            context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as e:
            raise InputError(
                f"{self.key} is not the private key (PEM) of {self.certificate}; "
                + advice
            ) from e


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


def listening(door: Door) -> socket.socket:
    """Binds the page's port before anything else is started.

    Raises:
        OutputError: it is taken, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((door.host, door.port))
        taken.listen()  # early connections wait until the server is up
    except (OSError, OverflowError) as e:
        taken.close()
        why = getattr(e, "strerror", None) or e
        raise OutputError(
            f"cannot listen at {door.host} port {door.port}: {why}; choose another "
            "with --port or --host"
        ) from e
    return taken


def _server(app: ASGIApp, tls: Tls | None) -> _Server:
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=_STREAMS_END_S,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
    )


def serve(app: ASGIApp, taken: socket.socket, tls: Tls | None) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        app: the page.
        taken: see `listening`.
        tls: for HTTPS; None for HTTP.
    """
    with taken:
        _server(app, tls).run([taken])


@contextmanager
def served(app: ASGIApp, taken: socket.socket, tls: Tls | None) -> Iterator[None]:
    """Serves on a thread of its own until the end of the block.

    Raises:
        OutputError: the server doesn't start.
    """
    server = _server(app, tls)
    thread = threading.Thread(
        target=server.run, args=([taken],), name="edgecell-page", daemon=True
    )
    thread.start()
    try:
        if not server.listens.wait(_START_S):
            raise OutputError("the page did not start; try another --port")
        yield
    finally:
        server.should_exit = True
        thread.join(_STREAMS_END_S + 2)
        taken.close()
