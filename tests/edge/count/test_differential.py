import csv
import io
import json

import pytest
from statsmodels.stats.proportion import proportion_confint

from edgecell.classes import CODES
from edgecell.edge.count.differential import (
    CellCount,
    Differential,
    Row,
    interval_with_waiting,
    wilson,
)
from edgecell.model.decision import Decision


def decision(
    cell: int, code: str | None, *reasons: str, same_as: int | None = None
) -> Decision:
    return Decision(cell, code, 0.9 if code else None, reasons, 1, None, same_as)


def row(differential: Differential, code: str) -> Row:
    return next(r for r in differential.rows() if r.code == code)


@pytest.mark.parametrize("total", [1, 2, 7, 100, 200, 5000])
def test_intervals_agree_with_statsmodels(total: int) -> None:
    for count in {0, 1, total // 3, total // 2, total - 1, total}:
        theirs = proportion_confint(count, total, alpha=0.05, method="wilson")
        assert wilson(count, total) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 1998, 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals_as_published(
    count: int, total: int, low: float, high: float
) -> None:
    assert wilson(count, total) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(total - count, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_erythroblasts_and_platelets_are_outside_of_the_denominator() -> None:
    differential = Differential(
        {"SNE": 30, "BNE": 10, "LY": 10, "ERB": 5, "PLT": 99}, {}
    )
    assert differential.white_cells == 50
    assert differential.erythroblasts_per_100 == 10.0
    assert differential.platelets == 99
    assert row(differential, "LY").share == 0.2
    assert row(differential, "ERB").share is None
    assert row(differential, "PLT").count == 99
    shares = [r.share for r in differential.rows() if "+" not in r.code]
    assert sum(share or 0 for share in shares) == pytest.approx(1)


def test_bands_apart_and_merged() -> None:
    differential = Differential({"SNE": 30, "BNE": 10, "LY": 10}, {"BNE": 2, "SNE": 1})
    assert row(differential, "BNE").share == 0.2
    assert row(differential, "SNE").share == 0.6
    merged = row(differential, "BNE+SNE")
    assert (merged.count, merged.share, merged.flagged) == (40, 0.8, 3)
    assert merged.interval == (wilson(40, 53)[0], wilson(43, 53)[1])


def test_waiting_cells_widen_the_interval_to_both_extremes() -> None:
    # 9 of 27 neutrophils accepted, 18 wait: from 9 of 27 to 27 of 27.
    low, high = interval_with_waiting(9, 9, 18)
    assert (low, high) == (wilson(9, 27)[0], wilson(27, 27)[1])
    assert low < 9 / 27
    assert high == pytest.approx(1)
    assert interval_with_waiting(15, 148, 0) == wilson(15, 148)
    for turned_out in range(19):  # whatever they turn out to be, it was within
        inside = wilson(9 + turned_out, 27)
        assert low <= inside[0]
        assert inside[1] <= high


def test_a_newer_decision_replaces_the_older() -> None:
    count = CellCount()
    count.put([decision(1, "BNE"), decision(2, "LY"), decision(3, None, "dark")])
    count.put([decision(1, "SNE"), decision(3, "MO", "low confidence")])
    got = count.differential()
    assert (got.counted, got.flagged, got.unclassified) == (
        {"SNE": 1, "LY": 1},
        {"MO": 1},
        0,
    )
    count.put([decision(3, "MO")])
    count.put([decision(2, "LY", same_as=1)])
    assert count.differential().counted == {"SNE": 1, "MO": 1}


def test_flagged_and_unclassified_cells_are_in_no_count() -> None:
    count = CellCount()
    count.put([decision(1, "LY"), decision(2, "LY", "low confidence")])
    count.put([decision(3, None, "out of focus")])
    got = count.differential()
    assert got.white_cells == 1
    assert got.to_review == 2
    assert row(got, "LY").flagged == 1
    assert row(got, "LY").share == 1.0


@pytest.mark.parametrize(
    "differential",
    [Differential({}, {}), Differential({"SNE": 99, "LY": 1, "PLT": 7}, {"BA": 3}, 2)],
    ids=["empty", "full"],
)
def test_table_json_and_csv_tell_the_same(differential: Differential) -> None:
    data = json.loads(json.dumps(differential.to_dict()))
    assert [c["class"] for c in data["classes"]] == [*CODES, "BNE+SNE"]
    table = list(csv.DictReader(io.StringIO(differential.to_csv())))
    for in_json, in_csv, line in zip(
        data["classes"], table, differential.lines(200)[2:], strict=True
    ):
        assert in_csv == {k: "" if v is None else str(v) for k, v in in_json.items()}
        assert line.startswith(in_json["class"])
        assert f" {in_json['count']}" in line
        if in_json["percent"] is not None:
            assert f"{in_json['percent']:.1f}" in line
    lines = differential.lines(200)
    assert f"White cells: {differential.white_cells} of 200" in lines[0]
    assert max(map(len, lines)) <= 100
