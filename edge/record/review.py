"""A session as reviewers see it: each cell in short, questions, what each has seen."""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.classes import CODES
from edgecell.edge.record.connection import refusals_told, transaction
from edgecell.edge.record.damage import damage_told
from edgecell.edge.record.policy import SEED
from edgecell.edge.record.sessions import RecordedSession, Sighting
from edgecell.edge.record.trail import Naming, Trail, now
from edgecell.errors import InputError
from edgecell.image.records import Box
from edgecell.model.probabilities import softmax

TOP = 3
"""Classes that are named of a cell."""

_ADVICE = "make room or free the file, and try again"


@dataclass(frozen=True)
class Look:
    """A cell in short.

    Attributes:
        cell: its number.
        code: the machine's class; None if it gave none.
        probability: of that class, 0..1; None likewise.
        reasons: why a person has to look at it; empty if the machine accepts it.
        top: its most probable classes with their probabilities, best first.
        votes: sightings that voted.
        sighting: the one whose pixels are shown; None once --keep has deleted all.
        naming: the last naming of it; None if nobody named it.
        differ: whether people gave it different labels.
        asked: who asked for a second opinion that nobody else has given; '' if nobody.
        drawn: whether it is in the random sample.
        seen: whether the person who looks has seen it.
    """

    cell: int
    code: str | None
    probability: float | None
    reasons: tuple[str, ...]
    top: tuple[tuple[str, float], ...]
    votes: int
    sighting: int | None
    naming: Naming | None
    differ: bool
    asked: str
    drawn: bool
    seen: bool

    @property
    def label(self) -> str | None:
        """The label that people gave it; None if there is none."""
        return None if self.naming is None else self.naming.label

    @property
    def waits(self) -> bool:
        """Whether nobody has decided on it yet."""
        return self.label is None and (bool(self.reasons) or self.code is None)

    @property
    def now(self) -> str:
        """What it is listed under: its label, else the machine's class, else ''."""
        return self.label or self.code or ""


@dataclass(frozen=True, eq=False)
class Shown:
    """An explanation, finished or still pending.

    Attributes:
        method: its name.
        code: the class that is explained.
        heat: float32 (S, S), signed; None while it is not made.
        error: why it failed; '' if it did not.
    """

    method: str
    code: str
    heat: npt.NDArray[np.float32] | None
    error: str


@dataclass(frozen=True)
class Place:
    """Where a sighting lies: its frame's number, the cell, and the crop around it."""

    frame: int
    box: Box
    crop: Box


