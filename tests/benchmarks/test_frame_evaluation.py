import json
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecell.benchmarks.frame_evaluation import evaluate_frames, match
from edgecell.data.frames import (
    LabelBox,
    label_path,
    parse_labels,
    read_frames,
)
from edgecell.edge.find.localise import Localiser, Seen
from edgecell.edge.find.tiles import Detection
from edgecell.errors import InputError
from edgecell.image.records import Box


def detection(x: int, y: int, score: float, kind: str = "white") -> Detection:
    """A detection with its centre at (x, y)."""
    return Detection(Box(x - 5, y - 5, x + 5, y + 5), kind, False, score)


def test_best_score_claims_the_box_and_the_second_goes_empty() -> None:
    box = LabelBox(0, 0, 0, 100, 100)
    low, high = detection(50, 50, 0.6), detection(20, 20, 0.9)
    assert match([low, high], [box]) == [(high, box)]


def test_of_two_boxes_the_nearer_centre_is_claimed() -> None:
    left, right = LabelBox(0, 0, 0, 100, 100), LabelBox(0, 40, 0, 140, 100)
    first, second = detection(80, 50, 0.9), detection(60, 50, 0.8)
    # 80 is 30 from the left centre and 10 from the right one
    assert match([first, second], [left, right]) == [(first, right), (second, left)]


def test_boxes_are_half_open() -> None:
    box = LabelBox(0, 10, 10, 20, 20)
    assert match([detection(10, 10, 0.5)], [box])
    assert match([detection(20, 15, 0.5)], [box]) == []


def test_labels_are_shares_of_the_frame() -> None:
    (box,) = parse_labels(b"2 0.5 0.25 0.1 0.2\n\n", 200, 100, "a.txt")
    assert box.label == 2
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((90, 15, 110, 35))
    assert box.size == pytest.approx(20)


