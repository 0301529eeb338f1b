"""Jobs' figures, from results of a few cells whose answers are written by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.benchmarks.networks.job import command, read_job
from edgecell.benchmarks.networks.paper import compare
from edgecell.benchmarks.networks.trained import Trained
from edgecell.classes import CODES
from edgecell.errors import InputError

CELLS = [  # source, classes that it may be, what the network and its teacher say
    ("pbc", "BA", "BA", "BA"),
    ("pbc", "BA", "EO", "BA"),
    ("pbc", "BNE", "SNE", "LY"),
    ("munich", "MYE", "MYE", "BA"),
    ("raabin", "BNE|SNE", "SNE", "SNE"),
    ("raabin", "BNE|SNE", "BNE", "LY"),
    ("raabin", "LY", "EO", "LY"),
]
HISTORY = "step,images,loss\n7,1792,0.5\n"


def made(
    folder: Path,
    *,
    model: str = "grsnet-lite",
    exclude: tuple[str, ...] = (),
    teacher: str = "",
    fold: str | None = None,
    cells: list[tuple[str, str, str, str]] = CELLS,
    **damaged: Any,
) -> Path:
    """Writes the folder of a finished job."""
    folder.mkdir()
    index = CODES.index
    sets = np.zeros((len(cells), len(CODES)), bool)
    for row, (_, codes, _, _) in zip(sets, cells, strict=True):
        row[[index(code) for code in codes.split("|")]] = True
    # The called class has exp(3) times the weight of each other one.
    one_hot = np.eye(len(CODES), dtype=np.float32)
    says = [3 * one_hot[[index(c[k]) for c in cells]] for k in (2, 3)]
    arrays = {
        "test_sets": sets,
        "test_sources": np.array([c[0] for c in cells], str),
        "test_logits": says[0],
        **({"test_teacher_logits": says[1]} if teacher else {}),
    } | damaged
    np.savez(folder / "result.npz", **arrays)
    summary = {
        "config": {
            "model": model,
            "teacher": teacher,
            "exclude": list(exclude),
            "fold": fold,
        },
        "cells": 1792,
        "seconds": 227.1,
        "device": "a GPU",
        "trained_on": {"munich": 30, "pbc": 40},
    }
    (folder / "result.json").write_text(json.dumps(summary))
    (folder / "history.csv").write_text(HISTORY)
    return folder


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_a_jobs_figures_are_those_of_its_known_microscopes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = asked(
        made(tmp_path / "many", teacher="resnet50"),
        *("--out-dir", out, "--start", "many=random", "--start", "resnet50=ImageNet"),
    )
    assert done.exit_code == 0, done.output
    own = json.loads((out / "grsnet-lite-float32-test.json").read_text())
    # BA, BA, BNE, MYE are called BA, EO, SNE, MYE; BNE and SNE are one group.
    assert (own["n"], own["accuracy"], own["grouped_accuracy"]) == (4, 0.5, 0.75)
    assert own["macro_recall"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert own["per_source"]["munich"]["accuracy"] == 1
    sure = np.exp(3) / (np.exp(3) + 11)
    assert own["ece"] == pytest.approx(sure - 0.5)
    assert own["training"] == {
        "sources": {"munich": 30, "pbc": 40},
        "views": 1792,
        "seconds": 227.1,
        "device": "a GPU",
        "start": "random",
    }
    taught = json.loads((out / "resnet50-float32-test.json").read_text())
    assert taught["accuracy"] == 0.5
    assert taught["confusion"][CODES.index("MYE")][CODES.index("BA")] == 1
    assert taught["training"]["start"] == "ImageNet"
    assert (out / "grsnet-lite-history.csv").read_text() == HISTORY
    assert not (out / "resnet50-history.csv").exists()
    assert not (out / "left-out.csv").exists()
    assert "1,792 views of munich, pbc in 3 min 47 s on a GPU" in done.output


def test_other_sources_can_be_asked_for(tmp_path: Path) -> None:
    run = made(tmp_path / "many")
    asked(run, "--out-dir", tmp_path, "--source", "raabin")
    figures = json.loads((tmp_path / "grsnet-lite-float32-test.json").read_text())
    assert (figures["n"], figures["accuracy"]) == (3, pytest.approx(2 / 3))
    assert figures["training"]["start"] == "not recorded"
    done = asked(run, "--out-dir", tmp_path, "--source", "bccd")
    assert done.exit_code == 1
    assert "Error: no test cells are of bccd; there are those of munich," in done.output


def test_a_source_left_out_is_judged_beside_the_same_network_with_it(
    tmp_path: Path,
) -> None:
    runs = (
        made(tmp_path / "many"),
        made(tmp_path / "no-raabin", exclude=("raabin",)),
        made(tmp_path / "other", model="resnet50"),
    )
    done = asked(*runs, "--out-dir", tmp_path)
    assert done.exit_code == 0, done.output
    with (tmp_path / "left-out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["left_out"], r["source"], r["cells"]) for r in rows] == [
        ("none", "munich", "1"),
        ("none", "pbc", "3"),
        ("none", "raabin", "3"),
        ("raabin", "raabin", "3"),
    ]
    assert {r["network"] for r in rows} == {"grsnet-lite"}
    assert rows[-1]["accuracy"] == "0.6667"
    assert {(r["learned_cells"], r["learned_accuracy"]) for r in rows} == {("0", "")}


def test_classes_that_no_other_source_has_do_not_count_as_learned(
    tmp_path: Path,
) -> None:
    """Of these only LY has been learned elsewhere, and one of three is right."""
    elsewhere = [("pbc", "LY", "LY", "LY")] * 10 + [("pbc", "BNE", "SNE", "SNE")] * 9
    here = [
        ("raabin", "LY", "LY", "LY"),
        ("raabin", "LY", "MO", "LY"),
        ("raabin", "LY", "SNE", "LY"),
        ("raabin", "BNE|SNE", "SNE", "SNE"),
        ("raabin", "EO", "EO", "EO"),
    ]
    left_out = made(tmp_path / "a", exclude=("raabin",), cells=elsewhere + here)
    (found,) = read_job(left_out, {})
    learned = found.learned("raabin")
    assert learned is not None
    assert learned.n == 3
    assert learned.grouped_accuracy == pytest.approx(1 / 3)


def test_folds_are_judged_as_one(tmp_path: Path) -> None:
    pbc = ("pbc", "BA", "EO", "EO")
    first = [pbc, ("own", "MO", "MYE", "MO"), ("own", "BNE|SNE", "SNE", "LY")]
    second = [pbc, ("own", "MO", "MO", "MO")]
    runs = (
        made(tmp_path / "a", fold="own=2/2", cells=second),
        made(tmp_path / "b", fold="own=1/2", cells=first),
    )
    out = tmp_path / "out"
    done = asked(*runs, "--out-dir", out)
    assert done.exit_code == 0, done.output
    assert [path.name for path in out.iterdir()] == ["grsnet-lite-own-2-folds.json"]
    found = json.loads((out / "grsnet-lite-own-2-folds.json").read_text())
    assert (found["n"], found["accuracy"]) == (3, pytest.approx(2 / 3))
    assert found["confusion"][CODES.index("MO")][CODES.index("MYE")] == 1
    assert "grsnet-lite, all of own in 2 folds" in done.output
    assert found["training"]["views"] == 2 * 1792
    third = made(tmp_path / "c", fold="own=1/2", cells=first)
    refused = asked(*runs, third, "--out-dir", tmp_path / "no")
    assert refused.exit_code == 1
    assert "hold the parts 1, 1, 2 of 2 of own, not each once" in refused.output
    other = made(tmp_path / "d", model="grsnet", fold="own=1/2", exclude=("bccd",))
    mixed = made(tmp_path / "e", model="grsnet", fold="own=2/2", cells=second)
    refused = asked(other, mixed, "--out-dir", tmp_path / "no")
    assert "the folds of own were trained in different ways" in refused.output
    usual = made(tmp_path / "many", model="grsnet")
    assert asked(runs[0], usual, "--out-dir", tmp_path / "no").exit_code == 1
    assert not list((tmp_path / "no").glob("*"))


def test_the_comparison_reads_what_a_job_reached(tmp_path: Path) -> None:
    (tmp_path / "peers.csv").write_text(
        "network,mparameters,gflops\ngrsnet-lite,1.94,0.42\n"
    )
    asked(made(tmp_path / "many"), "--out-dir", tmp_path)
    (row,) = compare(tmp_path)
    assert (row.n, row.accuracy) == (4, 0.5)
    assert row.training is not None
    assert row.training.views == 1792


def test_two_runs_of_a_network_do_not_overwrite_each_other(tmp_path: Path) -> None:
    runs = made(tmp_path / "one"), made(tmp_path / "two")
    done = asked(*runs, "--out-dir", tmp_path / "out")
    assert done.exit_code == 1
    assert "two of the runs trained grsnet-lite" in done.output
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cells": []}, "has no test cells"),
        ({"test_logits": np.zeros((7, 11), np.float32)}, "is damaged"),
        ({"test_sources": np.array(["pbc"])}, "is damaged"),
    ],
)
def test_a_result_that_cannot_be_judged_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        read_job(made(tmp_path / "run", **changes), {})


@pytest.mark.parametrize("name", ["result.npz", "result.json", "history.csv"])
def test_an_unfinished_job_is_one_line(name: str, tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (run / name).unlink()
    done = asked(run, "--out-dir", tmp_path / "out")
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {run} h")
    assert done.output.count("\n") == 1


def test_first_weights_of_no_run_are_refused(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    done = asked(run, "--out-dir", tmp_path / "out", "--start", "rum=random")
    assert done.exit_code == 1
    assert "--start names rum, which is neither a run nor a teacher" in done.output
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("text", ["many", "=random", "many="])
def test_first_weights_need_a_name_and_words(text: str, tmp_path: Path) -> None:
    done = asked(made(tmp_path / "run"), "--out-dir", tmp_path, "--start", text)
    assert done.exit_code == 2
    assert f"'{text}' is not NAME=TEXT" in done.output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(48.04, "48 s"), (59.6, "1 min 0 s"), (535, "8 min 55 s"), (8301, "2 h 18 min")],
)
def test_times_are_told_in_words(seconds: float, words: str) -> None:
    assert Trained({}, 0, seconds, "", "").time == words
