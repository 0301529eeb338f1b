"""``edgecell page``."""

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from edgecell import RESEARCH_USE
from edgecell.errors import InputError
from edgecell.optional import require

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from edgecell.edge.loop.run import Run
    from edgecell.edge.page.people.guard import Door
    from edgecell.edge.page.serve import Tls
    from edgecell.edge.page.watch.live import Live
    from edgecell.edge.stage.places import Driver

ACCOUNTS = "accounts.sqlite"
_file = click.Path(path_type=Path, dir_okay=False)


def page_options(command: Any) -> Any:
    """Options of every command that serves the page."""
    for option in (
        click.option(
            "--certificate",
            type=_file,
            help="Certificate for HTTPS, a PEM file; 'edgecell service certificate' "
            "makes one.",
        ),
        click.option("--key", type=_file, help="Private key of the certificate, PEM."),
        click.option(
            "--origin",
            metavar="URL",
            help="Address that browsers open if an HTTPS proxy stands in front of the "
            "page, such as https://slides.example.",
        ),
        click.option(
            "--accounts",
            "accounts_file",
            type=_file,
            help=f"Database of accounts.  [default: {ACCOUNTS} in the results folder]",
        ),
        click.option(
            "--no-sign-in",
            is_flag=True,
            help="Let anyone at this machine do everything, without signing in. Only "
            "for 127.0.0.1.",
        ),
        click.option(
            "--port",
            type=click.IntRange(1, 65535),
            default=8765,
            show_default=True,
            help="Port of the page.",
        ),
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address that the page listens on. Any but this machine's own needs "
            "HTTPS.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Serving:
    """The settings that `page_options` read.

    Attributes:
        host: address to listen at.
        port: likewise.
        no_sign_in: whether everybody at this machine may do everything.
        accounts_file: file of the accounts; None for the default.
        origin: what browsers open, where a proxy stands before the page.
        certificate: PEM file for HTTPS.
        key: its private key.
    """

    host: str
    port: int
    no_sign_in: bool
    accounts_file: Path | None
    origin: str | None
    certificate: Path | None
    key: Path | None

    def check(self) -> None:
        """Refuses settings that are unsafe or don't go together.

        Raises:
            InputError: see above.
        """
        from edgecell.edge.page.people.guard import is_loopback

        if (self.certificate is None) != (self.key is None):
            raise InputError("--certificate and --key go together; name both files")
        if self.origin is not None and not _is_origin(self.origin):
            raise InputError(
                f"--origin is https://HOST or https://HOST:PORT, not {self.origin}"
            )
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise InputError(f"{file} does not exist; name a PEM file")
        if is_loopback(self.host):
            return
        if self.no_sign_in:
            raise InputError(
                f"--no-sign-in would let in everyone who can reach {self.host}; leave "
                "out one of the two"
            )
        if self.certificate is None:
            raise InputError(
                f"passwords would be sent in clear to {self.host}; give --certificate "
                "and --key ('edgecell service certificate' makes them), or keep "
                "--host 127.0.0.1 behind a proxy with HTTPS and give --origin"
            )

    def door(self) -> "Door":
        """How browsers reach the page."""
        from edgecell.edge.page.people.accounts import Person
        from edgecell.edge.page.people.guard import Door

        secure = self.certificate is not None or self.origin is not None
        everybody = Person(getpass.getuser(), "manage") if self.no_sign_in else None
        origin = self.origin and self.origin.rstrip("/")
        return Door(self.host, self.port, secure, origin, everybody)

    def tls(self) -> "Tls | None":
        """Certificate and key; None for HTTP."""
        from edgecell.edge.page.serve import Tls

        if self.certificate is None or self.key is None:
            return None
        return Tls(self.certificate, self.key)

    def open(
        self,
        root: Path,
        live: "Live | None" = None,
        driver: "Driver | None" = None,
    ) -> tuple["Starlette", socket.socket]:
        """The page over a folder of sessions, and its port.

        The first start makes a link to the first account and prints it.

        Args:
            root: the folder.
            live: the running loop; None if there is none.
            driver: the motorised stage; None if there is none.

        Raises:
            InputError: see `check`, and `Tls.check`.
            OutputError: the port is taken, or the accounts can't be written.
        """
        from edgecell.edge.page.app import create_app
        from edgecell.edge.page.people.accounts import Accounts
        from edgecell.edge.page.serve import listening

        self.check()
        if tls := self.tls():
            tls.check()
        door, accounts = self.door(), None
        if door.everybody is None:
            accounts = Accounts(self.accounts_file or root / ACCOUNTS)
        taken = listening(door)
        click.echo(f"The page is at {door.address}", err=True)
        if accounts is not None and not accounts.people():
            link = f"{door.address}/welcome?token={accounts.invite('manage')}"
            click.echo(
                "Nobody has an account yet. This link creates the first one; it works "
                f"once, within a day:\n{link}",
                err=True,
            )
        return create_app(root, door, accounts, live, driver), taken


def _is_origin(address: str) -> bool:
    """Whether browsers could have it as their origin, with HTTPS."""
    try:
        parts = urlsplit(address)
        ours = f"https://{parts.netloc}" == address.rstrip("/")
        return bool(ours and parts.hostname and parts.port != 0 and not parts.username)
    except ValueError:
        return False


@contextmanager
def beside(run: "Run", serving: Serving) -> Iterator["Live"]:
    """Serves the page beside a running loop, with its session and earlier ones.

    Args:
        run: the loop, not yet going.
        serving: how.

    Yields:
        An observer for the loop.
    """
    require("uvicorn", "page")
    from edgecell.edge.page.serve import served
    from edgecell.edge.page.watch.live import Live

    live = Live()
    app, taken = serving.open(run.out.parent, live)
    with served(app, taken, serving.tls()):
        yield live


@click.command("page", short_help="Serve sessions in a browser: review, report, sign.")
@click.argument(
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="edgecell-out",
)
@click.option(
    "--stage",
    metavar="ADDRESS",
    help="Motorised stage, openflexure://HOST, that brings cells of its scans back "
    "under the objective.",
)
@page_options
def command(folder: Path, stage: str | None, **serving: Any) -> None:
    """Serve the sessions in FOLDER (default: edgecell-out) in a browser.

    Review cells by keyboard or on a tablet, and sign the report. What people call a
    cell is kept in the session's file, beside the machine's decision. Ctrl-C stops
    the page.
    """
    require("uvicorn", "page")
    require("cv2", "edge")
    from edgecell.edge.page.serve import serve

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that holds sessions")
    settings, driver = Serving(**serving), None
    if stage is not None:
        from edgecell.edge.stage.places import Driver

        driver = Driver(stage)
    app, taken = settings.open(folder, driver=driver)
    click.echo(f"{RESEARCH_USE}\nCtrl-C stops the page.", err=True)
    serve(app, taken, settings.tls())
