"""Signed reports: frozen in the session's own file; a change makes a new version."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from edgecell import __version__
from edgecell.edge.record.review import Review
from edgecell.edge.record.trail import now
from edgecell.edge.report.content import Content, View, as_text, content_of, view_of
from edgecell.edge.report.texts import text
from edgecell.errors import InputError

MOST_SIGNATURES = 2


@dataclass(frozen=True)
class Note:
    """What people add to a session: a sample number and a comment."""

    sample: str = ""
    comment: str = ""


@dataclass(frozen=True)
class Signature:
    """Who signed, when (UTC, ISO 8601), with which version of edgecell."""

    person: str
    made: str
    version: str


@dataclass(frozen=True)
class Signed:
    """A report that was signed.

    Attributes:
        version: 1 for the session's first.
        made: when it was frozen, UTC, ISO 8601.
        content: what it says.
        sha256: hash of that.
        signatures: one or two.
    """

    version: int
    made: str
    content: dict[str, Any]
    sha256: str
    signatures: tuple[Signature, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


class Reports:
    """The reports of a session."""

    def __init__(self, review: Review) -> None:
        """Uses an open session."""
        self.review, self._db = review, review.database

    def note(self) -> Note:
        """The current sample number and comment."""
        row = self._db.execute(
            "SELECT sample, comment FROM notes ORDER BY note DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            return Note(*row)
        sample = self.review.session.summary().settings.get("sample")
        return Note(str(sample or ""))

    def set_note(self, person: str, note: Note) -> None:
        """Adds a note, which is the current one from now on.

        Raises:
            OutputError: the disk doesn't take it.
        """
        with self.review.writing():
            self._db.execute(
                "INSERT INTO notes (made, person, sample, comment) VALUES (?, ?, ?, ?)",
                (now(), person, note.sample, note.comment),
            )

    def draft(self) -> Content:
        """What a report says now."""
        note = self.note()
        return content_of(self.review, note.sample, note.comment)

    def last(self) -> Signed | None:
        """The last signed report; None if there is none."""
        signed = self.signed()
        return signed[-1] if signed else None

    def signed(self) -> list[Signed]:
        """All signed reports, oldest first."""
        rows = self._db.execute(
            "SELECT report, made, content, sha256 FROM reports ORDER BY report"
        ).fetchall()
        return [
            Signed(n, made, json.loads(content), sha256, self._signatures(n))
            for n, made, content, sha256 in rows
        ]

    def _signatures(self, report: int) -> tuple[Signature, ...]:
        rows = self._db.execute(
            "SELECT person, made, version FROM signatures WHERE report = ? "
            "ORDER BY signature",
            (report,),
        )
        return tuple(Signature(*row) for row in rows)

    def content(self, version: int | None = None) -> dict[str, Any]:
        """What a report says, see `Content.to_dict`.

        Args:
            version: of a signed one; None for what the session says now.

        Raises:
            InputError: there is no such version.
        """
        return self.draft().to_dict() if version is None else self._of(version).content

    def shown(self, version: int | None = None) -> View:
        """A report in words.

        Args:
            version: see `content`.

        Raises:
            InputError: there is no such version.
        """
        if version is not None:
            signed = self._of(version)
            return view_of(signed.content, _standing(signed), True)
        draft, last = self.draft(), self.last()
        if last is None:
            return view_of(draft.to_dict(), text("report.unsigned"), False)
        if last.sha256 == draft.sha256:
            return view_of(last.content, _standing(last), True)
        stale = text("report.stale", version=last.version)
        return view_of(draft.to_dict(), stale, False)

    def _of(self, version: int) -> Signed:
        for signed in self.signed():
            if signed.version == version:
                return signed
        raise InputError(f"{self.review.folder} has no signed report {version}")

    def is_current(self, report: Signed) -> bool:
        """Whether nothing has changed since a report was signed."""
        return self.draft().sha256 == report.sha256

    def sign(self, person: str, seen_sha256: str) -> Signed:
        """Signs what the report says now, as a new version or as the second person.

        Args:
            person: who signs.
            seen_sha256: hash of what they were shown.

        Raises:
            InputError: cells wait, the session is running, the report has changed since
                they were shown it, or they have already signed it.
            OutputError: the disk doesn't take it.
        """
        with self.review.writing():
            draft = self.draft()
            _check(draft, seen_sha256)
            last = self.last()
            if last is None or last.sha256 != draft.sha256:
                number = 1 if last is None else last.version + 1
                self._db.execute(
                    "INSERT INTO reports VALUES (?, ?, ?, ?)",
                    (number, now(), as_text(draft.to_dict()), draft.sha256),
                )
            else:
                number = last.version
                if person in (s.person for s in last.signatures):
                    raise InputError(f"{person} has signed version {number} already")
                if len(last.signatures) >= MOST_SIGNATURES:
                    raise InputError(f"version {number} has been signed by two people")
            self._db.execute(
                "INSERT INTO signatures (report, person, made, version) "
                "VALUES (?, ?, ?, ?)",
                (number, person, now(), __version__),
            )
        signed = self.last()
        assert signed is not None
        return signed


def _standing(report: Signed) -> str:
    """'Version 1, signed by Ann, 2026-11-26 14:00 UTC'."""
    people = "; ".join(
        text("report.signature", person=s.person, made=_minute(s.made))
        for s in report.signatures
    )
    return text("report.signed", version=report.version, people=people)


def _minute(made: str) -> str:
    return f"{made[:16].replace('T', ' ')} UTC"


def _check(draft: Content, seen_sha256: str) -> None:
    if draft.running:
        raise InputError("the session is still running; end it before you sign")
    if not draft.cells:
        raise InputError("the session has no cells; there is nothing to sign")
    if draft.waiting:
        raise InputError(
            f"cells wait to be reviewed: {draft.waiting}; name them before you sign"
        )
    if draft.sha256 != seen_sha256:
        raise InputError(
            "something has changed since this page was shown; read it again, then sign"
        )
