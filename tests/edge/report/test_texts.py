"""Each text is used, and what is used is there."""

import json
import re
from pathlib import Path
from string import Formatter

from edgecell.classes import NOT_A_CELL, OTHER
from edgecell.edge.page.cells.gallery import STATES
from edgecell.edge.page.cells.keys import DEFAULT
from edgecell.edge.page.people.accounts import ROLES
from edgecell.edge.page.watch.stream import MODES
from edgecell.edge.report.texts import texts, words

EDGE = Path(__file__).parent.parent.parent.parent / "edge"


def used() -> set[str]:
    """Keys that templates and modules name in full."""
    files = [*(EDGE / "page").rglob("*.html"), *EDGE.rglob("*.py")]
    found: set[str] = set()
    for file in files:
        said = file.read_text()
        found |= set(re.findall(r"""\b(?:t|text)\(\s*["']([\w. +]+)["']""", said))
        found |= set(re.findall(r'else "(sessions\.\w+)"', said))
    return {key for key in found if not key.endswith((".", "_"))}


def test_what_is_said_is_there() -> None:
    assert used() <= set(texts())
    made = {f"role.{role}" for role in ROLES} | {f"filter.{state}" for state in STATES}
    made |= {f"live.show_{mode}" for mode in MODES}
    made |= {f"key.{a}" for a in DEFAULT if a.islower() or a in (OTHER, NOT_A_CELL)}
    assert made <= set(texts())


def test_nothing_stands_there_that_is_never_said() -> None:
    groups = ("role.", "filter.", "live.show_", "key.", "reason.", "fixed.", "report.")
    unused = {k for k in texts() if not k.startswith(groups)} - used()
    assert unused == set()


def test_each_text_is_a_template_that_can_be_filled() -> None:
    raw = (EDGE / "report" / "texts" / "en.json").read_text()
    pairs = json.loads(raw, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs), "no key stands there twice"
    for value in texts().values():
        places = [
            name for _, name, _, _ in Formatter().parse(value) if name is not None
        ]
        assert all(name.isidentifier() for name in places)


def test_a_reason_becomes_a_sentence() -> None:
    assert words("several classes possible: SNE, BNE").endswith("apart: SNE, BNE.")
    assert words("out of focus") == "out of focus"
