"""``edgecell page``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell import RESEARCH_USE
from edgecell.errors import InputError
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.page.people.accounts import Accounts
    from edgecell.edge.page.people.guard import Door
    from edgecell.edge.page.serve import Tls

ACCOUNTS = "accounts.sqlite"
_file = click.Path(path_type=Path, dir_okay=False)


def page_options(command: Any) -> Any:
    """Options of every command that serves the page."""
    for option in (
        click.option(
            "--certificate",
            type=_file,
            help="PEM file for HTTPS; 'edgecell service certificate' makes one.",
        ),
        click.option("--key", type=_file, help="Its private key, a PEM file."),
        click.option(
            "--origin",
            metavar="URL",
            help="What browsers open when a proxy with HTTPS stands before the page, "
            "such as https://slides.example.",
        ),
        click.option(
            "--accounts",
            "accounts_file",
            type=_file,
            help=f"File of the accounts.  [default: {ACCOUNTS} in the results folder]",
        ),
        click.option(
            "--no-sign-in",
            is_flag=True,
            help="Let everybody at this machine do everything; only on loopback.",
        ),
        click.option(
            "--port",
            type=click.IntRange(1, 65535),
            default=8765,
            show_default=True,
            help="Port that the page listens at.",
        ),
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address that it listens at; one beyond this machine needs HTTPS.",
        ),
    ):
        command = option(command)
    return command


def door_of(
    host: str,
    port: int,
    no_sign_in: bool,
    certificate: Path | None,
    key: Path | None,
    origin: str | None,
) -> tuple["Door", "Tls | None"]:
    """How browsers reach the page, if that is safe.

    Raises:
        InputError: it is not, or the options don't go together.
    """
    import getpass

    from edgecell.edge.page.people.accounts import Person
    from edgecell.edge.page.people.guard import Door, is_loopback
    from edgecell.edge.page.serve import Tls

    if (certificate is None) != (key is None):
        raise InputError("--certificate and --key go together; name both files")
    if origin is not None and not origin.startswith("https://"):
        raise InputError(
            f"--origin is an address that begins with https://, not {origin}"
        )
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise InputError(f"{file} is not there; name a PEM file")
    if not is_loopback(host):
        if no_sign_in:
            raise InputError(
                f"--no-sign-in would let everybody in who reaches {host}; leave out "
                "one of them"
            )
        if certificate is None:
            raise InputError(
                f"passwords would be sent in clear to {host}; give --certificate and "
                "--key ('edgecell service certificate' makes them), or keep "
                "--host 127.0.0.1 behind a proxy with HTTPS and give --origin"
            )
    tls = None if certificate is None or key is None else Tls(certificate, key)
    secure = tls is not None or origin is not None
    everybody = Person(getpass.getuser(), "manage") if no_sign_in else None
    return Door(host, port, secure, origin and origin.rstrip("/"), everybody), tls


def accounts_of(door: "Door", file: Path) -> "Accounts | None":
    """The accounts; the first start says how to make one."""
    from edgecell.edge.page.people.accounts import Accounts

    if door.everybody is not None:
        return None
    accounts = Accounts(file)
    if not accounts.people():
        link = f"{door.address}/welcome?token={accounts.invite('manage')}"
        click.echo(
            f"Nobody has an account yet. Make the first one here, within a day:\n{link}"
        )
    return accounts


@click.command("page", short_help="Serve sessions in a browser: review, report, sign.")
@click.argument(
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="edgecell-out",
)
@page_options
def command(
    folder: Path,
    host: str,
    port: int,
    no_sign_in: bool,
    accounts_file: Path | None,
    origin: str | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Serve the sessions in FOLDER (edgecell-out unless told) in a browser.

    Review cells by keyboard or on a tablet, and sign the report. Every naming is kept
    in the session's own file, beside the machine's decision. Ctrl-C ends the page.
    """
    require("uvicorn", "page")
    require("cv2", "edge")
    from edgecell.edge.page.app import create_app
    from edgecell.edge.page.serve import listening, serve

    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name one with sessions in it")
    door, tls = door_of(host, port, no_sign_in, certificate, key, origin)
    taken = listening(door)
    accounts = accounts_of(door, accounts_file or folder / ACCOUNTS)
    click.echo(f"{RESEARCH_USE}\nThe page is at {door.address}; Ctrl-C ends it.")
    serve(create_app(folder, door, accounts), taken, tls)
