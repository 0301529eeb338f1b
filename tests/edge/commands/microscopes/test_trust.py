import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.classes import NOT_A_CELL
from edgecell.cli import cli
from edgecell.edge.commands.microscopes.trust import advice
from edgecell.edge.count.microscopes import NOT_SHOWN
from edgecell.edge.count.scope import Scope, Shown, read_scope, write_scope
from edgecell.edge.count.tracking import Told, TrackedFrame
from edgecell.edge.record.pictures import hashes
from edgecell.edge.record.sessions import open_session
from edgecell.edge.record.store import Session, Store
from edgecell.edge.record.trail import open_trail
from edgecell.image.preprocess import Bgr
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import Microscope, Verdict, in_words
from edgecell.model.modelfile import bundled_model
from tests.factories import MODEL, SAMPLES, SQUARE, tracked

LAB = Microscope(
    "lab", 25, "AAA=", "AAA=", (1.0, 1.0), (0.0,), (1.0,), (1.0,) * 10, calibrated=True
)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["trust", *map(str, arguments)])


def record(
    folder: Path,
    cells: int = 60,
    doubtful: int = 0,
    platelets: int = 0,
    kind: Any = "calibrated",
    learned: tuple[str, ...] = (),
    size: tuple[int, int] = (160, 120),
    version: str = "1",
    first: int = 0,
) -> Path:
    """A session of cells called SNE; the last ones are doubtful, or platelets."""
    model = replace(
        MODEL,
        microscopes=(LAB,),
        training={"adapted": {"cells_sha256": list(learned)}},
        record_sha256=version,
    )
    with Store(folder, Session(f"{folder.name}.avi", model, {})) as store:
        for n in range(cells):
            frame = tracked(first + n, reasons=(NOT_SHOWN,))
            frame = _with_pixels(frame, first + n)
            (decision,) = frame.changed
            if n >= cells - platelets:
                decision = replace(decision, code="PLT")
            elif n >= cells - platelets - doubtful:
                decision = replace(decision, reasons=("low confidence", NOT_SHOWN))
            told = (Told(*size, Verdict(kind, "lab", 10)),) if n == 9 else ()
            store.write([replace(frame, changed=(decision,), told=told)])
        store.end("end of source")
    return folder


def _with_pixels(frame: TrackedFrame, number: int) -> TrackedFrame:
    (cell,) = frame.result.cells
    cell = replace(cell, inner=Bgr(np.roll(SQUARE, divmod(number, 60), (0, 1))))
    return replace(frame, result=replace(frame.result, cells=(cell,)))


def name_sample(
    folder: Path, count: int, wrong: Mapping[int, str] | None = None, named: int = -1
) -> list[int]:
    """Draws a sample, and names it: rightly but for some places of it."""
    with open_trail(folder) as trail:
        sample = trail.draw(count, seed=1)
        labels = {c: (wrong or {}).get(i, "NEU") for i, c in enumerate(sample)}
        for cell in sample[: named if named >= 0 else count]:
            trail.name("Anna", [cell], labels[cell])
    return sample


def figures(*arguments: object, tmp_path: Path) -> dict[str, Any]:
    out = tmp_path / "figures.json"
    result = invoke(*arguments, "--json", out)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_36_of_36_are_enough(tmp_path: Path) -> None:
    session, scope = record(tmp_path / "s"), tmp_path / "mine.scope.json"
    name_sample(session, 36)
    found = figures(session, "--scope", scope, tmp_path=tmp_path)
    assert (found["cells"], found["right"], found["accepted"]) == (36, 36, 36)
    assert found["accepted_right_interval"][0] == pytest.approx(0.025 ** (1 / 36))
    assert (found["holds"], found["more"], found["scope"]) == (True, 0, str(scope))
    written = read_scope(scope)
    assert (written.width, written.height, written.red_cell_px) == (160, 120, 20.0)
    assert written.shown.holds
    assert written.microscope == "lab"


