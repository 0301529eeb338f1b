import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecell.edge.outbox.delivery import (
    Delivery,
    check_target,
    deliver,
    fhir_target,
)
from edgecell.edge.outbox.outbox import Outbox, open_outbox
from edgecell.edge.record.store import Store
from edgecell.errors import InputError
from tests.edge.outbox.receivers import Habit, fhir_server, listener
from tests.edge.outbox.test_messages import result
from tests.factories import SESSION

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "s", SESSION, None) as store:
        store.end("stopped")
    return tmp_path / "s"


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def outcome(folder: Path, target: str, timeout_s: float = 5.0) -> tuple[str, str, int]:
    with open_outbox(folder) as outbox:
        outbox.put(target, result())
        (message,) = outbox.deliver(0.0, timeout_s)
    return message.state, message.reason, message.attempts


def test_an_acknowledged_message_is_sent_once(folder: Path) -> None:
    with listener() as server:
        assert outcome(folder, server.address) == ("delivered", "", 1)
        with open_outbox(folder) as outbox:
            outbox.put(server.address, result())  # the same result again
            assert outbox.deliver(0.0) == []
            assert len(outbox.messages()) == 1
    assert len(server.received) == len(server.filed) == 1


def test_a_rejected_message_is_set_aside(folder: Path) -> None:
    with listener("reject") as server:
        state, reason, _ = outcome(folder, server.address)
        assert (state, reason) == ("rejected", "no such sample")
        with open_outbox(folder) as outbox:
            assert outbox.deliver(0.0) == []
        assert len(server.received) == 1
        server.habit = "accept"  # the laboratory knows the sample now
        assert outcome(folder, server.address) == ("delivered", "", 2)
    assert len(set(server.received)) == 1, "under the same control ID"


@pytest.mark.parametrize(
    "habit", ["silent", "hang up", "rubbish", "other control", "busy"]
)
def test_what_is_not_acknowledged_waits(folder: Path, habit: Habit) -> None:
    with listener(habit) as server:
        state, reason, attempts = outcome(folder, server.address, timeout_s=0.2)
    assert (state, attempts) == ("waiting", 1)
    assert reason


def test_an_absent_receiver_is_tried_with_growing_pauses(folder: Path) -> None:
    clock = Clock()
    answers = [Delivery(False, False, "refused")] * 4 + [Delivery(True, True)]
    with open_outbox(folder) as outbox:
        outbox.put("tcp://127.0.0.1:9", result())
        (message,) = outbox.deliver(
            100.0, attempt=lambda *_: answers.pop(0), clock=clock, sleep=clock.sleep
        )
    assert (message.state, message.attempts) == ("delivered", 5)
    assert clock.slept == [1, 2, 4, 8]


def test_what_still_waits_is_left_for_the_next_call(folder: Path) -> None:
    clock = Clock()
    with open_outbox(folder) as outbox:
        outbox.put("tcp://127.0.0.1:9", result())
        (message,) = outbox.deliver(
            5.0,
            attempt=lambda *_: Delivery(False, False, "refused"),
            clock=clock,
            sleep=clock.sleep,
        )
    assert (message.state, message.reason) == ("waiting", "refused")
    assert clock.now <= 1005


def test_a_folder_gets_one_whole_file(folder: Path, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    for kind, suffix in (("hl7-dir", "hl7"), ("fhir-dir", "json")):
        assert outcome(folder, f"{kind}:{drop}")[0] == "delivered"
        assert len(list(drop.glob(f"*.{suffix}"))) == 1
    drop.rename(tmp_path / "away")  # as a share that is no longer mounted
    gone = deliver(f"hl7-dir:{drop}", "c", "payload", 1.0)
    assert (gone.delivered, gone.final) == (False, False)
    assert not drop.exists()


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "delivered"), (302, "rejected"), (422, "rejected"), (503, "waiting")],
)
def test_a_fhir_server(folder: Path, status: int, state: str) -> None:
    with fhir_server(status) as (address, bodies):
        assert outcome(folder, address)[0] == state
    assert b'"transaction"' in bodies[0]


def test_a_servers_password_is_in_a_file_and_not_in_the_session(
    folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "fhir"
    with fhir_server(200, "pass word") as (address, _):
        assert deliver(address, "c", "{}", 5.0) == Delivery(
            False, False, '401 Unauthorized {"resourceType": "OperationOutcome"}'
        )
        with_login = address.replace("//", "//lab:pass%20word@")
        with pytest.raises(InputError, match="--fhir @FILE"):
            outcome(folder, with_login)
        secret.write_text(with_login)
        secret.chmod(0o600)
        assert outcome(folder, fhir_target(f"@{secret}"))[0] == "delivered"
    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"fhir" in kept
    assert b"pass%20word" not in kept
    secret.write_text("tcp://127.0.0.1")
    with pytest.raises(InputError, match="is not a receiver"):
        check_target(f"@{secret}")


@pytest.mark.parametrize(
    "target", ["http://user:pw@", "https://h:x/fhir", f"http://{'a' * 70}.x/", "@/none"]
)
def test_an_address_that_is_none_is_a_failed_attempt(target: str) -> None:
    assert not deliver(target, "c", "payload", 1.0).delivered


def test_no_path_of_a_session_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    done = deliver(f"hl7-dir:{tmp_path / 'drop'}", "../out", "payload", 1.0)
    assert (done.delivered, done.final) == (False, True)
    assert not (tmp_path / "out.hl7").exists()


@pytest.mark.parametrize(
    "target", ["", "tcp://", "tcp://host", "tcp://host:x", "ftp://host", "hl7-dir:"]
)
def test_no_receiver(target: str) -> None:
    with pytest.raises(InputError):
        check_target(target)


SEND = """
import sys
from pathlib import Path
from edgecell.edge.outbox.outbox import open_outbox
with open_outbox(Path(sys.argv[1])) as outbox:
    print("open", flush=True)
    outbox.deliver(30.0)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_lose_no_message_and_file_none_twice(folder: Path, kills: int) -> None:
    """A sender is killed at random moments until all is delivered."""
    rng = random.Random(3)
    with listener() as server:
        with open_outbox(folder) as outbox:
            _put(outbox, server.address, 3 * kills)
        for _ in range(kills):
            with subprocess.Popen(
                [sys.executable, "-c", SEND, str(folder)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
            ) as sender:
                assert sender.stdout is not None
                sender.stdout.readline()
                time.sleep(rng.uniform(0.0, 0.02))
                sender.send_signal(signal.SIGKILL)
        with open_outbox(folder) as outbox:
            outbox.deliver(0.0)
            messages = outbox.messages()
    assert [m.state for m in messages] == ["delivered"] * 3 * kills
    assert set(server.filed) == {m.control for m in messages}
    # Each kill repeats one message at the most.
    assert 3 * kills <= len(server.received) <= 4 * kills


def _put(outbox: Outbox, target: str, count: int) -> None:
    for i in range(count):
        made = result(sample=f"S-{i}")
        outbox.put(target, type(made)(f"r-{i}", *list(vars(made).values())[1:]))


def test_one_attempt_says_why_it_failed() -> None:
    failed = deliver("tcp://127.0.0.1:9", "c", "payload", 1.0)
    assert not failed.delivered
    assert not failed.final
    assert "refused" in failed.reason
