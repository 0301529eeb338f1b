"""The lock of the device install keeps step with setup.cfg; see scripts/lock."""

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def locked() -> list[tuple[Requirement, str]]:
    """Each locked version, with the hashes below it."""
    text = (ROOT / "requirements" / "device.txt").read_text()
    entries = re.findall(r"^([a-z].*?) \\\n((?:    --hash=.*\n?)+)", text, re.MULTILINE)
    return [(Requirement(wanted), hashes) for wanted, hashes in entries]


def test_every_version_has_hashes() -> None:
    text = (ROOT / "requirements" / "device.txt").read_text()
    names = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert len(locked()) == len(names) > 10
    for wanted, hashes in locked():
        assert re.fullmatch(r"==[^,]+", str(wanted.specifier)), wanted
        assert re.fullmatch(r"(\s*--hash=sha256:[0-9a-f]{64}( \\)?\n?)+", hashes)


def test_it_holds_what_the_device_install_asks_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    asked = [
        Requirement(line)
        for line in (
            *setup["options"]["install_requires"].splitlines(),
            *setup["options.extras_require"]["edge"].splitlines(),
        )
        if line and 'machine == "armv7l"' not in line
    ]
    assert len(asked) > 8
    for wanted in asked:
        versions = [
            next(iter(entry.specifier)).version
            for entry, _ in locked()
            if entry.name == wanted.name
        ]
        assert versions, f"{wanted.name} is not locked: run scripts/lock"
        assert all(wanted.specifier.contains(v) for v in versions), wanted