def test_35_are_not_enough_and_it_says_how_many_more(tmp_path: Path) -> None:
    session, scope = record(tmp_path / "s"), tmp_path / "mine.scope.json"
    name_sample(session, 35)
    result = invoke(session, "--scope", scope)
    assert result.exit_code == 0, result.output
    assert "\n1 more reviewed cell of a random sample is needed" in result.output
    assert not read_scope(scope).shown.holds


def test_a_model_that_is_mostly_wrong_is_not_to_be_trusted(tmp_path: Path) -> None:
    session = record(tmp_path / "s")
    name_sample(session, 10, wrong=dict.fromkeys(range(5), "LY"))
    output = invoke(session).output
    # Clopper and Pearson, 5 of 10: 18.7 to 81.3 %.
    assert "are right (upper bound 81.3%): adapt the model first." in output
    assert "more reviewed" not in output


def test_cells_needed_are_told_before_the_work_begins(tmp_path: Path) -> None:
    # Of 60 white cells the rule accepts 45: 36 accepted ones are in 48.
    session = record(tmp_path / "s", cells=80, doubtful=15, platelets=20)
    shown = CliRunner().invoke(cli, ["session", "show", str(session), "--review"])
    assert "48 more reviewed cells of a random sample" in shown.output
    name_sample(session, 12)
    found = figures(session, tmp_path=tmp_path)
    assert found["more"] == -(-(36 - found["accepted"]) * 60 // 45)


def test_wrong_names_and_what_is_no_cell_count_as_wrong(tmp_path: Path) -> None:
    session = record(tmp_path / "s", doubtful=20)
    name_sample(session, 60, {0: "EO", 1: NOT_A_CELL, 2: "other: LYA"})
    found = figures(session, tmp_path=tmp_path)
    assert (found["cells"], found["right"], found["accepted"]) == (60, 57, 40)
    assert found["accepted_right"] >= 37


def test_platelets_are_not_drawn(tmp_path: Path) -> None:
    session = record(tmp_path / "s", cells=30, platelets=20)
    assert len(name_sample(session, 30)) == 10
    assert figures(session, tmp_path=tmp_path)["drawn"] == 10


def test_leaving_out_cells_of_the_sample_shows_nothing(tmp_path: Path) -> None:
    session, scope = record(tmp_path / "s"), tmp_path / "mine.scope.json"
    name_sample(session, 50, named=40)
    result = invoke(session, "--scope", scope)
    assert result.exit_code == 1
    assert "name the other 10 cells of the sample first" in result.output
    assert "10 more reviewed cells" in result.output
    assert not scope.exists()


def test_cells_that_adapt_has_learned_are_left_out(tmp_path: Path) -> None:
    first = record(tmp_path / "first")
    with open_session(first) as opened:
        seen = [hashes(opened.sightings(cell)) for cell in range(1, 61)]
    exported = tmp_path / "cells"
    with open_trail(first) as trail:
        trail.name("Anna", range(1, 11), "NEU")
    export = ["session", "export", str(first), "--cells", str(exported)]
    assert CliRunner().invoke(cli, export).exit_code == 0
    for learned in (
        tuple(h for each in seen[:10] for h in each),
        tuple(_sha256(path) for path in exported.glob("*/*.png")),
    ):
        session = record(tmp_path / f"s{len(learned)}", learned=learned)
        name_sample(session, 60)
        found = figures(session, tmp_path=tmp_path)
        assert (found["cells"], found["learned"]) == (50, 10)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_proves_nothing_is_told_in_one_line(tmp_path: Path) -> None:
    scope = tmp_path / "mine.scope.json"

    def refused(message: str, *sessions: Path) -> None:
        result = invoke(*sessions, "--scope", scope)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not scope.exists()

    session = record(tmp_path / "s")
    refused("no cells were drawn at random", session)
    name_sample(session, 10, named=0)
    refused("nobody has named a cell of the random sample of 10", session)
    name_sample(session, 10)
    other = record(tmp_path / "other", version="2")
    refused("different models", session, other)
    camera = record(tmp_path / "camera", size=(640, 480))
    refused("more than one camera", session, camera)
    known = record(tmp_path / "known", kind="known")
    refused("more than one camera or microscope", session, known)
    name_sample(known, 36)
    refused("the model knows this microscope", known)
    refused("has no session.sqlite", tmp_path / "nothing")
    with open_session(session) as opened:
        seen = [h for c in range(1, 61) for h in hashes(opened.sightings(c))]
    all_learned = record(tmp_path / "learned", learned=tuple(seen))
    name_sample(all_learned, 20)
    refused("has learned from all 20 named cells of the sample; draw more", all_learned)
    name_sample(all_learned, 60)
    refused("all 60 named cells of the sample; and no white cell is left", all_learned)


def test_sessions_of_one_camera_count_together(tmp_path: Path) -> None:
    one, two = record(tmp_path / "one"), record(tmp_path / "two", 40, first=60)
    name_sample(one, 20)
    name_sample(two, 16)
    found = figures(one, two, tmp_path=tmp_path)
    assert (found["cells"], found["holds"]) == (36, True)


def test_a_session_given_twice_is_refused(tmp_path: Path) -> None:
    session = record(tmp_path / "s")
    name_sample(session, 20)
    copy = shutil.copytree(session, tmp_path / "copy")
    for other in (session, copy):
        result = invoke(session, other)
        assert result.exit_code == 1
        assert f"{session} and {other} are the same session" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_cells_of_two_runs_over_the_same_frames_count_once(tmp_path: Path) -> None:
    one, two = record(tmp_path / "one", 20), record(tmp_path / "two", 20)
    name_sample(one, 20)
    assert figures(one, two, tmp_path=tmp_path)["cells"] == 20
    name_sample(two, 20, {0: "EO"}, named=15)
    for sessions in ((one, two), (two, one)):
        found = figures(*sessions, tmp_path=tmp_path)
        assert (found["drawn"], found["cells"], found["unnamed"]) == (20, 20, 0)
        assert (found["accepted"], found["accepted_right"]) == (20, 19)


def test_a_run_with_the_scope_of_another_model_writes_nothing(tmp_path: Path) -> None:
    session, scope = record(tmp_path / "s"), tmp_path / "mine.scope.json"
    name_sample(session, 36)
    assert invoke(session, "--scope", scope).exit_code == 0
    frame, out = SAMPLES / "frames" / "pbc_1.jpg", tmp_path / "out"
    arguments = ["run", frame, "--scope", scope, "--out", out]
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 1
    assert "was written for another model" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_a_run_says_how_many_cells_its_scope_lacks(tmp_path: Path) -> None:
    session, scope = record(tmp_path / "s"), tmp_path / "mine.scope.json"
    name_sample(session, 30)
    assert invoke(session, "--scope", scope).exit_code == 0
    assert read_scope(scope).more == 6
    verdict = in_words({(160, 120): Verdict("calibrated", "lab", 10)})
    assert "name 6 more random cells, and see" in advice(verdict, 6)
    assert "name 36 random cells or more, and see" in advice(verdict)


def test_a_run_says_that_a_scope_is_of_another_camera(tmp_path: Path) -> None:
    parent = Classifier(bundled_model()).record
    scope = Scope(
        width=160,
        height=120,
        red_cell_px=20.0,
        microscope="lab",
        model_sha256=parent.model_sha256,
        record_sha256=parent.record_sha256,
        shown=Shown(36, 36, 36, 36),
        sessions=("0123abcd",),
        made="2026-11-26T17:00:00.000+00:00",
    )
    write_scope(tmp_path / "mine.scope.json", scope)
    frame, out = SAMPLES / "frames" / "bccd_1.jpg", tmp_path / "out"
    report = tmp_path / "run.json"
    arguments = ["run", frame, "--scope", tmp_path / "mine.scope.json", "--out", out]
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert "is for another camera or microscope: 160x120" in result.output
    found = json.loads(report.read_text())
    assert found["scope"]["accepted_right"] == 36
    shown = CliRunner().invoke(cli, ["session", "show", str(out)])
    assert "Shown on this microscope: 36 of 36 accepted cells right" in shown.output
