from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import FrameResult
from edgecell.edge.count.microscopes import (
    NOT_SHOWN,
    NOT_TOLD,
    OTHER_CAMERA,
    UNKNOWN,
    MicroscopeGate,
)
from edgecell.edge.count.scope import Scope, Shown
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.sources.base import Frame
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.model.decision import Decision
from edgecell.model.microscopes.fit import fit_calibrated, fit_microscope
from edgecell.model.microscopes.microscope import Microscope, Verdict, in_words
from tests.factories import cell_result

WIDTH = 6


def features(n: int, place: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, WIDTH)) + place).astype(np.float32)


@pytest.fixture(scope="module")
def lab() -> Microscope:
    return fit_microscope("lab", features(300, 0, 1), ["EO"] * 300, features(90, 0, 2))


def frame(
    numbers: list[int],
    place: float,
    size: tuple[int, int] = (60, 80),
    kind: str = "white",
    reasons: tuple[str, ...] = (),
) -> TrackedFrame:
    """A frame in which new cells are seen and decided on."""
    seen = features(len(numbers), place, numbers[0])
    box = Box(0, 0, 20, 20)
    cells = tuple(replace(cell_result(box, kind=kind), pooled=x) for x in seen)
    image = Bgr(np.zeros((*size, 3), np.uint8))
    decisions = tuple(Decision(n, "EO", 0.99, reasons, 1, None) for n in numbers)
    result = FrameResult(Frame(numbers[0], None, image, "x"), cells)
    votes = (True,) * len(numbers)
    return TrackedFrame(result, tuple(numbers), votes, decisions)


def reasons(tracked: TrackedFrame) -> dict[int, tuple[str, ...]]:
    return {d.cell: d.reasons for d in tracked.changed}


