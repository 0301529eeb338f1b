import csv
import io

from edgecell.classes import NOT_A_CELL
from edgecell.edge.count.readings import NAMES, Readings, readings
from edgecell.model.decision import Decision


def decision(cell: int, code: str | None, *reasons: str) -> Decision:
    return Decision(cell, code, 0.9 if code else None, reasons, 1, None)


CELLS = [
    decision(1, "SNE"),
    decision(2, "SNE"),
    decision(3, "LY"),
    decision(4, "BNE", "low confidence"),
    decision(5, "EO", "low confidence"),
    decision(6, None, "out of focus"),
    decision(7, "MO", "low confidence"),
]
NAMED = {1: "BNE", 4: "SNE", 5: NOT_A_CELL, 6: "LY"}


def test_the_three_readings_are_counted_apart() -> None:
    got = readings(CELLS, NAMED)
    assert got.accepted.counted == {"SNE": 2, "LY": 1}
    assert (got.accepted.to_review, got.accepted.white_cells) == (4, 3)
    assert got.all.counted == {"SNE": 2, "LY": 1, "BNE": 1, "EO": 1, "MO": 1}
    assert (got.all.to_review, got.all.white_cells) == (1, 6)
    # 1 was renamed, 5 taken out, 4 and 6 named; 7 still waits.
    assert got.reviewed.counted == {"BNE": 1, "SNE": 2, "LY": 2}
    assert (got.reviewed.flagged, got.reviewed.unclassified) == ({"MO": 1}, 0)
    assert (got.named, got.not_cells) == (4, 1)


def test_without_names_the_reviewed_reading_is_what_the_machine_accepts() -> None:
    got = readings(CELLS, {})
    assert got.reviewed == got.accepted


def test_table_json_and_csv_keep_them_apart() -> None:
    got = readings(CELLS, NAMED)
    table = list(csv.DictReader(io.StringIO(got.to_csv())))
    assert {row["reading"] for row in table} == set(NAMES)
    data = got.to_dict()
    for key in NAMES:
        in_csv = [row for row in table if row["reading"] == key]
        assert [row["count"] for row in in_csv] == [
            str(row["count"]) for row in data[key]["classes"]
        ]
    lines = got.lines()
    assert max(map(len, lines)) <= 78
    (line,) = (line for line in lines if line.startswith("LY "))
    # 1 of 3 and 4 wait, 1 of 6 and 1 waits, 2 of 5 and 1 waits: Wilson's bounds of
    # 1/7 and 5/7, 1/7 and 2/7, 2/6 and 3/6.
    assert line.split()[2:5] == ["1", "33.3", "3-92"]
    assert line.split()[5:8] == ["1", "16.7", "3-64"]
    assert line.split()[8:] == ["2", "40.0", "10-81"]


def test_an_empty_session_reads_as_nothing() -> None:
    got = readings([], {})
    assert isinstance(got, Readings)
    assert all(d.white_cells == 0 for d in got.each().values())
    assert "-" in got.lines()[-2]
