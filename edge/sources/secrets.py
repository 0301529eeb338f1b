"""What an address hides: where cameras put their passwords and how they ask for them.

Records, messages, names of folders, units and udev rules show an address only as
`public_address` or `stream_name` give it. A value that is not known to be harmless is
hidden, since makers invent names for passwords (pwd, loginpas, usr, token, ...).
"""

import base64
import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlsplit, urlunsplit

from edgecell.errors import InputError
from edgecell.files import printable

HIDDEN = "***"
_FILE = "@"
_LONGEST_ADDRESS = 4096
_LONGEST_NAME = 60

_HARMLESS = frozenset(
    "action audio bitrate brightness cam camera ch channel channelid chn codec "
    "compression contrast device encoder fmt format fps framerate framesize h height "
    "id image input inst live mode mountpoint multicast no profile proto protocol "
    "quality rate req res resolution rotation size stream streamid streamtype subtype "
    "transport type unicast video videocodec w width".split()
)
"""Parameters of streams whose values may be shown."""

_GST_HIDES = re.compile(
    r"user|login|pass|pw|secret|token|key|auth|cred|cookie|header|session|sig|pin$",
    re.IGNORECASE,
)
"""Properties of GStreamer elements whose values may not."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/+)(.*)", re.DOTALL)
_GST_PROPERTY = re.compile(r"""([\w:-]+)(\s*=\s*)("(?:\\.|[^"])*"|'[^']*'|\S+)""")
# 'user=anna_password=x_channel=1': the next name ends a value.
_PARAMETER = re.compile(r"([^=&;,_?#]+)=(.*?)(?=[&;,_]+[^=&;,_]+=|[&;,]|$)", re.DOTALL)

_HASHES: Mapping[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}
_OF_SESSION = "-SESS"

# A parameter and its value, or a word that stands alone: the name of a scheme.
_WORD = re.compile(
    r"""([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?"""
)


def public_address(address: str) -> str:
    """An address without user and password, as printable Unicode.

    Args:
        address: what `open_source` takes.
    """
    address = printable(address)
    if address.startswith("gst://"):
        return f"gst://{_public_pipeline(address.removeprefix('gst://'))}"
    return _public_url(address)


def hides_something(address: str) -> bool:
    """Whether an address contains something that must not be shown."""
    return public_address(address) != printable(address)


def stream_name(url: str) -> str:
    """Host and path of a URL as one word, fit for a folder's name."""
    match = _URL.fullmatch(public_address(url))
    rest = match[3].partition("?")[0] if match else ""
    host, _, path = rest.partition("/")
    host = host.rpartition(":")[0] or host  # without the port
    shown = _PARAMETER.sub(lambda m: "" if m[2] == HIDDEN else m[0], path)
    words = re.findall(r"[\w.=]+(?:-[\w.=]+)*", f"{host}/{shown}".replace(HIDDEN, ""))
    return "-".join(words)[:_LONGEST_NAME] or "stream"


def read_address(source: str) -> str:
    """Resolves an address: '@FILE' stands for the content of a file.

    This keeps passwords out of process lists and shell histories.

    Args:
        source: an address, or '@' and the path of a file with one.

    Raises:
        InputError: there is no such file, others may read it, or it has no address.
    """
    if not source.startswith(_FILE) or Path(source).exists():
        return source
    path = Path(source.removeprefix(_FILE))
    try:
        with path.open("rb") as file:
            # Not the group's: systemd lends its credentials by an access list.
            readable = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007
            text = os.fsdecode(file.read(_LONGEST_ADDRESS + 1)).strip()
    except OSError as e:
        raise InputError(f"{path}, which holds the address: {e.strerror}") from e
    if readable:
        raise InputError(
            f"{path} holds an address and may be read by anybody; "
            f"make it your own with 'chmod 600 {path}'"
        )
    if not text or len(text) > _LONGEST_ADDRESS or len(text.splitlines()) != 1:
        raise InputError(f"{path} must hold one line, the address")
    return text


def _public_url(address: str) -> str:
    match = _URL.fullmatch(address)
    if match is None:
        return address
    scheme, slashes, rest = match.groups()
    host, path = _host_and_path(rest)
    path, mark, query = path.partition("#")[0].partition("?")
    segments = [_public_segment(segment) for segment in path.split("/")]
    shown = "/".join(segments) + mark + _public_parameters(query)
    return f"{scheme}:{slashes}{host}{shown}"


