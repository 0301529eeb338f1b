"""Words for cells: recorded as logits, read where there is ground for them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.classes import CODES
from edgecell.cli import cli
from edgecell.edge.count.tracking import Told, TrackedFrame
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Review
from edgecell.edge.record.sessions import open_session
from edgecell.edge.record.store import Store
from edgecell.edge.report.content import content_of
from edgecell.model.microscopes.microscope import Verdict
from edgecell.model.modelfile import ReviewRule
from tests.factories import MODEL, SESSION, rows, tracked
from tests.morphology.heads import heads

SENTENCE = (
    "Segmented neutrophil, not band neutrophil: it has a nucleus with two lobes "
    "({p}%; of training cells SNE 60%, BNE 5%)."
)
KNOWN = Told(640, 480, Verdict("known", "pbc", 10))
LOGITS = np.zeros(12, np.float32)
LOGITS[[CODES.index("SNE"), CODES.index("BNE")]] = 5, 4


def frame(
    number: int,
    pooled: tuple[float, float] | None = (1.0, 1.0),
    told: tuple[Told, ...] = (KNOWN,),
    reasons: tuple[str, ...] = (),
) -> TrackedFrame:
    """A frame with one cell whose attributes are told by two features."""
    found = tracked(number)
    given = None if pooled is None else np.array(pooled, np.float32)
    cell = replace(found.result.cells[0], pooled=given, logits=LOGITS)
    decision = replace(found.changed[0], logits=LOGITS, reasons=reasons)
    result = replace(found.result, cells=(cell,))
    return replace(found, result=result, changed=(decision,), told=told)


def record(folder: Path, *frames: TrackedFrame) -> Path:
    with Store(
        folder, replace(SESSION, model=replace(MODEL, attributes=heads()))
    ) as store:
        store.write(frames)
        store.end("stopped")
    return folder


def sentences(folder: Path) -> dict[int, str]:
    with open_session(folder) as session:
        said = session.words(session.decisions())
    return {cell: words.sentence for cell, words in said.items()}


def test_words_of_a_cell_are_those_of_its_mean_logits(tmp_path: Path) -> None:
    # Nucleus: 2 x (1, -1) + 2 x (-.5, .5) + (.25, -.25): 1.25 and -1.25, or 92 %.
    two = replace(
        frame(1, (3.0, 3.0)),
        cells=(1,),
        changed=(replace(frame(0).changed[0], votes=2),),
    )
    folder = record(tmp_path / "s", frame(0), two)
    with open_session(folder) as session:
        mean = session.attribute_logits()[1]
    expected = heads().logits(np.array([2.0, 2.0]))
    assert mean.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert sentences(folder) == {1: SENTENCE.format(p=92)}


def test_a_cell_that_turned_out_to_be_another_adds_its_logits(tmp_path: Path) -> None:
    gone = replace(frame(0).changed[0], cell=2, same_as=1)
    folder = record(
        tmp_path / "s",
        frame(0),
        frame(1, (3.0, 3.0)),
        replace(tracked(2), cells=(None,), votes=(False,), changed=(gone,)),
    )
    assert sentences(folder) == {1: SENTENCE.format(p=92)}


@pytest.mark.parametrize(
    "told",
    [
        (),
        (Told(640, 480, Verdict("unknown", "pbc", 10)),),
        (Told(640, 480, Verdict("calibrated", "pbc", 10)),),
        (Told(640, 480, Verdict("known", "munich", 10)),),
        (KNOWN, Told(320, 240, Verdict("unknown", None, 3))),
    ],
)
def test_silent_about_other_microscopes(tmp_path: Path, told: tuple[Told, ...]) -> None:
    assert sentences(record(tmp_path / "s", frame(0, told=told))) == {}


def test_silent_without_features_or_heads(tmp_path: Path) -> None:
    assert sentences(record(tmp_path / "s", frame(0, None))) == {}
    with Store(tmp_path / "none", SESSION) as store:
        store.write([frame(0)])
    assert sentences(tmp_path / "none") == {}
    assert rows(tmp_path / "none", "SELECT count(*) FROM morphology") == [(0,)]


def test_a_cell_unlike_the_training_data_gets_no_words(tmp_path: Path) -> None:
    rule = ReviewRule(0.1, (0.5,) * 12, least_energy=9.0)
    model = replace(MODEL, attributes=heads(), review=rule)
    with Store(tmp_path / "s", replace(SESSION, model=model)) as store:
        store.write([frame(0)])
    assert sentences(tmp_path / "s") == {}


def test_they_are_shown_traced_and_listed(tmp_path: Path) -> None:
    folder = record(
        tmp_path / "s", frame(0, reasons=("low confidence",)), frame(1, None)
    )

    def session(*arguments: object) -> str:
        done = CliRunner().invoke(cli, ["session", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.output

    sentence = SENTENCE.format(p=82)
    listing = tmp_path / "cells.csv"
    assert sentence in session("show", folder, "--cells", listing)
    one, other = csv.DictReader(listing.read_text().splitlines())
    assert (one["sentence"], other["sentence"]) == (sentence, "")
    assert one["attributes"] == "nucleus with two lobes 82%, coarse granules 63%"
    first, second = json.loads(session("show", folder, "--json", "-"))["cells"]
    assert first["attributes"]["sentence"] == sentence
    nucleus = first["attributes"]["attributes"]["nucleus_shape"]
    assert nucleus == {"value": "segmented-bilobed", "probability": 0.8176}
    assert second["attributes"] is None
    assert sentence in session("trace", folder, 1)
    traced = json.loads(session("trace", folder, 2, "--json", "-"))
    assert traced["attributes"] is None


def test_the_report_says_how_nuclei_look_and_older_reports_keep_their_hash(
    tmp_path: Path,
) -> None:
    folder = record(tmp_path / "s", frame(0), frame(1, (-0.5, -0.5)), frame(2, None))
    with open_database(folder, "ro") as database:
        content = content_of(Review(folder, database), "", "")
    assert content.morphology == (
        "machine's view of neutrophils (2): segmented-bilobed 50%, not clear 50%"
    )
    assert "morphology" in content.to_dict()
    assert "morphology" not in replace(content, morphology="").to_dict()
