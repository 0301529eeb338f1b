"""Messages that wait to be delivered, in the session's own file.

A message is written before it is first sent and marked when the receiver has
acknowledged it, each on the disk. After a kill or power cut between the two, it is sent
again under the same control ID, which lets the receiver recognise it.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecell.edge.outbox.delivery import Delivery, check_target, deliver
from edgecell.edge.outbox.fhir import bundle
from edgecell.edge.outbox.hl7 import oru_r01
from edgecell.edge.outbox.result import LabResult
from edgecell.edge.record.connection import (
    open_database,
    refusals_told,
    transaction,
)

Deliver = Callable[[str, str, str, float], Delivery]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 600.0
_ADVICE = "make room or free the file, and send the result again"


@dataclass(frozen=True)
class Message:
    """A message in the outbox.

    Attributes:
        control: its control ID.
        target: where it goes, see `delivery.check_target`.
        payload: the message itself.
        result: identifier of the result that it carries.
        attempts: how often it was sent.
        due: when to send it next, seconds since 1970, UTC.
        state: 'waiting', 'delivered', or 'rejected'.
        reason: why the last attempt failed; empty if it didn't.
    """

    control: str
    target: str
    payload: str
    result: str
    attempts: int
    due: float
    state: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the payload."""
        return {k: v for k, v in asdict(self).items() if k != "payload"}


class Outbox:
    """A session's outbox, open."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        """Uses an open database; `open_outbox` opens one."""
        self._folder = folder
        self._db = database

    def put(self, target: str, result: LabResult) -> Message:
        """Puts a result into the outbox, once for each target.

        A message that the target rejected waits again: whoever sends it again has fixed
        what it was rejected for.

        Returns:
            Its message, which is on the disk; the earlier one if it is there already.

        Raises:
            InputError: the target is not valid.
            OutputError: the disk doesn't take it.
        """
        kind = check_target(target)
        control = uuid.uuid4().hex[:20]  # MSH-10 holds 20 characters
        payload = (
            oru_r01(result, control)
            if kind == "hl7"
            else json.dumps(bundle(result), indent=1)
        )
        with refusals_told(self._folder, _ADVICE), transaction(self._db):
            self._db.execute(
                "INSERT OR IGNORE INTO outbox (control, target, result, payload, due) "
                "VALUES (?, ?, ?, ?, 0)",
                (control, target, result.identifier, payload),
            )
            self._db.execute(
                "UPDATE outbox SET state = 'waiting', due = 0 WHERE target = ? "
                "AND result = ? AND state = 'rejected'",
                (target, result.identifier),
            )
        return self._read("target = ? AND result = ?", target, result.identifier)[0]

    def messages(self) -> list[Message]:
        """All messages, oldest first."""
        return self._read("true")

    def deliver(
        self,
        patience_s: float,
        timeout_s: float = 10.0,
        targets: Collection[str] = (),
        attempt: Deliver = deliver,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> list[Message]:
        """Sends what waits, again and again with growing pauses.

        Args:
            patience_s: seconds after which what still waits is left for the next call.
            timeout_s: how long a receiver may take to answer.
            targets: send to these alone; empty for all.
            attempt: makes one attempt.
            clock: seconds since 1970.
            sleep: waits for seconds.

        Returns:
            The messages that waited at the start, as they are now.

        Raises:
            OutputError: the disk doesn't take the outcome.
        """
        end = clock() + patience_s
        to_these = "true"
        if targets:
            to_these = f"target IN ({', '.join('?' * len(targets))})"
        here = self._read(f"state = 'waiting' AND {to_these}", *targets)
        waiting = {m.control: m for m in here}
        for message in waiting.values():
            self._settle(message, attempt, timeout_s, clock)
        soon = f"state = 'waiting' AND due <= ? AND {to_these}"
        while left := self._read(soon, end, *targets):
            message = min(left, key=lambda m: m.due)
            if message.due > clock():
                sleep(message.due - clock())
            self._settle(message, attempt, timeout_s, clock)
        return [m for m in self.messages() if m.control in waiting]

    def _settle(
        self,
        message: Message,
        attempt: Deliver,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Makes one attempt and writes its outcome to the disk."""
        outcome = attempt(message.target, message.control, message.payload, timeout_s)
        pause = min(_FIRST_PAUSE_S * 2**message.attempts, _LONGEST_PAUSE_S)
        state = "waiting"
        if outcome.final:
            state = "delivered" if outcome.delivered else "rejected"
        with refusals_told(self._folder, _ADVICE), transaction(self._db):
            self._db.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ?, state = ?, "
                "reason = ? WHERE control = ? AND state = 'waiting'",
                (clock() + pause, state, outcome.reason, message.control),
            )

    def _read(self, where: str, *values: object) -> list[Message]:
        rows = self._db.execute(
            "SELECT control, target, payload, result, attempts, due, state, reason "
            f"FROM outbox WHERE {where} ORDER BY message",
            values,
        )
        return [Message(*row) for row in rows]


@contextmanager
def open_outbox(folder: Path) -> Iterator[Outbox]:
    """Opens a session's outbox.

    Args:
        folder: a folder that 'edgecell run' wrote.

    Raises:
        InputError: it has no record that can be read.
    """
    with open_database(folder, "rw") as database:
        yield Outbox(folder, database)