@pytest.mark.parametrize(
    "text",
    [b"0 0.5 0.5 0.1", b"3 0.5 0.5 0.1 0.1", b"white 0 0 0 0", b"0.5 0 0 0 0", b"\xff"],
)
def test_wrong_labels_are_an_input_error(text: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.txt is not a YOLO label file"):
        parse_labels(text, 100, 100, "a.txt")


@pytest.mark.parametrize(
    "line",
    [b"0 nan 0 0 0", b"0 0 0 1e999 1", b"0 0 0 -0.1 1", b"0 0 0 1 -1", b"-1 0 0 0 0"],
)
def test_wrong_labels_are_told_by_line(line: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.txt is not .* \(line 3\)"):
        parse_labels(b"0 0.5 0.5 0.1 0.1\n\n" + line, 100, 100, "a.txt")


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("x/images/val/a.b.png", "x/labels/val/a.b.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
    ],
)
def test_label_path(image: str, labels: str) -> None:
    assert label_path(PurePosixPath(image)) == PurePosixPath(labels)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two blank frames of 100x80 (val) and one of 60x60 (train), labelled."""
    for part, name, size, text in [
        ("val", "a", (80, 100), "0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.1 0.1\n"),
        ("val", "b", (80, 100), "2 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.5 0.5\n"),
        ("train", "c", (60, 60), ""),
    ]:
        images, labels = tmp_path / "images" / part, tmp_path / "labels" / part
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(images / f"{name}.png"), np.full((*size, 3), 230, np.uint8))
        (labels / f"{name}.txt").write_text(text)
    return tmp_path


def test_figures_by_hand(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # every frame "shows" a white cell, a second one and a platelet at its middle
    def fixed(_: Localiser, image: NDArray[np.uint8], *__: object) -> Seen:
        height, width = image.shape[:2]
        detections = [
            detection(width // 2, height // 2, 0.9),
            detection(width // 2 + 2, height // 2, 0.8),
            detection(width // 2, height // 2, 0.7, "platelet"),
        ]
        return Seen(detections, 50.0)

    monkeypatch.setattr(Localiser, "look", fixed)
    report = evaluate_frames(frames)
    assert report.n_frames == 3
    assert report.white_recall == pytest.approx(1 / 2)
    assert report.white_precision == pytest.approx(1 / 6)
    assert report.platelet_recall == pytest.approx(1)
    assert report.platelet_precision == pytest.approx(1 / 3)
    assert report.white_centre_error == pytest.approx(0)
    # the one red cell is 50x40, so its size is sqrt(2000) = 44.72; 50 / 44.72 - 1
    assert report.red_cell_error == pytest.approx(0.118, abs=1e-3)
    assert report.red_cell_within_15 == 1.0
    assert report.ms_per_frame >= 0
    small = report.per_frame_size["60x60"]
    assert (small.n_frames, small.white_recall, small.white_precision) == (1, None, 0)
    assert report.per_frame_size["100x80"].white_precision == pytest.approx(1 / 4)


def test_blank_frames_find_nothing_and_the_report_is_json(frames: Path) -> None:
    report = json.loads(json.dumps(evaluate_frames(frames).to_dict(), allow_nan=False))
    assert report["white_recall"] == 0
    assert report["white_precision"] is None
    assert report["red_cell_within_15"] == 0
    assert set(report["per_frame_size"]) == {"100x80", "60x60"}


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        (b"\xef\xbb\xbf0 0.5 0.5 0.1 0.1\r\n", 0),
        (b"0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n", 0),
        (b"0 0.5 0.5 0.1 0.1\n0 1.5 0.5 0.1 0.1\n0 0.5 0.5 0 0.1\n", 2),
    ],
)
def test_stray_lines_are_left_out_and_told(
    text: bytes, left_out: int, caplog: pytest.LogCaptureFixture
) -> None:
    (box,) = parse_labels(text, 100, 100, "a.txt")
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((45, 45, 55, 55))
    told = f"a.txt: left out {left_out} boxes" if left_out else ""
    assert told in caplog.text
    assert bool(caplog.records) == bool(left_out)


def test_a_frame_without_labels_is_one_without_cells(
    frames: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (frames / "labels" / "val" / "b.txt").unlink()
    boxes = {frame.name: len(frame.boxes) for frame in read_frames(frames)}
    assert boxes["images/val/b.png"] == 0
    assert boxes["images/val/a.png"] == 2
    assert "frames without a label file: 1 of 3" in caplog.text


def test_a_part_can_be_chosen(frames: Path) -> None:
    assert [frame.name for frame in read_frames(frames, "val")] == [
        "images/val/a.png",
        "images/val/b.png",
    ]


def test_zip_file_is_read_as_a_folder_is(frames: Path, tmp_path: Path) -> None:
    path = tmp_path / "frames.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(frames.rglob("*.*")):
            if file != path:
                archive.write(file, file.relative_to(frames).as_posix())
    zipped, plain = list(read_frames(path)), list(read_frames(frames))
    assert [frame.name for frame in zipped] == [frame.name for frame in plain]
    assert [frame.boxes for frame in zipped] == [frame.boxes for frame in plain]


def test_threads_are_given_back(frames: Path) -> None:
    before = cv2.getNumThreads()
    evaluate_frames(frames)
    assert cv2.getNumThreads() == before


def test_empty_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no frames"):
        evaluate_frames(tmp_path)


def test_unknown_part_is_an_input_error(frames: Path) -> None:
    with pytest.raises(InputError, match="in a folder called test"):
        evaluate_frames(frames, "test")


def test_missing_data_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        evaluate_frames(tmp_path / "nothing")


def test_missing_labels_are_an_input_error(frames: Path) -> None:
    (frames / "labels").rename(frames / "annotations")
    with pytest.raises(InputError, match="has frames and no labels"):
        evaluate_frames(frames)


def test_damaged_image_is_an_input_error(frames: Path) -> None:
    (frames / "images" / "val" / "a.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match="is not an image"):
        evaluate_frames(frames)