@damage_told
class Review:
    """A session, open for review.

    Attributes:
        folder: the session's.
        session: its record.
        trail: its namings.
        database: its file.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        """Uses an open database; see `connection.open_database`."""
        self.folder = folder
        self.session = RecordedSession(folder, database)
        self.trail = Trail(folder, database)
        self.database = self._db = database

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction; what the disk refuses becomes an `OutputError`."""
        with refusals_told(self.folder, _ADVICE), transaction(self._db):
            yield

    def looks(self, person: str) -> list[Look]:
        """Every cell once, by number.

        Args:
            person: who looks.
        """
        codes, heat = self.session.model.codes, self.session.model.temperature
        holding, differ = self.trail.holding(), self._differing()
        sightings, asked = self._sightings(), self._asked()
        drawn, seen = set(self.trail.drawn()), self._seen(person)
        looks = []
        for d in self.session.decisions():
            naming = holding.get(d.cell)
            top: tuple[tuple[str, float], ...] = ()
            if d.logits is not None:
                p = softmax(d.logits, heat)
                best = np.argsort(-p)[:TOP]
                top = tuple((codes[i], float(p[i])) for i in best)
            looks.append(
                Look(
                    d.cell,
                    d.code,
                    d.probability,
                    d.reasons,
                    top,
                    d.votes,
                    sightings.get(d.cell),
                    naming,
                    d.cell in differ,
                    asked.get(d.cell, ""),
                    d.cell in drawn,
                    d.cell in seen or (naming is not None and naming.person == person),
                )
            )
        return looks

    def _sightings(self) -> dict[int, int]:
        """The last sighting of each cell whose pixels are kept."""
        roots = self.trail.roots()
        rows = self._db.execute(
            "SELECT cell, max(sighting) FROM sightings JOIN crops USING (sighting) "
            "GROUP BY cell ORDER BY 2"
        )
        return {roots[cell]: sighting for cell, sighting in rows}

    def _differing(self) -> set[int]:
        """Cells that different people named differently in the end."""
        roots, last = self.trail.roots(), {}
        for n in self.trail.namings():
            last[roots.get(n.cell, n.cell), n.person] = n.label
        labels: dict[int, set[str]] = {}
        for (cell, _), label in last.items():
            if label is not None:
                labels.setdefault(cell, set()).add(label)
        return {cell for cell, given in labels.items() if len(given) > 1}

    def _asked(self) -> dict[int, str]:
        """Cells with an open question, and who asked."""
        roots = self.trail.roots()
        rows = self._db.execute(
            "SELECT cell, person, after FROM questions ORDER BY question"
        ).fetchall()
        asked = {roots.get(cell, cell): (person, at) for cell, person, at in rows}
        for n in self.trail.namings() if asked else ():
            cell = roots.get(n.cell, n.cell)
            person, at = asked.get(cell, ("", 0))
            if person and n.person != person and n.naming > at:
                del asked[cell]
        return {cell: person for cell, (person, _) in asked.items()}

    def _seen(self, person: str) -> set[int]:
        rows = self._db.execute("SELECT cell FROM seen WHERE person = ?", (person,))
        return {cell for (cell,) in rows}

    def accept(
        self, person: str, cells: Sequence[int], comment: str = ""
    ) -> list[Naming]:
        """Names each cell as the machine does.

        Args:
            person: who accepts.
            cells: their numbers.
            comment: in the person's words.

        Raises:
            InputError: the machine gave one of them no class.
            OutputError: the disk doesn't take it.
        """
        said = {d.cell: d.code for d in self.session.decisions()}
        labels = {cell: said.get(cell) for cell in cells}
        unnamed = [cell for cell, code in labels.items() if code not in CODES]
        if unnamed:
            raise InputError(f"the machine gave cell {unnamed[0]} no class; name it")
        return self.trail.name_each(person, labels, comment)

    def ask(self, person: str, cells: Sequence[int]) -> None:
        """Asks for a second opinion on cells.

        Raises:
            OutputError: the disk doesn't take it.
        """
        with self.writing():
            self._db.executemany(
                "INSERT INTO questions (made, person, cell, after) SELECT ?, ?, ?, "
                "coalesce(max(naming), 0) FROM namings",
                [(now(), person, cell) for cell in cells],
            )

    def saw(self, person: str, cells: Sequence[int]) -> None:
        """Records what a person has seen.

        Raises:
            OutputError: the disk doesn't take it.
        """
        with self.writing():
            self._db.executemany(
                "INSERT OR IGNORE INTO seen SELECT ?, cell, ? FROM cells "
                "WHERE cell = ?",
                [(person, now(), cell) for cell in cells],
            )

    def crop(self, sighting: int) -> bytes | None:
        """JPEG of a sighting in the camera's own pixels; None if it is not kept."""
        row = self._db.execute(
            "SELECT pixels FROM crops WHERE sighting = ?", (sighting,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def heat(self, sighting: int) -> npt.NDArray[np.float32] | None:
        """The Grad-CAM map of a sighting, float32 (h, w) in [0, 1], if it was kept."""
        row = self._db.execute(
            "SELECT rows, heat FROM maps WHERE sighting = ?", (sighting,)
        ).fetchone()
        if row is None:
            return None
        levels = np.frombuffer(row[1], np.uint8).reshape(row[0], -1)
        return levels.astype(np.float32) / np.float32(255)

    def numbered_sightings(self, cell: int) -> list[tuple[int, Sighting]]:
        """The sightings that a decision rests on, oldest first, with their numbers."""
        roots = self.trail.roots()
        rows = self._db.execute(
            "SELECT sighting, cell FROM sightings ORDER BY sighting"
        )
        numbers = [number for number, of in rows if roots[of] == cell]
        return list(zip(numbers, self.session.sightings(cell), strict=True))

    def place(self, sighting: int) -> Place | None:
        """Where a sighting lies; None if there is no such sighting."""
        row = self._db.execute(
            "SELECT frame, x0, y0, x1, y1, crop_x0, crop_y0, crop_x1, crop_y1 "
            "FROM sightings WHERE sighting = ?",
            (sighting,),
        ).fetchone()
        return None if row is None else Place(row[0], Box(*row[1:5]), Box(*row[5:]))

    def explain(self, cell: int, method: str) -> None:
        """Puts an explanation of the machine's class on the queue, if it isn't there.

        Raises:
            InputError: the cell has no class, or its pixels are gone.
            OutputError: the disk doesn't take it.
        """
        decision = self.session.decision(cell)
        sighting = self._sightings().get(decision.cell)
        if decision.code is None or sighting is None:
            raise InputError(f"cell {cell} has no class or no pixels to explain")
        with self.writing():
            self._db.execute(
                "INSERT OR IGNORE INTO jobs (cell, sighting, method, code, seed) "
                "VALUES (?, ?, ?, ?, ?)",
                (decision.cell, sighting, method, decision.code, SEED),
            )

    def explained(self, cell: int) -> list[Shown]:
        """The explanations of a cell that were asked for."""
        rows = self._db.execute(
            "SELECT method, code, heat, coalesce(error, '') FROM jobs "
            "LEFT JOIN explanations USING (job) WHERE cell = ? ORDER BY job",
            (cell,),
        ).fetchall()
        size = self.session.model.preprocessing.input_size
        return [Shown(m, c, _unpacked(heat, size), error) for m, c, heat, error in rows]

    def explanations_waiting(self) -> int:
        """Jobs of the queue that have no result yet."""
        (waiting,) = self._db.execute(
            "SELECT count(*) FROM jobs WHERE job NOT IN (SELECT job FROM explanations)"
        ).fetchone()
        return int(waiting)

    def last_captured(self) -> float:
        """When the last frame was taken, seconds since 1970, UTC; 0 without frames."""
        (last,) = self._db.execute("SELECT max(captured) FROM frames").fetchone()
        return float(last or 0)

    def newest(self) -> int:
        """A number that grows with each naming and question, for others to notice."""
        (last,) = self._db.execute(
            "SELECT (SELECT count(*) FROM namings) + (SELECT count(*) FROM questions)"
        ).fetchone()
        return int(last)


def _unpacked(heat: bytes | None, size: int) -> npt.NDArray[np.float32] | None:
    if heat is None:
        return None
    signed = np.frombuffer(zlib.decompress(heat), "<f2").reshape(size, size)
    return signed.astype(np.float32)
