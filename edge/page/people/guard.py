"""Who gets in, from where, and what a browser may do with what it gets."""

import ipaddress
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecell.edge.page.people.accounts import Accounts, Person, Role

_OPEN = ("/sign-in", "/welcome", "/static/")
"""What is shown to anybody."""

_SAFE = ("GET", "HEAD")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Door:
    """How browsers reach the page.

    Attributes:
        host: address that it listens at.
        port: likewise.
        secure: whether browsers come by HTTPS: then cookies are Secure.
        origin: what browsers have as their origin behind a proxy, such as
            'https://slides.example'; None without a proxy.
        everybody: who looks when nobody has to sign in; None if people have to.
    """

    host: str
    port: int
    secure: bool = False
    origin: str | None = None
    everybody: Person | None = None

    @property
    def address(self) -> str:
        """What to open in a browser."""
        if self.origin is not None:
            return self.origin
        host = self.host
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"

    @property
    def cookie(self) -> str:
        """Name of the cookie; __Host- binds it to this host and to HTTPS."""
        return "__Host-edgecell" if self.secure else "edgecell"

    def serves(self, host: str) -> bool:
        """Whether a Host header is one of this page's.

        On loopback, a name from somebody else's DNS server (DNS rebinding) would give
        their page this page's origin.
        """
        if self.origin is not None and host == urlsplit(self.origin).netloc:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or not is_loopback(self.host) or is_loopback(name)

    def own_origin(self, host: str) -> str:
        """The Origin that a browser sends if it got this page under a Host."""
        return self.origin or f"{'https' if self.secure else 'http'}://{host}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """The outermost layer of the page."""

    def __init__(self, app: ASGIApp, door: Door, accounts: Accounts | None) -> None:
        """Lets only permitted requests through to ``app``.

        Args:
            app: all else.
            door: how browsers reach the page.
            accounts: who may sign in; None if nobody has to.
        """
        self._app, self._door, self._accounts = app, door, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = await self._answer(scope)
        await (answer or self._app)(scope, receive, send_guarded)

    async def _answer(self, scope: Scope) -> ASGIApp | None:
        """What to answer instead of the page; None to continue."""
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if not self._door.serves(host):
            return PlainTextResponse(
                f"This page is not served under the name {host!r}.", 421
            )
        if scope["method"] not in _SAFE and not self._own(headers, host):
            return PlainTextResponse("Changes are accepted only from this page.", 403)
        scope["person"] = self._door.everybody or await self._who(headers)
        if scope["person"] is not None or path.startswith(_OPEN):
            return None
        if path == "/metrics" and self._from_here(scope):
            return None
        if path.startswith("/api/") or scope["method"] not in _SAFE:
            return JSONResponse({"error": "sign in first"}, 401)
        if "hx-request" in headers:
            return PlainTextResponse("", 401, {"HX-Redirect": "/sign-in"})
        return RedirectResponse(f"/sign-in?next={quote(path)}", 303)

    def _own(self, headers: Headers, host: str) -> bool:
        return headers.get("origin") == self._door.own_origin(host)

    def _from_here(self, scope: Scope) -> bool:
        """Whether the request comes from this machine; behind a proxy all do."""
        client = scope.get("client") or ("", 0)
        return self._door.origin is None and is_loopback(client[0])

    async def _who(self, headers: Headers) -> Person | None:
        token = cookie_of(headers.get("cookie", ""), self._door.cookie)
        if self._accounts is None or token is None:
            return None
        return await run_in_threadpool(self._accounts.holder, token)


def cookie_of(header: str, name: str) -> str | None:
    """One cookie of a Cookie header; None if it is not there."""
    try:
        cookie = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if cookie is None else cookie.value


def person_with(request: Request, role: Role) -> Person:
    """Who asks, if they may.

    Raises:
        HTTPException: their role doesn't include ``role``.
    """
    person = request.scope["person"]
    assert isinstance(person, Person)
    if not person.may(role):
        raise HTTPException(
            403, f"{person.name} has the role '{person.role}'; this needs '{role}'"
        )
    return person
