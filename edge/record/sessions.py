"""Reads what `store` has recorded: figures, and the way from a figure to pixels."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.edge.count.differential import CellCount, Differential
from edgecell.edge.count.readings import Readings, readings
from edgecell.edge.record.connection import DATABASE, open_database, unpack
from edgecell.edge.record.damage import damage_told
from edgecell.edge.record.retention import disk_use
from edgecell.edge.record.trail import Trail
from edgecell.errors import InputError
from edgecell.image.records import Box
from edgecell.model.decision import Decision, cell_words
from edgecell.model.microscopes.microscope import Verdict, in_words
from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import only, possible_classes, softmax
from edgecell.morphology.words import Words


@dataclass(frozen=True)
class Summary:
    """A session in a few words.

    Attributes:
        folder: where it is.
        started: UTC, ISO 8601.
        source: address of the frames' source.
        ended: UTC, ISO 8601; None while it runs, or if it was interrupted.
        end_reason: likewise.
        frames: frames recorded.
        left_out: frames that were looked at and could not be recorded.
        gated: of these, those too poor to be looked at, by reason.
        cells: different cells.
        white_cells: the differential's denominator.
        microscope: which one the cells come from, in one line.
        version: of edgecell.
        model_sha256: hash of the model.
        settings: all else that the figures depend on.
        bytes: on disk, pictures too.
    """

    folder: str
    started: str
    source: str
    ended: str | None
    end_reason: str | None
    frames: int
    left_out: int
    gated: dict[str, int]
    cells: int
    white_cells: int
    microscope: str
    version: str
    model_sha256: str
    settings: dict[str, Any]
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Sighting:
    """A cell in a frame, as far as a decision rests on it.

    Attributes:
        cell: the number that it had then.
        frame: the frame's number.
        name: the frame's file or camera.
        time_s: since the source's start; None for a still.
        captured: seconds since 1970, UTC.
        age_ms: of the frame when the cell was classified.
        box: in pixels of the frame.
        gate: why it couldn't be classified; None if it was.
        code: the class that it votes for by itself; None without a vote.
        probability: of that class.
        logits: float32 (C,); None without a vote.
        seen: PNG of what the network saw; None once --keep has deleted it.
        pixels: JPEG of the same square in the frame's pixels, likewise.
    """

    cell: int
    frame: int
    name: str
    time_s: float | None
    captured: float
    age_ms: float
    box: Box
    gate: str | None
    code: str | None
    probability: float | None
    logits: npt.NDArray[np.float32] | None
    seen: bytes | None
    pixels: bytes | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; without the pictures, but whether they are there."""
        box = self.box
        return asdict(self) | {
            "box": [box.x0, box.y0, box.x1, box.y1],
            "logits": None if self.logits is None else self.logits.tolist(),
            "seen": self.seen is not None,
            "pixels": self.pixels is not None,
        }


@dataclass(frozen=True)
class Place:
    """Where a cell was first seen whole.

    Attributes:
        frame: number of the frame, and of its picture.
        name: the frame's file or camera.
        captured: when, seconds since 1970, UTC.
        box: of the cell in that frame, pixels; None if no sighting there was kept.
    """

    frame: int
    name: str
    captured: float
    box: Box | None