def test_nothing_is_accepted_before_ten_cells_tell(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    first = gate.admit(frame([1, 2, 3, 4, 5, 6, 7, 8, 9], 0))
    assert set(reasons(first).values()) == {(NOT_TOLD,)}
    assert first.to_review == frozenset(range(9))
    assert first.told == ()
    second = gate.admit(frame([10], 0))
    # The tenth cell releases the nine that were held.
    assert reasons(second) == dict.fromkeys(range(1, 11), ())
    (told,) = second.told
    assert (told.width, told.height, str(told.verdict)) == (80, 60, "known (lab)")
    third = gate.admit(frame([11], 0))
    assert (reasons(third), third.told, third.to_review) == ({11: ()}, (), frozenset())


def test_on_an_unknown_microscope_every_cell_is_for_review(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    found = gate.admit(frame(list(range(1, 13)), 5, reasons=("low confidence",)))
    assert set(reasons(found).values()) == {("low confidence", UNKNOWN)}
    later = gate.admit(frame([20, 21], 5))
    assert reasons(later) == {20: (UNKNOWN,), 21: (UNKNOWN,)}
    assert later.to_review == {0, 1}
    assert gate.summary() == "unknown"


def test_no_cell_of_a_calibrated_microscope_is_accepted(lab: Microscope) -> None:
    gate = MicroscopeGate([replace(lab, calibrated=True)])
    found = gate.admit(frame(list(range(1, 11)), 0))
    assert set(reasons(found).values()) == {(NOT_SHOWN,)}
    assert gate.summary() == "calibrated (lab)"


def test_a_short_session_is_judged_by_the_cells_it_has(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    gate.admit(frame([1, 2, 3, 4, 5], 0))
    settled = gate.settle()
    assert {d.cell: d.reasons for d in settled.decisions} == dict.fromkeys(
        range(1, 6), ()
    )
    assert [t.verdict.cells for t in settled.told] == [5]
    assert gate.settle().decisions == ()


def test_fewer_than_five_cells_make_no_microscope_known(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    assert set(reasons(gate.admit(frame([1, 2, 3, 4], 0))).values()) == {(NOT_TOLD,)}
    assert (gate.settle().decisions, gate.settle().told) == ((), ())
    assert gate.summary() == "not identified yet"
    gate.admit(frame(list(range(11, 21)), 0, size=(40, 40)))
    assert gate.summary() == "known (lab), 80x60: not identified"


def test_few_cells_can_show_that_a_microscope_is_unknown(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    gate.admit(frame([1, 2], 5))
    assert {d.reasons for d in gate.settle().decisions} == {(UNKNOWN,)}


def test_platelets_tell_nothing(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    found = gate.admit(frame(list(range(1, 13)), 0, kind="platelet"))
    assert found.told == ()
    settled = gate.settle()
    assert (settled.told, settled.decisions) == ((), ())
    assert gate.summary() == "not identified yet"


def test_one_cell_seen_often_counts_once(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    for _ in range(20):
        assert gate.admit(frame([1], 0)).told == ()
    assert gate.settle().told == ()
    gate.admit(frame([2, 3, 4, 5], 0))
    assert [t.verdict.cells for t in gate.settle().told] == [5]


def test_frames_of_each_size_are_judged_by_themselves(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    here = gate.admit(frame(list(range(1, 11)), 0))
    there = gate.admit(frame(list(range(11, 21)), 5, size=(40, 40)))
    assert set(reasons(here).values()) == {()}
    assert set(reasons(there).values()) == {(UNKNOWN,)}
    assert gate.summary() == "40x40: unknown, 80x60: known (lab)"


def test_merged_and_unclassified_cells_pass(lab: Microscope) -> None:
    gate = MicroscopeGate([lab])
    merged = Decision(2, "EO", 0.9, (), 1, None, same_as=1)
    poor = Decision(3, None, None, ("out of focus",), 0, None)
    found = gate.admit(replace(frame([1], 0), changed=(merged, poor)))
    assert found.changed == (merged, poor)
    assert gate.settle().decisions == ()


def test_a_model_that_describes_no_microscope_holds_nothing() -> None:
    gate = MicroscopeGate([])
    tracked = frame([1], 0)
    assert gate.admit(tracked) is tracked
    assert "describes no microscopes" in gate.summary()


def test_a_summary_in_one_line() -> None:
    known, unknown = Verdict("known", "pbc", 10), Verdict("unknown", "pbc", 10)
    assert in_words({}) == "not identified yet"
    assert in_words({(1, 1): known, (2, 2): known}) == "known (pbc)"
    two = {(2, 1): unknown, (1, 1): known}
    assert in_words(two) == "1x1: known (pbc), 2x1: unknown"


def shown(lab: Microscope, right: int = 36, **changes: Any) -> Scope:
    values: dict[str, Any] = {
        "width": 80,
        "height": 60,
        "red_cell_px": 40.0,
        "microscope": lab.name,
        "model_sha256": "ab" * 32,
        "record_sha256": "cd" * 32,
        "shown": Shown(36, right, 36, right),
        "sessions": ("0123abcd",),
        "made": "2026-11-26T17:00:00.000+00:00",
    }
    return Scope(**values | changes)


def of_scale(tracked: TrackedFrame, red_cell_px: float | None) -> TrackedFrame:
    return replace(tracked, result=replace(tracked.result, red_cell_px=red_cell_px))


@pytest.mark.parametrize("red_cell_px", [None, 34.0, 40.0, 47.0])
def test_what_was_shown_to_be_right_is_accepted(
    lab: Microscope, red_cell_px: float | None
) -> None:
    gate = MicroscopeGate([replace(lab, calibrated=True)], shown(lab))
    found = gate.admit(of_scale(frame(list(range(1, 11)), 0), red_cell_px))
    assert set(reasons(found).values()) == {()}
    assert found.told[0].verdict.trusted
    assert gate.summary() == "calibrated (lab), shown to be right"


@pytest.mark.parametrize(
    ("changes", "red_cell_px", "reason"),
    [
        ({"right": 35}, 40.0, NOT_SHOWN),
        ({"width": 81}, 40.0, OTHER_CAMERA),
        ({}, 49.0, OTHER_CAMERA),
        ({}, 33.0, OTHER_CAMERA),
    ],
)
def test_a_scope_of_another_camera_shows_nothing(
    lab: Microscope, changes: dict[str, Any], red_cell_px: float, reason: str
) -> None:
    gate = MicroscopeGate([replace(lab, calibrated=True)], shown(lab, **changes))
    found = gate.admit(of_scale(frame(list(range(1, 11)), 0), red_cell_px))
    assert set(reasons(found).values()) == {(reason,)}
    assert gate.summary() == "calibrated (lab)"


def test_a_scope_tells_a_microscope_that_the_model_does_not_know(
    lab: Microscope,
) -> None:
    rng = np.random.default_rng(5)
    named = (rng.normal(size=(40, WIDTH)) + 5).astype(np.float32)
    described = fit_calibrated("mine", named, ["EO"] * 40, [lab])
    scope = shown(lab, described=described)
    gate = MicroscopeGate([lab], scope)
    assert set(reasons(gate.admit(frame(list(range(1, 11)), 5))).values()) == {()}
    assert gate.summary() == "calibrated (mine), shown to be right"
    elsewhere = MicroscopeGate([lab], scope)
    found = elsewhere.admit(frame(list(range(1, 11)), -5))
    assert set(reasons(found).values()) == {(UNKNOWN,)}
    known = MicroscopeGate([lab], scope)
    known.admit(frame(list(range(1, 11)), 0))
    assert known.summary() == "known (lab)"
