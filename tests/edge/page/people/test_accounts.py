import stat
from pathlib import Path

import pytest

from edgecell.edge.page.people import accounts as module
from edgecell.edge.page.people.accounts import (
    IDLE_S,
    INVITATION_S,
    SESSION_S,
    Accounts,
    Person,
)
from edgecell.edge.page.people.certificate import make_certificate
from edgecell.edge.page.people.pace import Pace
from edgecell.errors import InputError, OutputError

PASSWORD = "correct horse battery"


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    monkeypatch.setitem(module._SCRYPT, "n", 16)  # fast; the cost is not tested
    return Accounts(tmp_path / "accounts.sqlite", clock)


def test_an_invitation_makes_one_account_and_is_used_up(accounts: Accounts) -> None:
    token = accounts.invite("manage")
    assert accounts.accept(token, " Ann  Lee ", PASSWORD) == Person("Ann Lee", "manage")
    with pytest.raises(InputError, match="used"):
        accounts.accept(token, "Eve", PASSWORD)
    assert accounts.people() == [Person("Ann Lee", "manage")]


def test_an_invitation_ends_after_a_day(accounts: Accounts, clock: Clock) -> None:
    token = accounts.invite("view")
    clock.now += INVITATION_S + 1
    assert accounts.invitation(token) is None
    with pytest.raises(InputError, match="has expired"):
        accounts.accept(token, "Ann", PASSWORD)


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("a\nb\x00", PASSWORD), ("Ann", "short")]
)
def test_a_name_or_password_that_wont_do_leaves_the_link_usable(
    accounts: Accounts, name: str, password: str
) -> None:
    token = accounts.invite("view")
    with pytest.raises(InputError):
        accounts.accept(token, name, password)
    assert accounts.accept(token, "Ann", PASSWORD).name == "Ann"


def test_a_name_is_taken_once_whatever_its_case(accounts: Accounts) -> None:
    accounts.accept(accounts.invite("view"), "Ann", PASSWORD)
    token = accounts.invite("manage")
    with pytest.raises(InputError, match="taken"):
        accounts.accept(token, "ANN", PASSWORD)
    assert accounts.invitation(token) is not None


def test_sign_in_needs_the_password_and_sign_out_ends_it(accounts: Accounts) -> None:
    accounts.accept(accounts.invite("sign"), "Ann", PASSWORD)
    assert accounts.sign_in("Ann", "wrong horse battery") is None
    assert accounts.sign_in("Eve", PASSWORD) is None
    token = accounts.sign_in("ann", PASSWORD)
    assert token is not None
    assert accounts.holder(token) == Person("Ann", "sign")
    assert accounts.holder(token + "x") is None
    accounts.sign_out(token)
    assert accounts.holder(token) is None


def test_sessions_end_when_idle_and_at_the_end_of_a_shift(
    accounts: Accounts, clock: Clock
) -> None:
    accounts.accept(accounts.invite("view"), "Ann", PASSWORD)
    idle, busy = accounts.begin("Ann"), accounts.begin("Ann")
    start = clock.now
    while clock.now < start + SESSION_S - IDLE_S:
        clock.now += IDLE_S - 1
        assert accounts.holder(busy) is not None
    assert accounts.holder(idle) is None
    clock.now = start + SESSION_S + 1
    assert accounts.holder(busy) is None


def test_a_new_password_ends_the_sessions_under_the_old_one(accounts: Accounts) -> None:
    accounts.accept(accounts.invite("manage"), "Ann", PASSWORD)
    token = accounts.begin("Ann")
    accounts.accept(accounts.invite("manage", "Ann"), "ignored", "another password")
    assert accounts.holder(token) is None
    assert accounts.sign_in("Ann", PASSWORD) is None
    assert accounts.sign_in("Ann", "another password") is not None


def test_somebody_is_always_left_who_manages(accounts: Accounts) -> None:
    accounts.accept(accounts.invite("manage"), "Ann", PASSWORD)
    accounts.accept(accounts.invite("view"), "Bob", PASSWORD)
    with pytest.raises(InputError, match="at least one"):
        accounts.remove("Ann")
    with pytest.raises(InputError, match="at least one"):
        accounts.set_role("Ann", "sign")
    accounts.set_role("Bob", "manage")
    accounts.remove("Ann")
    assert accounts.people() == [Person("Bob", "manage")]


def test_a_removed_person_is_out_at_once(accounts: Accounts) -> None:
    accounts.accept(accounts.invite("manage"), "Ann", PASSWORD)
    accounts.accept(accounts.invite("view"), "Bob", PASSWORD)
    token = accounts.begin("Bob")
    accounts.remove("Bob")
    assert accounts.holder(token) is None


def test_the_file_holds_no_password_and_no_token(
    accounts: Accounts, tmp_path: Path
) -> None:
    invitation = accounts.invite("view")
    accounts.accept(accounts.invite("manage"), "Ann", PASSWORD)
    token = accounts.begin("Ann")
    file = tmp_path / "accounts.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_bytes()
    assert b"Ann" in kept
    for secret in (PASSWORD, token, invitation):
        assert secret.encode() not in kept


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--accounts"):
        Accounts(tmp_path / "file" / "accounts.sqlite")


def test_roles_include_those_before_them() -> None:
    assert Person("a", "sign").may("review")
    assert not Person("a", "review").may("sign")
    assert not Person("a", "view").may("review")


def test_each_further_wrong_try_waits_twice_as_long() -> None:
    clock = Clock()
    pace, waits = Pace(clock), []
    for _ in range(8):
        waits.append(pace.wait_s("ann", "10.0.0.7"))
        clock.now += waits[-1]
        pace.failed("ann", "10.0.0.7")
    assert waits == pytest.approx([0, 0, 0, 0, 0, 2, 4, 8])
    # From elsewhere under the same name, and under another from the same address.
    assert pace.wait_s("ann", "10.0.0.8") == pytest.approx(16)
    assert pace.wait_s("bob", "10.0.0.7") == pytest.approx(16)
    assert pace.wait_s("bob", "10.0.0.8") == 0
    pace.succeeded("ann", "10.0.0.7")
    assert pace.wait_s("ann", "10.0.0.7") == 0


def test_a_certificate_names_its_hosts_and_its_key_is_private(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, ["slides.local", "10.0.0.7"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert certificate.read_text().startswith("-----BEGIN CERTIFICATE-----")
    with pytest.raises(OutputError, match="already"):
        make_certificate(tmp_path, ["slides.local"])
    with pytest.raises(InputError, match="neither"):
        make_certificate(tmp_path / "b", ["a,DNS:evil.example"])
