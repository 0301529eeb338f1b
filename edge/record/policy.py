"""Which cells the camera loop puts on the queue of explanations."""

import re
import sqlite3
from dataclasses import dataclass
from typing import Literal

from edgecell.edge.record.connection import unpack
from edgecell.errors import InputError
from edgecell.model.decision import Decision

_COUNT = re.compile(r"0*[1-9][0-9]{0,8}")
SEED = 0
"""Of whatever a method draws: the same cell gives the same explanation."""


@dataclass(frozen=True)
class Policy:
    """Which cells are explained later, and how.

    Attributes:
        which: no cell, those to be reviewed, some of each class, or all.
        per_class: how many of each class, for 'sample'.
        methods: names from `EXPLAINERS`; one job each.
    """

    which: Literal["none", "flagged", "sample", "all"] = "none"
    per_class: int = 0
    methods: tuple[str, ...] = ("lime",)


def parse_policy(text: str, methods: tuple[str, ...]) -> Policy:
    """Reads 'none', 'flagged', 'all' or 'sample:N'.

    Raises:
        InputError: it is none of these.
    """
    if text in ("none", "flagged", "all"):
        return Policy(text, 0, methods)  # type: ignore[arg-type]
    kind, _, count = text.partition(":")
    if kind == "sample" and _COUNT.fullmatch(count):
        return Policy("sample", int(count), methods)
    raise InputError(
        f"'{text}' does not say which cells to explain; choose none, flagged, all, or "
        "sample:N for N cells of each class"
    )


def keep_queue(
    database: sqlite3.Connection, policy: Policy, decision: Decision
) -> None:
    """Brings a cell's jobs into line with the present decision on it.

    A decision changes while its cell is in view; jobs that nobody has begun are changed
    with it.

    Args:
        database: the session's, inside the transaction that records the decision and
            the sightings that it rests on.
        policy: which cells are wanted.
        decision: a new or changed one.
    """
    sighting = _best_sighting(database, decision)
    if sighting is None or not _wanted(database, policy, decision):
        database.execute(
            "DELETE FROM jobs WHERE cell = ? AND claims = 0", (decision.cell,)
        )
        return
    database.executemany(
        "INSERT INTO jobs (cell, sighting, method, code, seed) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (cell, method) DO UPDATE SET sighting = excluded.sighting, "
        "code = excluded.code WHERE claims = 0",
        [
            (decision.cell, sighting, method, decision.code, SEED)
            for method in policy.methods
        ],
    )


def _best_sighting(database: sqlite3.Connection, decision: Decision) -> int | None:
    """The last one that by itself is called what the cell is; else the last."""
    rows = database.execute(
        "SELECT sighting, logits FROM sightings WHERE cell = ? AND logits IS NOT NULL "
        "ORDER BY sighting DESC",
        (decision.cell,),
    ).fetchall()
    if not rows or decision.logits is None:
        return None
    called = decision.logits.argmax()
    for sighting, logits in rows:
        if unpack(logits).argmax() == called:
            return int(sighting)
    return int(rows[0][0])


def _wanted(database: sqlite3.Connection, policy: Policy, decision: Decision) -> bool:
    if decision.same_as is not None or decision.code is None:
        return False
    if policy.which == "sample":
        (others,) = database.execute(
            "SELECT count(DISTINCT cell) FROM jobs WHERE code = ? AND cell <> ?",
            (decision.code, decision.cell),
        ).fetchone()
        return bool(others < policy.per_class)
    return policy.which == "all" or (
        policy.which == "flagged" and bool(decision.reasons)
    )
