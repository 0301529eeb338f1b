import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecell.data.dataset import CellFile
from edgecell.data.frame_pack import (
    SIDE,
    middle_cell,
    pack_frames,
    packed_frame,
    read_packed_frames,
    write_frames,
)
from edgecell.data.frames import LabelBox, LabelledFrame
from edgecell.errors import InputError
from edgecell.image.preprocess import Rgb

BOXES = np.array([[0, 100, 50, 300, 250], [1, 0, 0, 40, 60]], np.float32)


def noise(seed: int, height: int = 480, width: int = 640) -> np.ndarray:
    """A picture like no other: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (24, 32, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def labelled(name: str, image: np.ndarray) -> LabelledFrame:
    return LabelledFrame(name, image, (LabelBox(0, 100, 50, 300, 250),))


def cell(image: np.ndarray, code: str) -> CellFile:
    data = cv2.imencode(".png", image)[1].tobytes()
    return CellFile("a.png", code, "here", hashlib.sha256(data).hexdigest(), data)


def disc(shift: int = 0, size: int = 80) -> np.ndarray:
    """A stained cell on glass, uint8 BGR (224, 224, 3)."""
    image = np.full((224, 224, 3), 235, np.uint8)
    cv2.circle(image, (112 + shift, 112), size // 2, (150, 50, 90), -1)
    return image


def test_images_and_boxes_are_made_small_together() -> None:
    frame = packed_frame(Rgb(noise(1)), BOXES, True, "train", "here")
    assert frame.decoded().shape == (288, SIDE, 3)
    assert frame.boxes[0].tolist() == pytest.approx([0, 60, 30, 180, 150])
    assert BOXES[0, 1] == 100


def test_what_is_written_is_read(tmp_path: Path) -> None:
    frames = [
        packed_frame(Rgb(noise(i)), BOXES[:i], i > 0, "train", f"s{i}")
        for i in range(3)
    ]
    (path,), size = write_frames(frames, tmp_path / "f.npz")
    assert size == path.stat().st_size
    for one, other in zip(frames, read_packed_frames([path, path]), strict=True):
        assert one.boxes.tolist() == other.boxes.tolist()
        assert (one.data, one.whole, one.split, one.source, one.sha256) == (
            other.data,
            other.whole,
            other.split,
            other.source,
            other.sha256,
        )


def test_many_frames_become_several_files(tmp_path: Path) -> None:
    frames = [packed_frame(Rgb(noise(i)), BOXES, True, "val", "s") for i in range(6)]
    paths, _ = write_frames(frames, tmp_path / "f.npz", 3 * len(frames[0].data))
    assert [p.name for p in paths] == ["f-1.npz", "f-2.npz", "f-3.npz"]
    found = read_packed_frames(paths)
    assert {f.sha256 for f in found} == {f.sha256 for f in frames}


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    with pytest.raises(InputError, match="cannot be read"):
        read_packed_frames([path])
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a file of 'edgecell data pack --frames'"):
        read_packed_frames([path])


def test_frames_for_reports_and_their_copies_are_left_out() -> None:
    sealed, own = noise(1), noise(2)
    frames = [
        labelled("images/val/a.jpg", sealed),
        labelled("images/train/b.jpg", own),
        labelled("images/train/c.jpg", sealed[:, ::-1]),  # mirrored
    ]
    (packed,) = pack_frames(frames, [])
    assert packed.whole
    assert np.abs(packed.decoded().astype(int) - cv2.resize(own, (384, 288))).mean() < 9


def test_cells_are_frames_of_which_the_middle_is_known() -> None:
    cells = [cell(disc(), "SNE"), cell(disc(size=30), "PLT"), cell(disc(70), "BA")]
    white, platelet = pack_frames([], cells)
    assert (white.whole, white.source, white.split) == (False, "here", "train")
    assert [int(f.boxes[0, 0]) for f in (white, platelet)] == [0, 2]
    assert white.boxes[0, 1:].tolist() == pytest.approx([72, 72, 153, 153], abs=8)


def test_no_cell_in_the_middle_is_told() -> None:
    glass = np.full((224, 224, 3), 235, np.uint8)
    assert middle_cell(Rgb(glass)) is None
    assert middle_cell(Rgb(disc(70)[..., ::-1].copy())) is None