def _host_and_path(rest: str) -> tuple[str, str]:
    """Splits what follows a scheme, and leaves user and password out.

    A password may hold any character where whoever typed it did not encode it.
    """
    end = re.search(r"[/?#]|$", rest)
    at = end.start() if end else len(rest)
    authority, path = rest[:at], rest[at:]
    if "@" in authority:
        return authority.rpartition("@")[2], path
    name, colon, port = authority.partition(":")
    is_host = "." in name or name in ("", "localhost") or name.startswith("[")
    if colon and "@" in path and not (is_host and (port.isdecimal() or "[" in name)):
        host, slash, path = rest.rpartition("@")[2].partition("/")
        return host, slash + path
    return authority, path


def _public_segment(segment: str) -> str:
    """A part of a path; 'anna:secret' and 'user=anna&password=secret' are hidden."""
    if "=" in segment:
        return _public_parameters(segment)
    return HIDDEN if re.search(r"[^:]:[^:]", segment) else segment


def _public_parameters(text: str) -> str:
    def shown(match: re.Match[str]) -> str:
        harmless = match[1].lower() in _HARMLESS
        return match[0] if harmless else f"{match[1]}={HIDDEN}"

    if text and "=" not in text:
        return HIDDEN  # a token alone
    return _PARAMETER.sub(shown, text)


def _public_pipeline(pipeline: str) -> str:
    def shown(match: re.Match[str]) -> str:
        name, equals, value = match.groups()
        if _GST_HIDES.search(name):
            return f"{name}{equals}{HIDDEN}"
        quote = value[0] if value[0] in "\"'" else ""
        inner = value.strip(quote) if quote else value
        return f"{name}{equals}{quote}{_public_url(inner)}{quote}"

    return _GST_PROPERTY.sub(shown, pipeline)


@dataclass(frozen=True)
class Login:
    """A user and a password; printing it reveals neither.

    Attributes:
        user: their name.
        password: it.
    """

    user: str = field(repr=False)
    password: str = field(repr=False)

    def answer(self, challenges: Sequence[str], target: str) -> str | None:
        """Answers the first challenge that it can, Digest before Basic.

        Args:
            challenges: WWW-Authenticate headers.
            target: what the request names, path and query.

        Returns:
            An Authorization header; None if none can be answered.
        """
        offered = parse_challenges(challenges)
        for scheme, fields in offered:
            if scheme == "digest":
                answer = self.digest(fields, target, token_hex(8))
                if answer is not None:
                    return answer
        if any(scheme == "basic" for scheme, _ in offered):
            secret = f"{self.user}:{self.password}".encode()
            return f"Basic {base64.b64encode(secret).decode()}"
        return None

    def digest(self, fields: Mapping[str, str], target: str, cnonce: str) -> str | None:
        """Answers a Digest challenge to a GET request (RFC 7616, 3.4).

        Args:
            fields: the challenge's.
            target: what the request names.
            cnonce: random letters.

        Returns:
            An Authorization header; None for a hash or protection that isn't known.
        """
        algorithm = fields.get("algorithm", "MD5")
        digest = _HASHES.get(algorithm.upper().removesuffix(_OF_SESSION))
        protections = [q.strip() for q in fields.get("qop", "auth").split(",")]
        if digest is None or "auth" not in protections:
            return None

        def h(*words: str) -> str:
            return digest(":".join(words).encode())

        realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
        answer = {"username": self.user, "realm": realm, "nonce": nonce, "uri": target}
        a1, a2 = h(self.user, realm, self.password), h("GET", target)
        if algorithm.upper().endswith(_OF_SESSION):
            a1 = h(a1, nonce, cnonce)
        if "qop" in fields:
            answer["response"] = h(a1, nonce, "00000001", cnonce, "auth", a2)
            answer["cnonce"] = cnonce
        else:
            answer["response"] = h(a1, nonce, a2)
        if "opaque" in fields:
            answer["opaque"] = fields["opaque"]
        quoted = [f'{name}="{_quoted(value)}"' for name, value in answer.items()]
        bare = [f"algorithm={algorithm}"] if "algorithm" in fields else []
        bare += ["qop=auth", "nc=00000001"] if "qop" in fields else []
        return f"Digest {', '.join(quoted + bare)}"


def split_login(url: str) -> tuple[Login | None, str]:
    """User and password of a URL, and the URL without them.

    Raises:
        ValueError: it is no URL.
    """
    parts = urlsplit(url)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username is None:
        return None, plain
    return Login(unquote(parts.username), unquote(parts.password or "")), plain


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")


def parse_challenges(headers: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Splits WWW-Authenticate headers, each of which may hold several challenges.

    Returns:
        The scheme and the fields of each challenge, with names in lower case.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        for match in _WORD.finditer(header):
            name, quoted, plain = match.groups()
            if quoted is None and plain is None:
                found.append((name.lower(), {}))
            elif found:
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1][1][name.lower()] = value
    return found
