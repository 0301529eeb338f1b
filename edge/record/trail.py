"""What people called cells: an append-only trail in the session's own file.

Every naming is a row and no row is ever changed; undo is one more row. The machine's
decisions stay as they are beside it. `Trail.name` returns when its rows are on the
disk, so what was shown as saved outlives a power cut.

If a cell turned out to be another one (`cells.same_as`), that one gets its namings.
"""

import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from edgecell import __version__
from edgecell.classes import (
    CODES,
    GROUP_CODES,
    NOT_A_CELL,
    OTHER,
    PLATELET,
    SEPARATOR,
    label_of,
)
from edgecell.edge.record.connection import (
    open_database,
    refusals_told,
    transaction,
)
from edgecell.edge.record.damage import damage_told
from edgecell.errors import InputError

_LONGEST = 500
"""Characters of a name or comment."""


def reviewed_label(text: str) -> str:
    """A label as the trail holds it.

    Args:
        text: a class or a group of classes by code or English name ('SNE', 'NEU',
            'bne|sne'), 'not a cell', 'other' for a cell of none of the classes, or
            'other: NAME' where it has a name, such as 'other: LYA'.

    Returns:
        A code; codes joined by '|' for a cell that is one of them; `NOT_A_CELL`;
        'other'; or 'other: NAME'.

    Raises:
        InputError: it is none of these.
    """
    label = label_of(text)
    if label is not None:
        return label
    words = " ".join(text.split())
    kind, colon, name = words.partition(":")
    if words.lower() == NOT_A_CELL:
        return NOT_A_CELL
    if kind.strip().lower() == OTHER and bool(colon) == bool(name.strip()):
        return f"{OTHER}: {_line(name, 'a label')}" if colon else OTHER
    raise InputError(
        f"'{text}' is not a label; give one of {', '.join((*CODES, *GROUP_CODES))}, "
        f"several joined by '{SEPARATOR}', '{NOT_A_CELL}', or '{OTHER}: NAME'"
    )


def codes_of(label: str) -> tuple[str, ...]:
    """The classes that a trail's label allows; none for 'not a cell' and 'other'."""
    return tuple(c for c in label.split(SEPARATOR) if c in CODES)


@dataclass(frozen=True)
class Naming:
    """One row of the trail.

    Attributes:
        naming: its number; they grow.
        act: cells that were named at once share it.
        made: when, UTC, ISO 8601.
        person: who.
        cell: the cell's number then.
        machine: the class that the machine gave then; None if it gave none.
        before: the label that held until then; None if there was none.
        label: see `reviewed_label`; None if no label holds any more.
        comment: in the person's words.
        undoes: the naming that it takes back.
        version: of edgecell.
        model_sha256: hash of the model that had looked at the cell.
    """

    naming: int
    act: int
    made: str
    person: str
    cell: int
    machine: str | None
    before: str | None
    label: str | None
    comment: str
    undoes: int | None
    version: str
    model_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@damage_told
