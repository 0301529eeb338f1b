"""The paper's comparison, from results whose figures are known by hand."""

import json
from pathlib import Path

import pytest

from edgecell.benchmarks.networks.paper import compare, draw
from edgecell.benchmarks.networks.paper_text import paper_text
from edgecell.errors import InputError

PEERS = """network,mparameters,gflops,paper_mparameters,paper_gflops
grsnet,4.81,1.80,4.82,1.8
resnet50,23.61,2.04,,2.08
"""
HISTORY = """epoch,loss,accuracy,val_loss,val_accuracy,val_macro_recall,seconds
1,1.5,0.5,1.1,0.6,0.55,10
2,1.0,0.7,0.8,0.75,0.7,10
"""
JOB_HISTORY = """step,images,loss,pbc accuracy,pbc grouped,pbc loss
1,256,1.5,0.6,0.7,1.1
2,512,1.2,0.7,0.8,0.9
"""
TRAINING = {
    "sources": {"pbc": 4000, "raabin": 2000},
    "views": 1103872,
    "seconds": 535.0,
    "device": "NVIDIA H200",
    "start": "random",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Ten images of two classes: BA 4 right of 5, EO 5 of 5."""
    figures = {
        "n": 10,
        "accuracy": 0.9,
        "accuracy_ci95": [0.7, 1.0],
        "macro_recall": 0.9,
        "macro_f1": 0.8989898989898989,
        "macro_auc": 0.96,
        "per_class": {
            "BA": {"n": 5, "precision": 1.0, "recall": 0.8, "f1": 0.889, "auc": 0.96},
            "EO": {"n": 5, "precision": 5 / 6, "recall": 1.0, "f1": 0.909, "auc": 0.96},
        },
        "confusion": [[4, 1], [0, 5]],
        "classes": ["BA", "EO"],
        "per_source": {"pbc": {"n": 10}},
    }
    (tmp_path / "peers.csv").write_text(PEERS)
    (tmp_path / "grsnet-float32-test.json").write_text(json.dumps(figures))
    (tmp_path / "grsnet-history.csv").write_text(HISTORY)
    return tmp_path


def test_a_trained_network_has_its_figures_and_an_untrained_one_says_so(
    results: Path,
) -> None:
    trained, untrained = compare(results)
    assert trained.macro_precision == pytest.approx((1 + 5 / 6) / 2)
    assert (trained.accuracy, trained.paper_accuracy) == (0.9, 0.895)
    assert (untrained.n, untrained.accuracy, untrained.paper_gflops) == (0, None, 2.08)
    text = paper_text([trained, untrained])
    by_name = {line.split()[0]: line for line in reversed(text.splitlines()) if line}
    assert "90.0 % (70.0-100.0)" in by_name["grsnet"]
    assert "89.5 %" in by_name["grsnet"]
    assert "not trained" in by_name["resnet50"]
    assert by_name["BA"].split() == ["BA", "5", *"100.0 % 80.0 % 88.9 % 0.96".split()]


def test_a_class_that_is_never_predicted_has_precision_zero(results: Path) -> None:
    path = results / "grsnet-float32-test.json"
    figures = json.loads(path.read_text())
    figures["per_class"]["BA"]["precision"] = None
    path.write_text(json.dumps(figures))
    assert compare(results)[0].macro_precision == pytest.approx(5 / 12)


def test_each_training_is_a_row_that_says_how_much_it_was(results: Path) -> None:
    path = results / "grsnet-float32-test.json"
    figures = json.loads(path.read_text())
    earlier = {**figures, "accuracy": 0.8, "training": {**TRAINING, "views": 900}}
    for kind in ("same", "earlier"):
        file = results / f"grsnet-{kind}-float32-test.json"
        file.write_text(json.dumps(earlier))
    path.write_text(json.dumps({**figures, "training": TRAINING}))
    rows = compare(results)
    labels = ["grsnet", "grsnet (same budget)", "grsnet (earlier)", "resnet50"]
    assert [row.label for row in rows] == labels
    lines = [line.split() for line in paper_text(rows).splitlines()]
    assert ["grsnet", "1,103,872", "90.0", "%"] in [line[:4] for line in lines]
    assert ["grsnet", "(earlier)", "900", "80.0"] in [line[:4] for line in lines]
    told = "grsnet 2 6,000 1,103,872 8 min 55 s NVIDIA H200 random".split()
    assert told in lines
    assert ["grsnet", "(earlier)", "88.9", "90.9"] in lines  # F1 by class
    assert sum(line[:2] == ["grsnet", "4.81"] for line in lines) == 1  # one cost


def test_a_result_that_does_not_say_how_it_was_trained_shows_it(results: Path) -> None:
    text = paper_text(compare(results))
    assert ["grsnet", *6 * "-"] in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("content", ["{", '{"training": {"views": 1}}'])
def test_a_damaged_result_is_named(content: str, results: Path) -> None:
    figures = json.loads((results / "grsnet-float32-test.json").read_text())
    if content != "{":
        content = json.dumps({**figures, **json.loads(content)})
    (results / "grsnet-float32-test.json").write_text(content)
    with pytest.raises(InputError, match=r"grsnet-float32-test\.json"):
        compare(results)


@pytest.mark.parametrize("history", [HISTORY, JOB_HISTORY])
def test_pictures_are_drawn_of_what_was_trained(
    history: str, results: Path, tmp_path: Path
) -> None:
    path = results / "grsnet-history.csv"
    path.write_text(history)
    draw(compare(results), tmp_path / "plots", results)
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == [
        "grsnet-confusion.png",
        "grsnet-curves.png",
    ]
    path.write_text("".join(history.splitlines(keepends=True)[:2]))
    draw(compare(results), tmp_path / "one", results)
    assert not (tmp_path / "one" / "grsnet-curves.png").exists()


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no peers\.csv"):
        compare(tmp_path)


def test_the_results_that_are_kept_are_complete() -> None:
    rows = {row.network: row for row in compare()}
    assert rows["grsnet"].per_class
    assert rows["grsnet"].n == rows["efficientnet-lite0"].n > 3000
    assert all(row.training for row in rows.values() if row.n)
    assert rows["efficientnet-v2m"].n == 0