@damage_told
class RecordedSession:
    """A session's record, open for reading; it may be running."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        """Uses an open database; `open_session` opens one."""
        self.folder = folder
        self._db = database
        (model,) = self._one("SELECT model FROM session")
        self.model = ModelRecord.from_json(model, str(folder))

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        row = self._db.execute(query, values).fetchone()
        if row is None:
            raise LookupError("a row is missing")
        return tuple(row)

    def summary(self) -> Summary:
        """The session in a few words."""
        started, source, version, sha256, settings, ended, reason = self._one(
            "SELECT started, source, version, model_sha256, settings, ended, "
            "end_reason FROM session"
        )
        gated = self._db.execute(
            "SELECT gate, count(*) FROM frames WHERE gate IS NOT NULL GROUP BY gate"
        )
        return Summary(
            folder=str(self.folder),
            started=started,
            source=source,
            ended=ended,
            end_reason=reason,
            frames=self._one("SELECT count(*) FROM frames")[0],
            left_out=self._one("SELECT coalesce(sum(frames), 0) FROM left_out")[0],
            gated=dict(gated.fetchall()),
            cells=self._one("SELECT count(*) FROM cells WHERE same_as IS NULL")[0],
            white_cells=self.differential().white_cells,
            microscope=in_words(self.told()),
            version=version,
            model_sha256=sha256,
            settings=json.loads(settings),
            bytes=disk_use(self.folder),
        )

    def told(self) -> dict[tuple[int, int], Verdict]:
        """The identified microscopes, by (width, height) of their frames."""
        rows = self._db.execute(
            "SELECT width, height, kind, name, cells, score, usual FROM microscopes"
        )
        return {(w, h): Verdict(*verdict) for w, h, *verdict in rows}

    def red_cell_px(self) -> list[float]:
        """Diameter of a red cell in the frame of each sighting, pixels."""
        rows = self._db.execute("SELECT red_cell_px FROM sightings")
        return [float(diameter) for (diameter,) in rows]

    def decisions(self) -> list[Decision]:
        """The decision on each cell, by number; merged cells once."""
        rows = self._db.execute(
            "SELECT cell, code, probability, reasons, votes, logits FROM decisions "
            "JOIN cells USING (cell) WHERE same_as IS NULL ORDER BY cell"
        )
        return [
            Decision(
                int(cell),
                code,
                None if probability is None else float(probability),
                tuple(map(str, json.loads(why))),
                int(votes),
                self._logits(logits),
            )
            for cell, code, probability, why, votes, logits in rows
        ]

    def differential(self) -> Differential:
        """The differential of the session."""
        count = CellCount()
        count.put(self.decisions())
        return count.differential()

    def readings(self) -> Readings:
        """What the machine accepts, what it guesses, and what people have named."""
        return readings(self.decisions(), self.trail.reviewed())

    @property
    def trail(self) -> Trail:
        """What people have named."""
        return Trail(self.folder, self._db)

    def attribute_logits(self) -> dict[int, npt.NDArray[np.float32]]:
        """Mean logits of the attributes over each cell's votes, float32 (V,).

        Only cells that have them; merged ones under the number that counts.
        """
        if self.model.attributes is None:
            return {}
        values = len(self.model.attributes.bias)
        roots = self.trail.roots()
        found: dict[int, list[npt.NDArray[np.float32]]] = {}
        for cell, blob in self._db.execute(
            "SELECT cell, m.logits FROM morphology m JOIN sightings USING (sighting)"
        ):
            logits = unpack(blob)
            if len(logits) != values:
                raise ValueError(f"{len(logits)} logits for {values} values")
            found.setdefault(roots[cell], []).append(logits)
        return {
            cell: np.mean(logits, 0, dtype=np.float32) for cell, logits in found.items()
        }

    def words(self, decisions: Sequence[Decision]) -> dict[int, Words]:
        """Describes cells in words, by number; only where there is a basis for it.

        Args:
            decisions: the cells, of this session.
        """
        logits, verdicts = self.attribute_logits(), tuple(self.told().values())
        said = {
            d.cell: cell_words(self.model, d.logits, logits.get(d.cell), verdicts)
            for d in decisions
            if d.logits is not None
        }
        return {cell: words for cell, words in said.items() if words is not None}

    def places(self) -> dict[int, Place]:
        """Where each cell was first seen whole, by the cell's number."""
        rows = self._db.execute(
            "SELECT c.cell, f.frame, f.name, f.captured, s.x0, s.y0, s.x1, s.y1 "
            "FROM cells c JOIN frames f USING (frame) LEFT JOIN sightings s "
            "ON s.cell = c.cell AND s.frame = c.frame"
        )
        return {
            cell: Place(
                int(frame),
                str(name),
                float(captured),
                None if box[0] is None else Box(*map(int, box)),
            )
            for cell, frame, name, captured, *box in rows
        }

    def decision(self, cell: int) -> Decision:
        """The decision on a cell, or on the cell that it was merged into.

        Raises:
            InputError: there is no such cell.
        """
        rows = self._db.execute(
            "WITH RECURSIVE up (cell, same_as) AS ("
            "SELECT cell, same_as FROM cells WHERE cell = ? UNION "
            "SELECT c.cell, c.same_as FROM cells c JOIN up ON c.cell = up.same_as) "
            "SELECT cell FROM up WHERE same_as IS NULL",
            (cell,),
        ).fetchall()
        if not rows:
            (last,) = self._one("SELECT max(cell) FROM cells")
            known = f"numbers go up to {last}" if last else "the session has no cells"
            raise InputError(f"{self.folder} has no cell {cell}: {known}")
        for decision in self.decisions():
            if decision.cell == rows[0][0]:
                return decision
        raise InputError(f"{self.folder} has no decision on cell {cell}")

    def sightings(self, cell: int) -> list[Sighting]:
        """The sightings that the decision on a cell rests on, oldest first.

        The decision's logits are the mean of these, without the classes that the
        cell's size excludes.
        """
        rows = self._db.execute(
            "WITH RECURSIVE same (cell) AS (SELECT ? UNION "
            "SELECT c.cell FROM cells c JOIN same ON c.same_as = same.cell) "
            "SELECT s.cell, s.frame, f.name, f.time_s, f.captured, s.age_ms, s.x0, "
            "s.y0, s.x1, s.y1, s.red_cell_px, s.gate, s.logits, c.seen, c.pixels "
            "FROM sightings s "
            "JOIN frames f ON f.frame = s.frame "
            "LEFT JOIN crops c ON c.sighting = s.sighting "
            "WHERE s.cell IN same ORDER BY s.sighting",
            (cell,),
        )
        return [self._sighting(row) for row in rows]

    def _logits(self, blob: bytes | None) -> npt.NDArray[np.float32] | None:
        if blob is None:
            return None
        logits = unpack(blob)
        if len(logits) != len(self.model.codes):
            raise ValueError(
                f"{len(logits)} logits for {len(self.model.codes)} classes"
            )
        return logits

    def _sighting(self, row: tuple[Any, ...]) -> Sighting:
        cell, frame, name, time_s, captured, age_ms, *rest = row
        *sides, red_cell_px, gate, blob, seen, pixels = rest
        box, codes = Box(*map(int, sides)), self.model.codes
        logits, code, probability = self._logits(blob), None, None
        if logits is not None:
            size = max(box.width, box.height) / red_cell_px
            likely = only(logits, possible_classes(codes, size))
            probabilities = softmax(likely, self.model.temperature)
            code = codes[int(probabilities.argmax())]
            probability = float(probabilities.max())
        return Sighting(
            int(cell),
            int(frame),
            str(name),
            time_s,
            float(captured),
            float(age_ms),
            box,
            gate,
            code,
            probability,
            logits,
            seen,
            pixels,
        )


@contextmanager
def open_session(folder: Path) -> Iterator[RecordedSession]:
    """Opens a session's record for reading.

    Args:
        folder: a folder that 'edgecell run' wrote.

    Raises:
        InputError: it has no record that can be read.
    """
    with open_database(folder, "ro") as database:
        yield RecordedSession(folder, database)


def find_sessions(root: Path) -> list[Path]:
    """The session folders in a folder, or the folder itself if it is one."""
    if (root / DATABASE).is_file():
        return [root]
    return sorted(path.parent for path in root.glob(f"*/{DATABASE}"))