class Trail:
    """A session's trail, open."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        """Uses an open database; `open_trail` opens one."""
        self.folder = folder
        self._db = database

    def name(
        self, person: str, cells: Sequence[int], label: str | None, comment: str = ""
    ) -> list[Naming]:
        """Names cells, all of them or none.

        Args:
            person: who names them.
            cells: their numbers.
            label: what `reviewed_label` takes; None takes the label away.
            comment: in the person's words.

        Returns:
            The rows, which are on the disk.

        Raises:
            InputError: a cell, the label or the person is not known.
            OutputError: the disk doesn't take it.
        """
        return self.name_each(person, dict.fromkeys(cells, label), comment)

    def name_each(
        self, person: str, labels: Mapping[int, str | None], comment: str = ""
    ) -> list[Naming]:
        """Names each of some cells by a label of its own, all of them or none.

        Args:
            person: who names them.
            labels: by the cells' numbers, see `name`.
            comment: in the person's words.

        Returns:
            The rows, which are on the disk.

        Raises:
            InputError: a cell, a label or the person is not known.
            OutputError: the disk doesn't take it.
        """
        person, comment = _line(person, "who names the cells"), _text(comment)
        wanted = {c: x if x is None else reviewed_label(x) for c, x in labels.items()}
        with self._writing():
            changes = [(cell, label, None) for cell, label in wanted.items()]
            return self._append(person, changes, comment)

    def undo(self, person: str) -> list[Naming]:
        """Takes back what a person named last and has not taken back yet.

        Returns:
            The rows that do it; none if there is nothing to take back.

        Raises:
            InputError: somebody has named one of the cells since.
            OutputError: the disk doesn't take it.
        """
        with self._writing():
            last = self._query(
                "WHERE person = :person AND act = (SELECT max(act) FROM namings "
                "WHERE person = :person AND undoes IS NULL AND naming NOT IN "
                "(SELECT undoes FROM namings WHERE undoes IS NOT NULL))",
                {"person": person},
            )
            roots = self.roots()
            since = [n for n in self._query("", {}) if n.person != person]
            for naming in last:
                for other in since:
                    if (
                        other.naming > naming.naming
                        and roots[other.cell] == roots[naming.cell]
                    ):
                        raise InputError(
                            f"cell {naming.cell} has been named by {other.person} "
                            "since; name it again instead of undoing it"
                        )
            taken_back = [(n.cell, n.before, n.naming) for n in last]
            return self._append(person, taken_back, "")

    def namings(self, cell: int | None = None) -> list[Naming]:
        """The whole trail, or that of one cell, oldest first.

        Args:
            cell: with the cells that turned out to be it.
        """
        everything = self._query("", {})
        if cell is None:
            return everything
        roots = self.roots()
        root = roots.get(cell)
        return [n for n in everything if roots.get(n.cell) == root]

    def holding(self) -> dict[int, Naming]:
        """The last naming of each cell, also one that took the label away."""
        roots = self.roots()
        return {roots.get(n.cell, n.cell): n for n in self._query("", {})}

    def reviewed(self) -> dict[int, str]:
        """The present label of each cell that has one, by the cell's number."""
        return {
            cell: naming.label
            for cell, naming in sorted(self.holding().items())
            if naming.label is not None
        }

    def draw(self, count: int, seed: int | None = None) -> list[int]:
        """Draws cells at random until a sample has a size, and keeps the sample.

        Estimates from doubtful cells are biased, so judge the machine on this sample. A
        cell that is drawn stays drawn. What the machine calls a platelet is not drawn:
        there are many, and their size identifies them.

        Args:
            count: cells that the sample is to have; fewer if there are fewer.
            seed: for tests; None for a true draw.

        Returns:
            The sample, in the order of drawing.

        Raises:
            OutputError: the disk doesn't take it.
        """
        with self._writing():
            drawn = self.drawn()
            rows = self._db.execute(
                "SELECT cell FROM decisions JOIN cells USING (cell) "
                "WHERE same_as IS NULL AND cell NOT IN (SELECT cell FROM drawn) "
                "AND code IS NOT ? ORDER BY cell",
                (PLATELET,),
            ).fetchall()
            others = [cell for (cell,) in rows]
            chance = random.SystemRandom() if seed is None else random.Random(seed)
            wanted = max(0, min(count - len(drawn), len(others)))
            new = chance.sample(others, wanted)
            self._db.executemany(
                "INSERT INTO drawn (cell, made) VALUES (?, ?)",
                [(cell, now()) for cell in new],
            )
            return drawn + new

    def drawn(self) -> list[int]:
        """The random sample, in the order of drawing; merged cells once."""
        roots = self.roots()
        rows = self._db.execute("SELECT cell FROM drawn ORDER BY place").fetchall()
        return list(dict.fromkeys(roots.get(cell, cell) for (cell,) in rows))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        advice = "make room or free the file, and name the cells again"
        with refusals_told(self.folder, advice), transaction(self._db):
            yield

    def _append(
        self,
        person: str,
        changes: Sequence[tuple[int, str | None, int | None]],
        comment: str,
    ) -> list[Naming]:
        """Appends a row for each (cell, label, naming that it undoes)."""
        machine = dict(self._db.execute("SELECT cell, code FROM decisions").fetchall())
        (sha256,) = self._db.execute("SELECT model_sha256 FROM session").fetchone()
        (first, act) = self._db.execute(
            "SELECT coalesce(max(naming), 0) + 1, coalesce(max(act), 0) + 1 "
            "FROM namings"
        ).fetchone()
        made, roots, holding = now(), self.roots(), self.holding()
        rows = []
        for number, (cell, label, undoes) in enumerate(changes, first):
            if cell not in roots:
                raise InputError(f"{self.folder} has no cell {cell}")
            root = roots[cell]
            held = holding.get(root)
            before = held.label if held else None
            rows.append(
                Naming(
                    number,
                    act,
                    made,
                    person,
                    cell,
                    machine.get(root),
                    before,
                    label,
                    comment,
                    undoes,
                    __version__,
                    sha256,
                )
            )
        places = ", ".join(f":{column}" for column in _COLUMNS)
        self._db.executemany(
            f"INSERT INTO namings ({', '.join(_COLUMNS)}) VALUES ({places})",
            [row.to_dict() for row in rows],
        )
        return rows

    def _query(self, where: str, values: dict[str, object]) -> list[Naming]:
        rows = self._db.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM namings {where} ORDER BY naming", values
        )
        return [Naming(*row) for row in rows]

    def roots(self) -> dict[int, int]:
        """For each cell the one that counts in its place."""
        same = dict(self._db.execute("SELECT cell, same_as FROM cells").fetchall())
        return {cell: _root(cell, same) for cell in same}


_COLUMNS = tuple(Naming.__dataclass_fields__)


@contextmanager
def open_trail(folder: Path, mode: Literal["ro", "rw"] = "rw") -> Iterator[Trail]:
    """Opens a session's trail; the session may be running.

    Args:
        folder: a folder that 'edgecell run' wrote.
        mode: for reading, or for naming too.

    Raises:
        InputError: it has no record that can be read.
    """
    with open_database(folder, mode) as database:
        yield Trail(folder, database)


def _root(cell: int, same: dict[int, int | None]) -> int:
    """The end of a chain of cells that turned out to be one another."""
    seen = {cell}
    while (further := same.get(cell)) is not None and further not in seen:
        cell = further
        seen.add(cell)
    return cell


def _line(text: str, what: str) -> str:
    """One line of printable text.

    Raises:
        InputError: nothing is left of it, or it is too long.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not line or len(line) > _LONGEST:
        raise InputError(f"{what}: give 1 to {_LONGEST} printable characters")
    return line


def _text(comment: str) -> str:
    """A comment, which may be empty."""
    return _line(comment, "a comment") if comment.strip() else ""


def now() -> str:
    """The time as it is recorded: UTC, ISO 8601, milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
