"""Local accounts: names, passwords by scrypt, roles, sessions that end."""

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from edgecell.errors import InputError, OutputError

Role = Literal["view", "review", "sign", "manage"]
ROLES: tuple[Role, ...] = ("view", "review", "sign", "manage")
"""Each may do what those before it may."""

SESSION_S = 12 * 3600.0
"""A shift; a session ends then, however busy."""

IDLE_S = 3600.0
"""A session that nobody used for so long is over: people walk away from microscopes."""

INVITATION_S = 24 * 3600.0
LEAST_PASSWORD = 10
_MOST_PASSWORD = 1024
_MOST_NAME = 60

# OWASP's password storage cheat sheet: N=2^15, r=8, p=3; 32 MB while it takes.
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 3, "maxmem": 1 << 26}
_TOUCH_S = 60.0
"""How old the note of a session's last use may be: not every picture is a write."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    name TEXT PRIMARY KEY COLLATE NOCASE,
    role TEXT NOT NULL,
    salt BLOB NOT NULL,
    hash BLOB NOT NULL,
    keys TEXT NOT NULL DEFAULT '{}'     -- JSON: own keys of the review page
);
CREATE TABLE IF NOT EXISTS invitations (
    token BLOB PRIMARY KEY,             -- SHA-256 of it
    name TEXT,                          -- whose new password; NULL: they choose
    role TEXT NOT NULL,
    until REAL NOT NULL                 -- seconds since 1970, UTC
);
CREATE TABLE IF NOT EXISTS sessions (
    token BLOB PRIMARY KEY,             -- SHA-256 of it
    name TEXT NOT NULL REFERENCES people ON DELETE CASCADE ON UPDATE CASCADE,
    began REAL NOT NULL,
    used REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Person:
    """Somebody who may use the page.

    Attributes:
        name: as they sign.
        role: what they may do.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether their role includes ``role``."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Accounts:
    """The file of accounts; its calls may come from any thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Keeps people, invitations and sign-ins in one SQLite file, mode 0600.

        Args:
            path: made if it is not there.
            clock: seconds since 1970, UTC.

        Raises:
            OutputError: the file can't be made or written.
        """
        self._path, self._clock = path, clock
        self._hashing = threading.Semaphore(1)  # each takes 32 MB
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            with self._open() as db:
                db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as e:
            raise OutputError(
                f"the accounts in {path} cannot be written: {e}; name another file "
                "with --accounts"
            ) from e

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as db, db:
            db.execute("PRAGMA foreign_keys = ON")
            yield db

    def people(self) -> list[Person]:
        """Everybody, by name."""
        with self._open() as db:
            rows = db.execute("SELECT name, role FROM people ORDER BY name").fetchall()
        return [_person(*row) for row in rows]

    def invite(self, role: Role, name: str | None = None) -> str:
        """Makes a token that lets somebody choose a password, once, within a day.

        Args:
            role: what they will be allowed.
            name: whose password is to be reset; None for a new account.
        """
        token = secrets.token_urlsafe(24)
        with self._open() as db:
            until = self._clock() + INVITATION_S
            values = (_digest(token), name, role, until)
            db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?)", values)
        return token

    def invitation(self, token: str) -> tuple[str | None, Role] | None:
        """Name, if it is settled, and role of an invitation; None if it's not valid."""
        with self._open() as db:
            row = db.execute(
                "SELECT name, role FROM invitations WHERE token = ? AND until > ?",
                (_digest(token), self._clock()),
            ).fetchone()
        return None if row is None else (row[0], cast(Role, row[1]))

    def accept(self, token: str, name: str, password: str) -> Person:
        """Redeems an invitation.

        Raises:
            InputError: it is not valid, the name is taken, or name or password won't
                do.
        """
        name = " ".join(name.split())
        if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
            raise InputError(f"choose a name of 1 to {_MOST_NAME} characters")
        salt, hashed = self._hash_new(password)
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute(
                "DELETE FROM invitations WHERE token = ? AND until > ? "
                "RETURNING name, role",
                (_digest(token), self._clock()),
            ).fetchone()
            if row is None:
                raise InputError(
                    "this link was already used or has expired; ask for a new one"
                )
            settled, role = row
            try:
                if settled is None:
                    db.execute(
                        "INSERT INTO people (name, role, salt, hash) "
                        "VALUES (?, ?, ?, ?)",
                        (name, role, salt, hashed),
                    )
                else:
                    name = settled
                    self._change_password(db, name, salt, hashed)
            except sqlite3.IntegrityError as e:
                raise InputError(f"the name {name} is taken; choose another one") from e
        return _person(name, role)

    @staticmethod
    def _change_password(
        db: sqlite3.Connection, name: str, salt: bytes, hashed: bytes
    ) -> None:
        db.execute(
            "UPDATE people SET salt = ?, hash = ? WHERE name = ?", (salt, hashed, name)
        )
        db.execute("DELETE FROM sessions WHERE name = ?", (name,))

    def _hash_new(self, password: str) -> tuple[bytes, bytes]:
        if not LEAST_PASSWORD <= len(password) <= _MOST_PASSWORD:
            raise InputError(
                f"choose a password of at least {LEAST_PASSWORD} characters"
            )
        salt = secrets.token_bytes(16)
        return salt, self._hash(password, salt)

    def _hash(self, password: str, salt: bytes) -> bytes:
        with self._hashing:
            return hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)

    def sign_in(self, name: str, password: str) -> str | None:
        """Begins a session.

        Returns:
            Its token; None if name or password is wrong, which takes just as long.
        """
        with self._open() as db:
            row = db.execute(
                "SELECT name, salt, hash FROM people WHERE name = ?", (name,)
            ).fetchone()
        known, salt, hashed = row or ("", b"x" * 16, b"")
        given = self._hash(password[:_MOST_PASSWORD], salt)
        if not hmac.compare_digest(given, hashed):
            return None
        return self.begin(known)

    def begin(self, name: str) -> str:
        """Begins a session of somebody who has proved who they are."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._open() as db:
            db.execute("DELETE FROM sessions WHERE began < ?", (now - SESSION_S,))
            values = (_digest(token), name, now, now)
            db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", values)
        return token

    def holder(self, token: str) -> Person | None:
        """Whose session a token is; None if it has ended."""
        now = self._clock()
        with self._open() as db:
            row = db.execute(
                "SELECT name, role, used FROM sessions JOIN people USING (name) "
                "WHERE token = ? AND began > ? AND used > ?",
                (_digest(token), now - SESSION_S, now - IDLE_S),
            ).fetchone()
            if row is not None and row[2] < now - _TOUCH_S:
                values = (now, _digest(token))
                db.execute("UPDATE sessions SET used = ? WHERE token = ?", values)
        return None if row is None else _person(row[0], row[1])

    def sign_out(self, token: str) -> None:
        """Ends a session."""
        with self._open() as db:
            db.execute("DELETE FROM sessions WHERE token = ?", (_digest(token),))

    def set_role(self, name: str, role: Role) -> None:
        """Changes what somebody may do.

        Raises:
            InputError: nobody would be left who manages.
        """
        with self._managed() as db:
            db.execute("UPDATE people SET role = ? WHERE name = ?", (role, name))

    def remove(self, name: str) -> None:
        """Removes an account and its sessions; what it signed stays signed.

        Raises:
            InputError: nobody would be left who manages.
        """
        with self._managed() as db:
            db.execute("DELETE FROM people WHERE name = ?", (name,))

    @contextmanager
    def _managed(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            left = db.execute("SELECT 1 FROM people WHERE role = 'manage'").fetchone()
            if left is None:
                raise InputError(
                    "at least one person must be able to manage the accounts"
                )

    def keys(self, name: str) -> dict[str, str]:
        """Somebody's own keys of the review page, by action."""
        with self._open() as db:
            row = db.execute(
                "SELECT keys FROM people WHERE name = ?", (name,)
            ).fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def set_keys(self, name: str, keys: dict[str, str]) -> None:
        """Keeps somebody's own keys."""
        with self._open() as db:
            values = (json.dumps(keys), name)
            db.execute("UPDATE people SET keys = ? WHERE name = ?", values)


def _digest(token: str) -> bytes:
    """What is kept of a token: who reads the file can't use it."""
    return hashlib.sha256(token.encode()).digest()


def _person(name: str, role: str) -> Person:
    return Person(name, role if role in ROLES else "view")
