"""Delivers one message: to an MLLP listener, a folder, or a FHIR server."""

import re
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from edgecell.edge.outbox.hl7 import read_answer
from edgecell.edge.sources.secrets import (
    hides_something,
    public_address,
    read_address,
    split_login,
)
from edgecell.errors import InputError, OutputError
from edgecell.files import write_atomically

_START, _END = b"\x0b", b"\x1c\r"
"""Frame of the minimal lower layer protocol (HL7 transport specification, MLLP 1)."""

_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Delivery:
    """What became of one attempt.

    Attributes:
        delivered: the receiver took the message.
        final: trying again is useless: it was delivered, or rejected for its content.
        reason: why it was not delivered.
    """

    delivered: bool
    final: bool
    reason: str = ""


def check_target(target: str) -> str:
    """The kind of message that a target takes, 'hl7' or 'fhir'.

    Args:
        target: 'tcp://HOST:PORT' (HL7 by MLLP), 'hl7-dir:FOLDER', 'fhir-dir:FOLDER',
            'http(s)://...', the base address of a FHIR server, or '@FILE', a file that
            holds such an address with its password.

    Raises:
        InputError: it is none of these, its folder does not exist, or it contains a
            password, which would be kept in the session's file.
    """
    if target.startswith("@"):
        target = read_address(target)
    elif hides_something(target):
        raise InputError(
            "the address holds a password, which would be kept in the session; write "
            "the address into a file, 'chmod 600' it, and give --fhir @FILE"
        )
    kind, _, rest = target.partition(":")
    if kind in ("hl7-dir", "fhir-dir") and rest:
        if not Path(rest).is_dir():
            raise InputError(
                f"there is no folder {rest}; make it, or mount the share that holds it"
            )
        return kind.partition("-")[0]
    parts = urlsplit(target)
    try:
        port = parts.port
    except ValueError:
        port = None
    if kind == "tcp" and parts.hostname and port and not parts.path.strip("/"):
        return "hl7"
    if kind in ("http", "https") and parts.hostname:
        return "fhir"
    raise InputError(
        f"'{public_address(target)}' is not a receiver; give tcp://HOST:PORT for HL7, "
        "or the http(s) address of a FHIR server"
    )


def fhir_target(text: str) -> str:
    """The target of ``--fhir``: a server's address stays, a folder is named as one."""
    if text.startswith("@"):
        return f"@{Path(text[1:]).absolute()}"
    return text if "://" in text else f"fhir-dir:{Path(text).absolute()}"


def deliver(target: str, control: str, payload: str, timeout_s: float) -> Delivery:
    """Makes one attempt.

    Args:
        target: see `check_target`.
        control: the message's control ID, also its file's name.
        payload: the message.
        timeout_s: how long to wait for the receiver.
    """
    if not re.fullmatch(r"[\w-]+", control, re.ASCII):  # it becomes a file's name
        return Delivery(False, True, "its control ID is not one of ours")
    kind, _, rest = target.partition(":")
    try:
        if kind in ("hl7-dir", "fhir-dir"):
            folder, suffix = Path(rest), "hl7" if kind == "hl7-dir" else "json"
            if not folder.is_dir():  # a share that isn't mounted is not created
                return Delivery(False, False, f"there is no folder {folder}")
            write_atomically(folder / f"{control}.{suffix}", payload)
            return Delivery(True, True)
        if kind == "tcp":
            return _by_mllp(target, control, payload, timeout_s)
        return _by_http(read_address(target), payload, timeout_s)
    except (OSError, HTTPException, ValueError, InputError, OutputError) as e:
        return Delivery(False, False, str(e) or type(e).__name__)


def _by_mllp(target: str, control: str, payload: str, timeout_s: float) -> Delivery:
    parts = urlsplit(target)
    with socket.create_connection((parts.hostname, parts.port), timeout_s) as line:
        line.settimeout(timeout_s)
        line.sendall(_START + payload.encode() + _END)
        received = b""
        while _END not in received:
            part = line.recv(65536)
            if not part or len(received) > _LONGEST_ANSWER:
                return Delivery(False, False, "the receiver's answer was cut off")
            received += part
    frame = received[received.find(_START) + 1 : received.find(_END)]
    answer = read_answer(frame.decode(errors="replace"))
    if answer is None or answer.control != control:
        return Delivery(False, False, "its answer does not acknowledge this message")
    if answer.accepted:
        return Delivery(True, True)
    reason = answer.reason or "the receiver gave no reason"
    return Delivery(False, not answer.passing, reason)


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: a POST would become a GET and pass a password on."""

    def redirect_request(self, *_: object) -> None:
        return None


def _by_http(target: str, payload: str, timeout_s: float) -> Delivery:
    headers = {"Content-Type": "application/fhir+json", "Accept": "application/json"}
    login, url = split_login(target)
    if login is not None:
        headers["Authorization"] = login.answer(["Basic"], url) or ""
    request = urllib.request.Request(url, payload.encode(), headers)
    try:
        with urllib.request.build_opener(_StayHere).open(request, timeout=timeout_s):
            return Delivery(True, True)
    except urllib.error.HTTPError as e:
        said = e.read(_LONGEST_ANSWER).decode(errors="replace")
        reason = " ".join(f"{e.code} {e.reason} {said}".split())[:500]
        # The server may be restarting, or busy; any other status is about the message.
        again = e.code >= 500 or e.code in (401, 403, 404, 408, 429)
        return Delivery(False, not again, reason)
