import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edgecell.edge.count.scope import (
    Scope,
    Shown,
    read_scope,
    scope_for,
    write_scope,
)
from edgecell.errors import InputError
from tests.factories import MODEL

SCOPE = Scope(
    width=640,
    height=480,
    red_cell_px=40.0,
    microscope="lab",
    model_sha256="ab" * 32,
    record_sha256="",
    shown=Shown(40, 37, 36, 36),
    sessions=("0123abcd",),
    made="2026-11-26T17:00:00.000+00:00",
)


@pytest.mark.parametrize(
    ("right", "accepted", "least", "holds", "missing"),
    [
        # With all right the lower bound is 0.025 ** (1 / n): 0.8999 for 35.
        (36, 36, 0.9, True, 0),
        (35, 35, 0.9, False, 1),
        (9, 9, 0.9, False, 27),
        (0, 0, 0.9, False, 36),
        (73, 73, 0.95, True, 0),
        (71, 71, 0.95, False, 1),
        # R: binom.test(52, 53)$conf.int[1] = 0.8993, of 53 of 54 it is 0.9011.
        (52, 53, 0.9, False, 1),
        (53, 54, 0.9, True, 0),
    ],
)
def test_what_is_enough_to_be_shown(
    right: int, accepted: int, least: float, holds: bool, missing: int
) -> None:
    shown = Shown(accepted, right, accepted, right, least)
    assert (shown.holds, shown.missing) == (holds, missing)
    after = Shown(
        accepted + missing, right + missing, accepted + missing, right + missing, least
    )
    assert after.holds


def test_a_scope_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_scope(tmp_path / "mine.json", SCOPE)
    assert read_scope(tmp_path / "mine.json") == SCOPE
    later = replace(SCOPE, red_cell_px=44.0, shown=Shown(50, 50, 50, 50))
    write_scope(tmp_path / "mine.json", later)
    assert read_scope(tmp_path / "mine.json") == later


def test_the_scope_of_another_camera_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    write_scope(path, SCOPE)
    before = path.read_bytes()
    for other in (replace(SCOPE, width=641), replace(SCOPE, red_cell_px=60.0)):
        with pytest.raises(InputError, match="of another camera"):
            write_scope(path, other)
    path.write_text("my notes")
    with pytest.raises(InputError, match="not a scope file"):
        write_scope(path, SCOPE)
    assert path.read_text() == "my notes"
    write_scope(tmp_path / "again.json", SCOPE)
    assert (tmp_path / "again.json").read_bytes() == before


def test_a_scope_is_for_one_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    write_scope(path, SCOPE)
    assert scope_for(path, MODEL) == SCOPE
    for other in (
        replace(MODEL, model_sha256="cd" * 32),
        replace(MODEL, record_sha256="cd" * 32),
    ):
        with pytest.raises(InputError, match="for another model"):
            scope_for(path, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"red_cell_px": 0},
        {"width": "640"},
        {"camera": 1},
        {"shown": asdict(SCOPE.shown) | {"accepted_right": 37}},
        {"shown": asdict(SCOPE.shown) | {"least": 0}},
        {"shown": asdict(SCOPE.shown) | {"cells": 30}},
    ],
)
def test_a_changed_scope_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(asdict(SCOPE) | changes))
    with pytest.raises(InputError, match="not a scope file, or is damaged"):
        read_scope(path)


def test_a_missing_scope_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_scope(tmp_path / "mine.json")
