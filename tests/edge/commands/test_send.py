import json
from pathlib import Path

import hl7
import pytest
from click.testing import CliRunner, Result

from edgecell.cli import cli
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Review
from edgecell.edge.record.store import Store
from edgecell.edge.record.trail import open_trail
from edgecell.edge.report.signing import Note, Reports
from tests.edge.outbox.receivers import listener
from tests.factories import SESSION, tracked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session with one accepted and one flagged cell."""
    with Store(tmp_path / "s", SESSION, None) as store:
        store.write([tracked(0), tracked(1, reasons=("unsure",))])
        store.end("stopped")
    return tmp_path / "s"


def send(*words: object) -> Result:
    return CliRunner().invoke(cli, ["session", "send", *map(str, words)])


def sign(folder: Path) -> None:
    with open_trail(folder) as trail:
        trail.name("Anna", [2], "SNE")
    with open_database(folder, "rw") as database:
        reports = Reports(Review(folder, database))
        reports.set_note("Anna", Note("S-17"))
        reports.sign("Anna", reports.draft().sha256)


def statuses(message: str) -> dict[str, str]:
    rows = [s for s in hl7.parse(message) if str(s(0)) == "OBX"]
    return {str(r(3)).partition("^")[0]: str(r(11)) for r in rows}


def test_a_preliminary_result_and_then_the_signed_one(folder: Path) -> None:
    with listener() as server:
        result = send(folder, "--hl7", server.address)
        assert result.exit_code == 0, result.output
        assert "delivered" in result.output
        sign(folder)
        assert send(folder, "--hl7", server.address).exit_code == 0
        assert send(folder, "--hl7", server.address).exit_code == 0  # nothing new
        first, second = server.filed.values()
    assert statuses(first)["26505-8"] == "P"
    assert "cells to be reviewed: 1" in first
    assert set(statuses(second).values()) == {"F"}
    assert "769-0" in statuses(second)
    assert "S-17" in second


def test_what_is_not_delivered_stays(folder: Path, tmp_path: Path) -> None:
    with listener() as server:
        gone = server.address
    failed = send(folder, "--hl7", gone, "--patience", 0)
    assert failed.exit_code == 1
    assert "kept in the session" in failed.output
    drop = tmp_path / "inbox"
    drop.mkdir()
    other = send(folder, "--hl7-dir", drop, "--patience", 0)
    assert other.exit_code == 0, other.output
    assert "did not name: 1." in other.output
    assert len(list(drop.glob("*.hl7"))) == 1
    again = send(folder, "--json", "-", "--patience", 0)
    assert again.exit_code == 1, "all receivers are asked for"
    first, second = json.loads(again.stdout)["messages"]
    assert (first["state"], first["attempts"]) == ("waiting", 2)
    assert (second["state"], second["attempts"]) == ("delivered", 1)


@pytest.mark.parametrize(
    "words", [("--hl7-dir", "nosuch"), ("--fhir", "nosuch"), ("--fhir", "ftp://x")]
)
def test_nothing_waits_for_a_receiver_that_is_none(
    folder: Path, words: tuple[str, str]
) -> None:
    refused = send(folder, "--hl7", "tcp://127.0.0.1:9", *words)
    assert refused.exit_code == 1
    assert refused.output.count("\n") == 1
    assert words[1] in refused.output
    assert "The outbox is empty." in send(folder).output


def test_bad_calls_are_one_line(folder: Path, tmp_path: Path) -> None:
    for words in ((tmp_path, "--hl7", "tcp://h:1"), (folder, "--hl7", "lis")):
        result = send(*words)
        assert result.exit_code == 1
        assert result.output.count("\n") == 1
